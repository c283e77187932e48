"""`edgeparse compare`: pairs, groups and the matrix."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from edgeparse.commands.common import (
    EXIT_INPUT,
    EXIT_INTERRUPTED,
    Interruptible,
    backend_option,
    bundle_option,
    errors_end_the_run,
    examples,
    expand,
    open_parser,
    pictures_argument,
    progress_console,
    quiet_option,
    recursive_option,
    sources_of,
    track,
    windows_option,
    writable,
    write,
)

# Half a million pairs, a few hundred megabytes; and cells that a browser still shows.
MOST, WIDEST = 1000, 200


@click.command()
@pictures_argument
@recursive_option
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON.")
@click.option(
    "--matrix", type=click.Path(dir_okay=False, path_type=Path), help="Draw the probabilities of all pairs to this SVG."
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
    """Say for every pair of pictures how probable it is that one generator made both, and which belong together.

    Camera photos are not comparable. Exit status: as of check.
    """
    names = expand(paths, recursive, quiet)
    if len(names) < 2:
        raise click.UsageError(f"{len(names)} picture was given; comparing takes two or more")
    if len(names) > MOST:
        raise click.UsageError(
            f"{len(names)} pictures were given, which make {len(names) * (len(names) - 1) // 2} pairs; at most {MOST} are compared"
        )
    if matrix is not None and len(names) > WIDEST:
        raise click.UsageError(f"--matrix draws at most {WIDEST} pictures, {len(names)} were given; take --json")
    writable(matrix, [".svg"], names)
    run = Interruptible()
    with errors_end_the_run():
        parser = open_parser(backend, bundle, windows)
        with run.listening():
            try:
                done = parser.compare(
                    run.until(track(sources_of(names), len(names), progress_console(quiet), "looking"))
                )
            except ValueError:
                if not run.interrupted:
                    raise
                # Before there were two.
                raise KeyboardInterrupt from None
        if matrix is not None:
            from edgeparse.page import matrix_svg

            write(matrix, matrix_svg(done).encode())
        if as_json:
            click.echo(json.dumps(done.to_json(), indent=2, allow_nan=False))
        else:
            from rich.console import Console

            from edgeparse.table import comparison

            Console().print(comparison(done, parser.bundle))
    if len(done.pictures) < len(names):
        click.echo(f"interrupted: {len(done.pictures)} of {len(names)} pictures done", err=True)
        sys.exit(EXIT_INTERRUPTED)
    if any(picture.error is not None for picture in done.pictures):
        sys.exit(EXIT_INPUT)
