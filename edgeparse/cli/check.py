"""`edgeparse check`: reports on images."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from edgeparse.cli.console import (
    EXIT_INPUT,
    EXIT_INTERRUPTED,
    Interruptible,
    exit_on_error,
    is_interactive,
    notice,
    progress_console,
    track,
)
from edgeparse.cli.fingerprint import SUFFIXES as FINGERPRINT_SUFFIXES
from edgeparse.cli.fingerprint import write_fingerprint
from edgeparse.cli.inputs import (
    check_output_path,
    collect_inputs,
    gallery_to_read,
    open_parser,
    sources_of,
    write_file,
)
from edgeparse.cli.options import (
    backend_option,
    bundle_option,
    examples,
    gallery_option,
    pictures_argument,
    quiet_option,
    recursive_option,
    trust_option,
    windows_option,
)
from edgeparse.errors import BackendError, ImageError
from edgeparse.video.sniff import is_clip

if TYPE_CHECKING:
    from rich.console import Console

    from edgeparse.images import Source
    from edgeparse.parser import Inspection, Parser
    from edgeparse.render.html import HtmlReport
    from edgeparse.report import Report
    from edgeparse.video.report import VideoReport

    Watcher: TypeAlias = Callable[[Report, Inspection | None], None]
    Answer: TypeAlias = Report | VideoReport

# Known generators that `--explain` lists, and that a report lists otherwise.
EXPLAINED, LISTED = 8, 3
PAGE_SUFFIXES = (".html", ".htm")


@click.command()
@pictures_argument
@recursive_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list of reports.")
@click.option("--jsonl", "as_jsonl", is_flag=True, help="Print one JSON report per line, as each is done.")
@click.option(
    "--report",
    "report_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write an HTML page of the reports to this file.",
)
@click.option(
    "--fingerprint",
    "fingerprint_file",
    type=click.Path(path_type=Path),
    help="Write the fingerprint of a single image to this PNG or .npy file.",
)
@click.option("--show", "shown", is_flag=True, help="Show part of each fingerprint in the terminal.")
@click.option(
    "--explain",
    is_flag=True,
    help=f"Show architecture and losses, and the {EXPLAINED} nearest known generators with their thresholds.",
)
@click.option(
    "--frames",
    type=click.IntRange(1, 256),
    default=24,
    show_default=True,
    help="Maximum number of frames per clip.",
)
@click.option("--no-evidence", is_flag=True, help="Skip what files say about their origin.")
@trust_option
@quiet_option
@backend_option
@bundle_option
@windows_option
@gallery_option
@examples(
    "edgeparse check photo.jpg",
    "edgeparse check -r pictures --report pictures.html",
    "edgeparse check clip.mp4 --frames 48",
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
    frames: int,
    no_evidence: bool,
    trust: Path | None,
    quiet: bool,
    backend: str,
    bundle: Path | None,
    windows: int,
    gallery: Path | None,
) -> None:
    """Report on images and clips.

    PATH is a file, a pattern, a folder with -r, or - for standard input. A clip gets one report and
    needs PyAV (pip install av). Ctrl-C ends the run after the current image. Finished
    results are written even if the run is interrupted or the backend fails. Exit status: 0 all images were read, 1 some could
    not be read, 2 wrong usage or an unwritable output, 3 no usable bundle, backend or gallery, 130 interrupted.
    """
    if as_json and as_jsonl:
        raise click.UsageError("--json and --jsonl cannot be combined; use --jsonl for many images")
    if shown and (as_json or as_jsonl or not sys.stdout.isatty()):
        raise click.UsageError("--show needs a terminal; write the fingerprint to a file with --fingerprint")
    names = collect_inputs(paths, recursive, quiet, clips=True)
    _check_outputs(report_file, fingerprint_file, shown, names)
    run = Interruptible()
    with exit_on_error():
        enrolled = gallery_to_read(gallery)
        anchors = trust.read_text(encoding="utf-8") if trust else None
        parser = open_parser(backend, bundle, windows, enrolled, evidence=not no_evidence, trust=anchors)
        _mention_other_networks(parser, enrolled, quiet)
        console = None if as_json or as_jsonl else _new_console()
        page, watchers = _watchers(parser, len(names), report_file, fingerprint_file, console if shown else None)
        errors: list[BackendError] = []
        inspected = _inspect(parser, sources_of(names), EXPLAINED if explain else LISTED, watchers, page, frames)
        reports = _until_failure(inspected, errors)
        tally = _Tally()
        with ExitStack() as at_end, run.listening():
            if report_file is not None and page is not None:
                # Written however the run ends, even if the reader of standard output has closed the pipe.
                at_end.callback(_write_page, report_file, page, len(names), tally)
            in_terminal = as_jsonl and sys.stdout.isatty()
            bar = None if in_terminal else progress_console(quiet, console)
            counted = tally.count(run.until(track(reports, len(names), bar, "checking")))
            _print(counted, parser, console, as_jsonl, explain)
        if errors:
            raise errors[0]
    if run.interrupted and tally.done < len(names):
        click.echo(f"interrupted: {tally.done} of {len(names)} images done", err=True)
        sys.exit(EXIT_INTERRUPTED)
    if tally.failed:
        sys.exit(EXIT_INPUT)


def _check_outputs(report_file: Path | None, fingerprint_file: Path | None, shown: bool, names: list[str]) -> None:
    if (fingerprint_file is not None or shown) and any(name != "-" and is_clip(name) for name in names):
        raise click.UsageError("--fingerprint and --show need an image, got a clip; extract a frame")
    if fingerprint_file is not None and len(names) != 1:
        raise click.UsageError(f"--fingerprint needs exactly one image, got {len(names)}")
    if report_file is not None:
        from edgeparse.render.html import MAX_PICTURES

        if len(names) > MAX_PICTURES:
            raise click.UsageError(
                f"--report accepts at most {MAX_PICTURES} images, got {len(names)}; write several pages, or use --jsonl"
            )
    check_output_path(report_file, PAGE_SUFFIXES, names)
    check_output_path(fingerprint_file, FINGERPRINT_SUFFIXES, names)
    if report_file is not None and report_file == fingerprint_file:
        raise click.UsageError("--report and --fingerprint must name different files")


def _new_console() -> Console:
    from rich.console import Console

    return Console()


def _watchers(
    parser: Parser, pictures: int, report_file: Path | None, fingerprint_file: Path | None, shown_on: Console | None
) -> tuple[HtmlReport | None, list[Watcher]]:
    """Return the page, if one is written, and what else receives every report with its inspection."""
    page = None
    watchers: list[Watcher] = []
    if report_file is not None:
        from edgeparse.render.html import HtmlReport

        page = HtmlReport(parser.bundle, pictures)
        watchers.append(page.add)
    if fingerprint_file is not None:
        watchers.append(partial(_save_fingerprint, output=fingerprint_file))
    if shown_on is not None:
        from edgeparse.render.terminal import show_fingerprint

        watchers.append(partial(show_fingerprint, console=shown_on))
    return page, watchers


def _print(reports: Iterator[Answer], parser: Parser, console: Console | None, as_jsonl: bool, explain: bool) -> None:
    if console is not None:
        from edgeparse.render.terminal import print_reports

        print_reports(reports, parser, console, explain)
    elif as_jsonl:
        for report in reports:
            click.echo(json.dumps(report.to_json(), allow_nan=False))
    else:
        click.echo(json.dumps([report.to_json() for report in reports], indent=2, allow_nan=False))


class _Tally:
    """Counts reports, so that nobody has to keep them.

    Attributes:
        done: number of reports.
        failed: whether one was about an unreadable image.
    """

    def __init__(self) -> None:
        self.done = 0
        self.failed = False

    def count(self, reports: Iterable[Answer]) -> Iterator[Answer]:
        """Yield the reports and count them."""
        for report in reports:
            self.done += 1
            self.failed = self.failed or report.status == "error"
            yield report


def _inspect(
    parser: Parser,
    sources: Iterator[Source],
    candidates: int,
    watchers: list[Watcher],
    page: HtmlReport | None,
    frames: int,
) -> Iterator[Answer]:
    """Yield one report per image or clip; if there are watchers, they receive an image's inspection too."""
    for source in sources:
        if is_clip(source):
            yield _inspect_clip(parser, source, candidates, page, frames)
            continue
        inspection = None
        try:
            if watchers:
                inspection = parser.inspect(source, candidates)
                report = inspection.report
            else:
                report = parser.parse(source, candidates)
        except ImageError as error:
            report = parser.failure(source, error)
        for watch in watchers:
            watch(report, inspection)
        yield report


