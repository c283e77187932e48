"""The command line: arguments in, the parser's answers out, nothing decided here but how they look."""

from __future__ import annotations

import importlib
import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.exceptions import NoSuchCommand

from edgeparse import __version__
from edgeparse.commands.common import (
    EXIT_INPUT,
    EXIT_INTERRUPTED,
    EXIT_SETUP,
    PICTURE,
    Interruptible,
    backend_option,
    bundle_option,
    errors_end_the_run,
    examples,
    expand,
    gallery_option,
    gallery_to_read,
    is_read_by_a_person,
    notice,
    open_parser,
    pictures_argument,
    progress_console,
    quiet_option,
    recursive_option,
    refuse_address,
    sources_of,
    standard_input,
    track,
    windows_option,
    writable,
    write,
)
from edgeparse.errors import BackendError, ImageError
from edgeparse.text import printable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgeparse.images import Source
    from edgeparse.page import Page
    from edgeparse.parser import Look, Parser
    from edgeparse.report import Report

# How many known generators `--explain` measures the distance to.
EXPLAINED = 8
# What a fingerprint can be written as, and a page.
FINGERPRINTS = (".png", ".npy")
PAGES = (".html", ".htm")


class _Commands(click.Group):
    """A group whose larger commands are loaded when they are called."""

    LAZY = ("bench", "build", "compare", "completion", "gallery")

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *self.LAZY])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in self.LAZY:
            command: click.Command = getattr(importlib.import_module(f"edgeparse.commands.{cmd_name}"), cmd_name)
            return command
        return super().get_command(ctx, cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except NoSuchCommand as error:
            # click's own suggestion knows only what is loaded.
            raise NoSuchCommand(error.command_name, possibilities=self.list_commands(ctx), ctx=ctx) from None


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="edgeparse")
@examples(
    "edgeparse check photo.jpg",
    "edgeparse check -r pictures --jsonl > reports.jsonl",
    "edgeparse check photo.jpg --report photo.html",
    "edgeparse compare a.png b.png",
    "edgeparse gallery add 'my model' generated/*.png",
    "edgeparse build --backend tensorrt",
    "edgeparse bench",
)
def main() -> None:
    """Was a picture made by a camera or by a generative model, by which one, and what is that model like inside?"""
    # A name that the terminal's encoding lacks is no reason to lose an answer. What standard error lacks is escaped anyway.
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="replace")


