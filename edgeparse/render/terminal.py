"""Reports in the terminal: one panel per image, coloured; plain in a pipe or with NO_COLOR."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from edgeparse.compare import Comparison, Pair
from edgeparse.errors import EdgeparseError
from edgeparse.render.phrases import VERDICTS, clock, count, evidence_summary, model_parsing_hint, printable
from edgeparse.report import GeneratorAnswer, Interval, Report
from edgeparse.video.report import VideoReport

if TYPE_CHECKING:
    from edgeparse.bundle import Bundle
    from edgeparse.parser import Inspection, Parser

# Larger matrices do not fit into a terminal.
MAX_MATRIX = 16
# Columns of a panel that its title cannot use: corners, lines and spaces.
TITLE_MARGIN = 6
# Part of the first window that is shown. A terminal without graphics shows two pixels per character, and shrinking would turn a
# fingerprint grey.
WIDTH, HEIGHT = 64, 32

_COLOURS = {"camera": "green", "generated": "red", "inconclusive": "yellow"}
# One mark per frame of a clip, readable without colours.
_MARKS = {"camera": "c", "generated": "G", "inconclusive": "-"}
_MARKS_KEY = "G looks generated, c like a camera, - inconclusive"


def print_reports(
    reports: Iterable[Report | VideoReport], parser: Parser, console: Console | None = None, explain: bool = False
) -> None:
    """Print reports as they arrive.

    Args:
        reports: what to print.
        parser: the parser that made them.
        console: where to print; by default standard output.
        explain: add the distances to known generators.
    """
    console = console or Console()
    for report in reports:
        if isinstance(report, VideoReport):
            console.print(clip_panel(report, parser, explain, console.width))
        else:
            console.print(report_panel(report, parser, explain, console.width))


def _text(text: str, style: str = "") -> Text:
    """Return text from files and bundles without markup and control characters."""
    return Text(printable(text), style=style)


def report_panel(report: Report, parser: Parser, explain: bool = False, width: int = 80) -> Panel:
    """Return a report as a panel of `width` columns.

    If the source is too long for the title, the title shows its end and the panel shows all of it.
    """
    if report.error is not None or report.image is None:
        return _failed(report, width)
    image, timing = report.image, report.timing_ms
    foot = f"{image.width}x{image.height} {image.format or 'array'}, {report.windows} windows, {report.backend}, {report.bundle}"
    foot += f", {timing.total:.0f} ms" if timing else ""
    parts: list[RenderableType] = [*map(_text, evidence_summary(report)), *_details(report, parser, explain)]
    return _panel(report, [*parts, *_foot(foot, parser.bundle)], width)


def clip_panel(report: VideoReport, parser: Parser, explain: bool = False, width: int = 80) -> Panel:
    """Return a clip's report as a panel of `width` columns."""
    clip, timing = report.video, report.timing_ms
    if report.error is not None or clip is None:
        return _failed(report, width)
    parts: list[RenderableType] = [_text(report.reason)] if report.reason else []
    if stretch := report.longest_generated:
        parts.append(
            Text(
                f"longest stretch that looks generated: {clock(stretch.start)} to {clock(stretch.end)}, "
                f"{stretch.frames} frames"
            )
        )
    parts += map(_text, evidence_summary(report))
    strip = Text("frames  ")
    for frame in report.frames:
        strip.append(_MARKS[frame.verdict or "inconclusive"], _COLOURS[frame.verdict or "inconclusive"])
    parts += [strip, Text(_MARKS_KEY, style="dim"), *_details(report, parser, explain)]
    length = "" if clip.duration is None else f" {clock(clip.duration)}"
    foot = (
        f"{clip.width}x{clip.height} {clip.format} {clip.codec}{length}, {len(report.frames)} frames, "
        f"{clip.bits_per_pixel:.2f} bits per pixel, {report.backend}, {report.bundle}"
    )
    foot += "" if clip.complete else ", part of the clip was not analysed"
    foot += f", {timing.total / 1000:.1f} s" if timing else ""
    return _panel(report, [*parts, *_foot(foot, parser.bundle)], width)


def _foot(facts: str, bundle: Bundle) -> list[RenderableType]:
    """Return dim lines with facts of the analysis, and with the thresholds of the verdict."""
    lines: list[RenderableType] = [_text(facts, style="dim")]
    if (calibration := bundle.calibration) is not None:
        limits = f"camera below {calibration.camera:.2f}, generated from {calibration.generated:.2f}"
        lines.append(Text(limits, style="dim"))
    return lines


def _failed(report: Report | VideoReport, width: int) -> Panel:
    """Return the panel of a file that could not be read."""
    title, above = _title(report, width)
    failure = report.error
    text = _text(f"{failure.kind}: {failure.message}" if failure else "no answer", style="red")
    parts = [text, *map(_text, evidence_summary(report))]
    return Panel(Group(*above, *parts), title=title, title_align="left", border_style="red")


