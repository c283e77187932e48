"""Reports for people: one panel a picture, coloured in a terminal, plain in a pipe (and with NO_COLOR)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from edgeparse.compare import Comparison, Pair
from edgeparse.report import GeneratorAnswer, Interval, Report
from edgeparse.text import printable
from edgeparse.words import VERDICTS, count, hint

if TYPE_CHECKING:
    from edgeparse.bundle import Bundle
    from edgeparse.parser import Parser

# A wider matrix does not fit into a terminal.
WIDEST = 16
# Of a panel's columns, what its title cannot take: corners, lines and blanks.
BESIDE_TITLE = 6

_COLOURS = {"camera": "green", "generated": "red", "inconclusive": "yellow"}


def show(reports: Iterable[Report], parser: Parser, console: Console | None = None, explain: bool = False) -> None:
    """Print each of a parser's reports as it comes, to explain with the distances to the known generators."""
    console = console or Console()
    for report in reports:
        console.print(panel(report, parser, explain, console.width))


def _text(text: str, style: str = "") -> Text:
    """What comes from files and bundles: no markup, and nothing that steers a terminal."""
    return Text(printable(text), style=style)


def panel(report: Report, parser: Parser, explain: bool = False, width: int = 80) -> Panel:
    """One report as a panel, so many columns wide; a source too long for its title stands in it whole, and the title has the end."""
    source = _text(report.source or "(no name)")
    title, above = source, []
    if source.cell_len > (room := width - BESIDE_TITLE):
        title, above = _end(source, room), [source]
    if report.error is not None or report.image is None:
        failure = report.error
        text = _text(f"{failure.kind}: {failure.message}" if failure else "no answer", style="red")
        return Panel(Group(*above, text), title=title, title_align="left", border_style="red")
    colour = _COLOURS[report.verdict] if report.verdict else "default"
    words = VERDICTS[report.verdict] if report.verdict else "this bundle does not tell camera from generated"
    head = Text.assemble((words, f"bold {colour}"))
    if report.probability_generated is not None:
        head.append(f"   probability generated {report.probability_generated:.3f}")
    parts: list[RenderableType] = [*above, head]
    if report.verdict in ("inconclusive", None):
        parts.append(Text("If a generator made it:", style="dim"))
    if report.verdict != "camera":
        parts.append(_answers(report, parser.bundle))
    if (report.family or report.architecture or report.losses) and (worth := hint(parser.bundle)) is not None:
        parts.append(_text(worth, style="dim"))
    if explain:
        parts.append(_distances(report.generator, parser) if report.generator else Text(_why_none(report), style="dim"))
    image, timing = report.image, report.timing_ms
    foot = f"{image.width}x{image.height} {image.format or 'array'}, {report.windows} windows, {report.backend}, {report.bundle}"
    parts.append(_text(foot + (f", {timing.total:.0f} ms" if timing else ""), style="dim"))
    return Panel(Group(*parts), title=title, title_align="left", border_style=colour)


def _end(text: Text, room: int) -> Text:
    """The end of a text, in so many columns: of a path the file's name."""
    end = text.plain
    while end and cell_len(end) > room - 1:
        end = end[1:]
    return Text(f"…{end}")


def _answers(report: Report, bundle: Bundle) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column()
    if report.generator is not None:
        near = ", ".join(f"{candidate.name} {candidate.score:.2f}" for candidate in report.generator.candidates[:3])
        name = report.generator.name or "unknown"
        table.add_row("generator", _text(f"{name}  (nearest known: {near})"))
    if report.family is not None:
        ranked = sorted(report.family.probabilities.items(), key=lambda item: -item[1])[:3]
        table.add_row("family", _text(", ".join(f"{name} {chance:.2f}" for name, chance in ranked)))
    for name, answer in (report.architecture or {}).items():
        if isinstance(answer, Interval):
            text = f"{count(answer.value)}  ({count(answer.low)} to {count(answer.high)})"
        else:
            text = f"{answer.value}  {answer.probability:.2f}"
        table.add_row(_text(name.replace("_", " ")), _text(text))
    if report.losses:
        ranked = sorted(report.losses.items(), key=lambda item: -item[1])
        needed = {loss.name: loss.threshold for loss in bundle.losses}
        likely = ", ".join(f"{name} {chance:.2f}" for name, chance in ranked if chance >= needed[name])
        table.add_row("losses", _text(likely or "none likely"))
    return table