def _inspect_clip(parser: Parser, source: Any, candidates: int, page: HtmlReport | None, frames: int) -> VideoReport:
    from edgeparse.video.frames import VideoLimits

    limits = VideoLimits(frames=frames)
    try:
        if page is None:
            return parser.parse_video(source, limits, candidates)
        inspection = parser.inspect_video(source, limits, candidates)
    except ImageError as error:
        report = parser.video_failure(source, error)
        if page is not None:
            page.add_video(report, ())
        return report
    page.add_video(inspection.report, inspection.thumbnails)
    return inspection.report


def _until_failure(reports: Iterator[Answer], errors: list[BackendError]) -> Iterator[Answer]:
    """Yield reports until the backend fails; its error goes into `errors`, so that finished results are still written.

    Raises:
        BackendError: the backend failed before the first report.
    """
    yielded = False
    try:
        for report in reports:
            yielded = True
            yield report
    except BackendError as error:
        if not yielded:
            raise
        errors.append(error)


def _mention_other_networks(parser: Parser, gallery: Path, quiet: bool) -> None:
    # Reading the other files takes longer than analysing an image.
    if not is_interactive(quiet):
        return
    from edgeparse.gallery_store import GalleryStore

    for label, names in GalleryStore(gallery, parser.bundle).other_networks().items():
        notice(
            f"ignored: {', '.join(names)}, enrolled with the network of bundle {label}; enrol them again for {parser.bundle.label}",
            quiet,
        )


def _write_page(output: Path, page: HtmlReport, pictures: int, tally: _Tally) -> None:
    """Write the page, unless no image was done."""
    if tally.done:
        write_file(output, page.render(pictures).encode())


def _save_fingerprint(_report: Report, inspection: Inspection | None, output: Path) -> None:
    if inspection is not None:
        write_fingerprint(inspection.fingerprint, output)