def _panel(report: Report | VideoReport, parts: list[RenderableType], width: int) -> Panel:
    """Return a panel with the source, the verdict and further parts."""
    title, above = _title(report, width)
    colour = _COLOURS[report.verdict] if report.verdict else "default"
    verdict = VERDICTS[report.verdict] if report.verdict else "this bundle does not separate camera from generated"
    head = Text.assemble((verdict, f"bold {colour}"))
    if report.probability_generated is not None:
        head.append(f"   probability generated {report.probability_generated:.3f}")
    return Panel(Group(*above, head, *parts), title=title, title_align="left", border_style=colour)


def _title(report: Report | VideoReport, width: int) -> tuple[Text, list[RenderableType]]:
    """Return the source as a title, and again as a first line if the title is too short for it."""
    source = _text(report.source or "(no name)")
    if source.cell_len > (room := width - TITLE_MARGIN):
        return _end(source, room), [source]
    return source, []


def _details(report: Report | VideoReport, parser: Parser, explain: bool) -> list[RenderableType]:
    """Return what follows the verdict: one or two lines about the generator, or all answers with `explain`."""
    if isinstance(report, Report) and report.reason is not None:
        return [_text(report.reason)]
    if not explain:
        return [_text(line) for line in _brief(report)]
    parts: list[RenderableType] = []
    if report.verdict in ("inconclusive", None):
        parts.append(Text("If a generator made it:", style="dim"))
    if report.verdict != "camera":
        parts.append(_answers(report, parser.bundle))
    if (report.family or report.architecture or report.losses) and (hint := model_parsing_hint(parser.bundle)):
        parts.append(_text(hint, style="dim"))
    parts.append(_distances(report.generator, parser) if report.generator else Text(_no_distances(report), style="dim"))
    return parts


def _brief(report: Report | VideoReport) -> Iterator[str]:
    """Yield the nearest known generator and, for generated images, the family."""
    if report.generator is not None:
        best = report.generator.candidates[0]
        name = report.generator.name or "unknown"
        yield f"generator: {name}, nearest known {best.name} ({best.score:.2f}, named from {best.threshold:.2f})"
    if report.verdict == "generated" and report.family is not None:
        probability = report.family.probabilities[report.family.name]
        yield f"family: {report.family.name} ({probability:.2f}); --explain shows architecture and losses"


def _end(text: Text, room: int) -> Text:
    """Return the end of a text in at most `room` columns; of a path, that is the file name."""
    end = text.plain
    while end and cell_len(end) > room - 1:
        end = end[1:]
    return Text(f"…{end}")


def _answers(report: Report | VideoReport, bundle: Bundle) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column()
    if report.generator is not None:
        nearest = ", ".join(f"{candidate.name} {candidate.score:.2f}" for candidate in report.generator.candidates[:3])
        name = report.generator.name or "unknown"
        table.add_row("generator", _text(f"{name}  (nearest known: {nearest})"))
    if report.family is not None:
        ranked = sorted(report.family.probabilities.items(), key=lambda item: -item[1])[:3]
        table.add_row("family", _text(", ".join(f"{name} {probability:.2f}" for name, probability in ranked)))
    for name, answer in (report.architecture or {}).items():
        if isinstance(answer, Interval):
            text = f"{count(answer.value)}  ({count(answer.low)} to {count(answer.high)})"
        else:
            text = f"{answer.value}  {answer.probability:.2f}"
        table.add_row(_text(name.replace("_", " ")), _text(text))
    if report.losses:
        ranked = sorted(report.losses.items(), key=lambda item: -item[1])
        threshold = {loss.name: loss.threshold for loss in bundle.losses}
        likely = ", ".join(
            f"{name} {probability:.2f}" for name, probability in ranked if probability >= threshold[name]
        )
        table.add_row("losses", _text(likely or "none likely"))
    return table


def _no_distances(report: Report | VideoReport) -> str:
    """Explain why there are no distances to known generators."""
    if report.verdict == "camera":
        return "no distances to known generators: the image looks like a camera photo"
    return "no distances to known generators: this bundle has no gallery or no embedding"