@main.command()
@pictures_argument
@recursive_option
@click.option("--json", "as_json", is_flag=True, help="One JSON list of reports.")
@click.option("--jsonl", "as_jsonl", is_flag=True, help="One JSON report a line, each as it is done.")
@click.option(
    "--report",
    "report_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write a page to open in a browser.",
)
@click.option(
    "--fingerprint",
    "fingerprint_file",
    type=click.Path(path_type=Path),
    help="Write the fingerprint of one picture to this PNG, or .npy.",
)
@click.option("--show", "shown", is_flag=True, help="Show each fingerprint, small, in the terminal.")
@click.option(
    "--explain", is_flag=True, help=f"List the {EXPLAINED} nearest known generators, and what would be near enough."
)
@quiet_option
@backend_option
@bundle_option
@windows_option
@gallery_option
@examples(
    "edgeparse check photo.jpg",
    "edgeparse check -r pictures --report pictures.html",
    "edgeparse check 'scans/**/*.tif' --jsonl | jq 'select(.verdict == \"generated\") | .source'",
    "curl -s https://example.org/picture.jpg | edgeparse check -",
)
def check(
    paths: tuple[str, ...],
    recursive: bool,
    as_json: bool,
    as_jsonl: bool,
    report_file: Path | None,
    fingerprint_file: Path | None,
    shown: bool,
    explain: bool,
    quiet: bool,
    backend: str,
    bundle: Path | None,
    windows: int,
    gallery: Path | None,
) -> None:
    """Report on pictures: files, patterns, folders with -r, or - for standard input.

    Ctrl-C ends the run after the picture at hand, and what was done so far is still written, as it is where the backend fails. Exit
    status: 0 all were read, 1 some could not be read, 2 wrong usage, or an output that cannot be written, 3 no usable bundle, backend or
    gallery, 130 interrupted.
    """
    if as_json and as_jsonl:
        raise click.UsageError("--json and --jsonl exclude each other; take --jsonl for many pictures")
    if shown and (as_json or as_jsonl or not sys.stdout.isatty()):
        raise click.UsageError(
            "--show shows pictures in a terminal; write the fingerprint to a file with --fingerprint"
        )
    names = expand(paths, recursive, quiet)
    if fingerprint_file is not None and len(names) != 1:
        raise click.UsageError(f"--fingerprint takes one picture, {len(names)} were given")
    if report_file is not None:
        from edgeparse.page import MOST

        if len(names) > MOST:
            raise click.UsageError(
                f"--report holds at most {MOST} pictures on its page, {len(names)} were given; make a page for each part of them, or take "
                "--jsonl"
            )
    writable(report_file, PAGES, names)
    writable(fingerprint_file, FINGERPRINTS, names)
    if report_file is not None and report_file == fingerprint_file:
        raise click.UsageError("--report and --fingerprint name one file; take two")
    run = Interruptible()
    with errors_end_the_run():
        enrolled = gallery_to_read(gallery)
        parser = open_parser(backend, bundle, windows, enrolled)
        _tell_of_other_networks(parser, enrolled, quiet)
        watchers: list[Callable[[Report, Look | None], None]] = []
        if report_file is not None:
            from edgeparse.page import Page

            page = Page(parser.bundle, len(names))
            watchers.append(page.add)
        if fingerprint_file is not None:
            watchers.append(partial(_keep_fingerprint, output=fingerprint_file))
        if not (as_json or as_jsonl):
            from rich.console import Console

            console = Console()
        if shown:
            from edgeparse.terminal import show_fingerprint

            watchers.append(partial(show_fingerprint, console=console))
        failed: list[BackendError] = []
        looks = _until_failure(_look_at(parser, sources_of(names), EXPLAINED if explain else 3, watchers), failed)
        tally = _Tally()
        with ExitStack() as ends, run.listening():
            if report_file is not None:
                # Whatever ends the run: the one who read the reports may have seen enough.
                ends.callback(_write_page, report_file, page, len(names), tally)
            if as_json or as_jsonl:
                bar = None if as_jsonl and sys.stdout.isatty() else progress_console(quiet)
                reports = tally.of(run.until(track(looks, len(names), bar, "checking")))
                if as_jsonl:
                    for report in reports:
                        click.echo(json.dumps(report.to_json(), allow_nan=False))
                else:
                    done = [report.to_json() for report in reports]
                    click.echo(json.dumps(done, indent=2, allow_nan=False))
            else:
                from edgeparse.table import show

                bar = progress_console(quiet, console)
                show(tally.of(run.until(track(looks, len(names), bar, "checking"))), parser, console, explain)
        if failed:
            raise failed[0]
    if run.interrupted and tally.done < len(names):
        click.echo(f"interrupted: {tally.done} of {len(names)} pictures done", err=True)
        sys.exit(EXIT_INTERRUPTED)
    if tally.failed:
        sys.exit(EXIT_INPUT)


@main.command()
@click.argument("image", type=PICTURE)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    help="The file to write: a PNG to look at, or .npy, the numbers as float32[N, 3, S, S], S the bundle's window, 128 by default.",
)
@click.option(
    "--spectrum", is_flag=True, help="Write the windows' mean spectrum instead, where up-sampling leaves peaks."
)
@backend_option
@bundle_option
@windows_option
@examples(
    "edgeparse fingerprint photo.jpg -o fingerprint.png",
    "edgeparse fingerprint photo.jpg -o spectrum.png --spectrum",
    "edgeparse fingerprint photo.jpg -o fingerprint.npy",
)
def fingerprint(image: str, output: Path, spectrum: bool, backend: str, bundle: Path | None, windows: int) -> None:
    """Write the fingerprint of IMAGE: amplified, its windows side by side; or as numbers. Exit status: as of check."""
    refuse_address(image)
    if image != "-" and os.path.isdir(image):
        raise click.UsageError(printable(f"{image} is a folder; fingerprint takes one picture"))
    writable(output, FINGERPRINTS, [image])
    with errors_end_the_run():
        parser = open_parser(backend, bundle, windows)
        try:
            _write_fingerprint(parser.fingerprint(standard_input() if image == "-" else image), output, spectrum)
        except ImageError as error:
            click.echo(printable(f"error: {image}: {error.kind}: {error}"), err=True)
            sys.exit(EXIT_INPUT)