def _why_none(report: Report) -> str:
    """Why there is no generator to explain."""
    if report.verdict == "camera":
        return "no distances to known generators: of what looks like a camera photo none is looked for"
    return "no distances to known generators: this bundle knows none, or has no embedding to measure them by"


def _distances(generator: GeneratorAnswer, parser: Parser) -> Table:
    """How far the nearest known generators are, and how near one has to be."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("nearest known")
    table.add_column("similarity", justify="right")
    table.add_column("needed", justify="right")
    table.add_column("missing", justify="right")
    table.add_column("known from")
    for candidate in generator.candidates:
        missing = candidate.needed - candidate.score
        table.add_row(
            _text(candidate.name),
            f"{candidate.score:.3f}",
            f"{candidate.needed:.3f}",
            f"{missing:.3f}" if missing > 0 else "near enough",
            "your gallery" if candidate.name in parser.enrolled else "the bundle",
        )
    return table


def comparison(done: Comparison, bundle: Bundle) -> Group:
    """What comparing found: a sentence a pair for two pictures, else the groups and the matrix."""
    names = [printable(picture.source or "(no name)") for picture in done.pictures]
    parts: list[RenderableType] = []
    for number, picture in enumerate(done.pictures, 1):
        state = printable(picture.error.message) if picture.error else VERDICTS[picture.verdict or "inconclusive"]
        parts.append(Text(f"{number}  {names[number - 1]}  {state}"))
    parts.append(Text())
    if len(names) == 2:
        parts.append(_sentence(done.pairs[0], done.threshold))
    else:
        if done.groups is None:
            parts.append(Text('groups need scipy: pip install "scipy>=1.11"', style="yellow"))
        for number, members in enumerate(done.groups or (), 1):
            what = "perhaps one generator" if len(members) > 1 else "alone"
            parts.append(Text(f"group {number} ({what}): {' '.join(str(i + 1) for i in members)}", style="bold"))
        if len(names) <= WIDEST:
            parts.append(_matrix(done))
        else:
            parts.append(Text(f"{len(done.pairs)} pairs: --json lists them, --matrix FILE.svg draws them", style="dim"))
    parts.append(Text(_rests_on(bundle), style="dim"))
    return Group(*parts)


def _sentence(pair: Pair, threshold: float) -> Text:
    if pair.probability_same is None:
        return Text(f"not comparable: {printable(pair.reason or '')}", style="bold yellow")
    if pair.same:
        words, colour = "perhaps one generator", "green"
    elif pair.probability_same < 1 - threshold:
        words, colour = "probably two generators", "red"
    else:
        words, colour = "undecided", "yellow"
    return Text.assemble(
        (words, f"bold {colour}"),
        f"   probability of one generator {pair.probability_same:.3f} (said from {threshold:.2f} on), similarity {pair.similarity:.3f}",
    )


def _matrix(done: Comparison) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim")
    table.add_column("")
    for number in range(1, len(done.pictures) + 1):
        table.add_column(str(number), justify="right")
    values = done.matrix()
    for i, row in enumerate(values):
        cells = [Text("-" if i == j else "  . ", style="dim") for j in range(len(row))]
        for j, value in enumerate(row):
            if value == value:
                cells[j] = Text(f"{value:.2f}", style="bold green" if value >= done.threshold else "")
        table.add_row(Text(str(i + 1), style="dim"), *cells)
    return table


def _rests_on(bundle: Bundle) -> str:
    """What the probability means, what it was fitted on, and how well it fits there and on the few public generators of validation."""
    meaning = "The probability supposes that generators made both, and that one is as likely as two."
    figures = bundle.metrics.get("validation_same_generator", {})
    zoo, public = figures.get("zoo"), figures.get("real")
    if not zoo:
        return meaning
    held = (
        f"Fitted on {zoo['pairs']} pairs of {zoo['generators']} validation generators of the zoo, where it errs by "
        f"{zoo['calibration_error']:.3f} on average"
    )
    if not public:
        return f"{meaning} {held}."
    wrong = public.get("different_called_same")
    called = "" if wrong is None else f", and {wrong:.0%} of the pairs that two of them made were said to be of one"
    return (
        f"{meaning} {held}. Of public generators there were {public['generators']}, on which it errs by {public['calibration_error']:.3f}"
        f"{called}: take it for a hint. On test generators it errs more (MODEL_CARD.md)."
    )