def _distances(generator: GeneratorAnswer, parser: Parser) -> Table:
    """List the nearest known generators with their similarities and thresholds."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("nearest known")
    table.add_column("similarity", justify="right")
    table.add_column("threshold", justify="right")
    table.add_column("missing", justify="right")
    table.add_column("known from")
    for candidate in generator.candidates:
        missing = candidate.threshold - candidate.score
        table.add_row(
            _text(candidate.name),
            f"{candidate.score:.3f}",
            f"{candidate.threshold:.3f}",
            f"{missing:.3f}" if missing > 0 else "reached",
            "your gallery" if candidate.name in parser.enrolled else "the bundle",
        )
    return table


def comparison_view(result: Comparison, bundle: Bundle) -> Group:
    """Return a comparison as text: one sentence for two images, else groups and the matrix."""
    names = [printable(picture.source or "(no name)") for picture in result.pictures]
    parts: list[RenderableType] = []
    for number, picture in enumerate(result.pictures, 1):
        state = printable(picture.error.message) if picture.error else VERDICTS[picture.verdict or "inconclusive"]
        parts.append(Text(f"{number}  {names[number - 1]}  {state}"))
    parts.append(Text())
    if len(names) == 2:
        parts.append(_sentence(result.pairs[0], result.threshold))
    else:
        if result.groups is None:
            parts.append(Text('groups need scipy: pip install "scipy>=1.11"', style="yellow"))
        for number, members in enumerate(result.groups or (), 1):
            what = "perhaps one generator" if len(members) > 1 else "alone"
            parts.append(Text(f"group {number} ({what}): {' '.join(str(i + 1) for i in members)}", style="bold"))
        if all(picture.error for picture in result.pictures):
            parts.append(Text("nothing to compare: no image could be read"))
        elif len(names) <= MAX_MATRIX:
            parts.append(_matrix(result))
        else:
            parts.append(
                Text(f"{len(result.pairs)} pairs: --json lists them, --matrix FILE.svg draws them", style="dim")
            )
    parts.append(Text(_calibration_note(bundle), style="dim"))
    return Group(*parts)


def _sentence(pair: Pair, threshold: float) -> Text:
    if pair.probability_same is None:
        return Text(f"not comparable: {printable(pair.reason or '')}", style="bold yellow")
    if pair.same:
        verdict, colour = "perhaps one generator", "green"
    elif pair.probability_same < 1 - threshold:
        verdict, colour = "probably two generators", "red"
    else:
        verdict, colour = "undecided", "yellow"
    return Text.assemble(
        (verdict, f"bold {colour}"),
        f"   probability of one generator {pair.probability_same:.3f} (threshold {threshold:.2f}), similarity {pair.similarity:.3f}",
    )


def _matrix(result: Comparison) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim")
    table.add_column("")
    for number in range(1, len(result.pictures) + 1):
        table.add_column(str(number), justify="right")
    values = result.matrix()
    for i, row in enumerate(values):
        cells = [Text("-" if i == j else "  . ", style="dim") for j in range(len(row))]
        for j, value in enumerate(row):
            if value == value:  # not NaN
                cells[j] = Text(f"{value:.2f}", style="bold green" if value >= result.threshold else "")
        table.add_row(Text(str(i + 1), style="dim"), *cells)
    return table


def _calibration_note(bundle: Bundle) -> str:
    """Explain what the probability means, and how well it is calibrated on zoo and public validation generators."""
    meaning = (
        "The probability assumes that generators made both images, and equal prior odds for one and two generators."
    )
    figures = bundle.metrics.get("validation_same_generator", {})
    zoo, public = figures.get("zoo"), figures.get("public")
    if not zoo:
        return meaning
    fitted = (
        f"Calibrated on {zoo['pairs']} pairs of {zoo['generators']} zoo generators for validation, with a mean error of "
        f"{zoo['calibration_error']:.3f}"
    )
    if not public:
        return f"{meaning} {fitted}."
    wrong = public.get("different_called_same")
    mistaken = "" if wrong is None else f", and {wrong:.0%} of pairs from two generators count as one"
    return (
        f"{meaning} {fitted}. On {public['generators']} public generators the mean error is {public['calibration_error']:.3f}"
        f"{mistaken}: treat it as a hint. Errors on test generators are larger (MODEL_CARD.md)."
    )


def show_fingerprint(_report: Report, inspection: Inspection | None, console: Console) -> None:
    """Show the centre of a fingerprint, amplified: in pixels if the terminal supports it, else in coloured half blocks.

    Raises:
        EdgeparseError: the library is not installed, or the terminal does not report its size.
    """
    if inspection is None:
        return
    if 0 in os.get_terminal_size(sys.stdout.fileno()):
        raise EdgeparseError(
            "this terminal does not report its size; write the fingerprint to a file with --fingerprint"
        )
    # If a terminal does not answer its query, the library logs a long message and uses a default.
    logging.getLogger("textual_image").setLevel(logging.CRITICAL)
    try:
        from textual_image.renderable import Image
    except ImportError as error:
        raise EdgeparseError(f'--show needs another package ({error}); run pip install "textual-image>=0.8"') from error
    from PIL import Image as PillowImage

    from edgeparse.render.pictures import fingerprint_picture

    fingerprint = inspection.fingerprint
    top, left = ((side - part) // 2 for side, part in zip(fingerprint.shape[2:], (HEIGHT, WIDTH), strict=True))
    centre = fingerprint[0, :, top : top + HEIGHT, left : left + WIDTH]
    console.print(Image(PillowImage.fromarray(fingerprint_picture(centre)), width=WIDTH, height=HEIGHT // 2))