@main.command()
@bundle_option
@examples("edgeparse doctor", "edgeparse doctor --bundle my-bundle")
def doctor(bundle: Path | None) -> None:
    """Say what can run here, what `auto` takes and why, what stands in the way of an engine, and the bundle's hash."""
    from edgeparse.doctor import examine

    healthy = True
    with errors_end_the_run():
        for line in examine(bundle):
            mark = {True: "ok  ", False: "--  ", None: "    "}[line.good]
            click.echo(printable(f"{mark}{line.name}: {line.text}"))
            healthy = healthy and not (line.required and line.good is False)
    if not healthy:
        sys.exit(EXIT_SETUP)


class _Tally:
    """How many reports went by, and whether one of them was of a failure: nobody has to keep them."""

    def __init__(self) -> None:
        self.done = 0
        self.failed = False

    def of(self, reports: Iterable[Report]) -> Iterator[Report]:
        """The same reports, counted."""
        for report in reports:
            self.done += 1
            self.failed = self.failed or report.status == "error"
            yield report


def _look_at(
    parser: Parser, sources: Iterator[Source], candidates: int, watchers: list[Callable[[Report, Look | None], None]]
) -> Iterator[Report]:
    """A report a picture, as `Parser.parse_many`; each watcher sees it with what it was made from, where one wants to."""
    for source in sources:
        look = None
        try:
            if watchers:
                look = parser.look(source, candidates)
                report = look.report
            else:
                report = parser.parse(source, candidates)
        except ImageError as error:
            report = parser.failure(source, error)
        for watch in watchers:
            watch(report, look)
        yield report


def _until_failure(reports: Iterator[Report], failed: list[BackendError]) -> Iterator[Report]:
    """The reports until the inference library fails: what was done so far is still written, and `failed` gets the error.

    Raises:
        BackendError: it failed before there was a report; there is nothing to write.
    """
    begun = False
    try:
        for report in reports:
            begun = True
            yield report
    except BackendError as error:
        if not begun:
            raise
        failed.append(error)


def _tell_of_other_networks(parser: Parser, gallery: Path, quiet: bool) -> None:
    # To read others' files takes longer than a picture.
    if not is_read_by_a_person(quiet):
        return
    from edgeparse.enrolment import Store

    for label, names in Store(gallery, parser.bundle).others().items():
        notice(
            f"not looked for: {', '.join(names)}, enrolled with the network of bundle {label}; enrol them again for {parser.bundle.label}",
            quiet,
        )


def _write_page(output: Path, page: Page, pictures: int, tally: _Tally) -> None:
    """The page of what was done; none where that is nothing."""
    if tally.done:
        write(output, page.render(pictures).encode())


def _keep_fingerprint(_report: Report, look: Look | None, output: Path) -> None:
    if look is not None:
        _write_fingerprint(look.fingerprint, output)


def _write_fingerprint(windows: NDArray[np.float32], output: Path, spectrum: bool = False) -> None:
    """float32[N, 3, S, S] as a picture, or as numbers where the file's name says so."""
    import io

    import numpy as np

    from edgeparse import render

    if output.suffix.lower() == ".npy":
        buffer = io.BytesIO()
        np.save(buffer, render.spectrum(windows) if spectrum else windows)
        data = buffer.getvalue()
    elif spectrum:
        data = render.png(render.spectrum_picture(windows))
    else:
        data = render.png(np.concatenate([render.fingerprint_picture(w) for w in windows], axis=1))
    write(output, data)
