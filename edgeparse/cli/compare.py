"""`edgeparse compare`: pairs, groups and the matrix."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from edgeparse.cli.console import (
    EXIT_INPUT,
    EXIT_INTERRUPTED,
    Interruptible,
    exit_on_error,
    progress_console,
    track,
)
from edgeparse.cli.inputs import check_output_path, collect_inputs, open_parser, sources_of, write_file
from edgeparse.cli.options import (
    backend_option,
    bundle_option,
    examples,
    pictures_argument,
    quiet_option,
    recursive_option,
    windows_option,
)

# 1,000 images are half a million pairs and a few hundred megabytes; a browser shows a matrix of 200.
MAX_PICTURES, MAX_MATRIX = 1000, 200


@click.command()
@pictures_argument
@recursive_option
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON.")
@click.option(
    "--matrix",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Draw the probabilities of all pairs to this SVG file.",
)
@quiet_option
@backend_option
@bundle_option
@windows_option
@examples(
    "edgeparse compare a.png b.png",
    "edgeparse compare -r pictures --matrix matrix.svg",
    "edgeparse compare *.png --json | jq '.groups'",
)
def compare(
    paths: tuple[str, ...],
    recursive: bool,
    as_json: bool,
    matrix: Path | None,
    quiet: bool,
    backend: str,
    bundle: Path | None,
    windows: int,
) -> None:
    """Find images made by the same generator.

    Estimates for every pair the probability that one generator made both, and groups the images. Camera photos are not
    comparable. Exit status: as for check.
    """
    names = collect_inputs(paths, recursive, quiet)
    if len(names) < 2:
        raise click.UsageError(f"compare needs at least two images, got {len(names)}")
    if len(names) > MAX_PICTURES:
        raise click.UsageError(
            f"compare accepts at most {MAX_PICTURES} images, got {len(names)} ({len(names) * (len(names) - 1) // 2} pairs)"
        )
    if matrix is not None and len(names) > MAX_MATRIX:
        raise click.UsageError(f"--matrix accepts at most {MAX_MATRIX} images, got {len(names)}; use --json")
    check_output_path(matrix, [".svg"], names)
    run = Interruptible()
    with exit_on_error():
        parser = open_parser(backend, bundle, windows)
        with run.listening():
            try:
                result = parser.compare(
                    run.until(track(sources_of(names), len(names), progress_console(quiet), "analysing"))
                )
            except ValueError:
                if not run.interrupted:
                    raise
                # Interrupted before the second image.
                raise KeyboardInterrupt from None
        if matrix is not None:
            from edgeparse.render.html import matrix_svg

            write_file(matrix, matrix_svg(result).encode())
        if as_json:
            click.echo(json.dumps(result.to_json(), indent=2, allow_nan=False))
        else:
            from rich.console import Console

            from edgeparse.render.terminal import comparison_view

            Console().print(comparison_view(result, parser.bundle))
    if len(result.pictures) < len(names):
        click.echo(f"interrupted: {len(result.pictures)} of {len(names)} images done", err=True)
        sys.exit(EXIT_INTERRUPTED)
    if any(picture.error is not None for picture in result.pictures):
        sys.exit(EXIT_INPUT)
