"""Reports for people: one panel a picture, coloured in a terminal, plain in a pipe (and with NO_COLOR)."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from edgeparse.report import Interval, Report

_COLOURS = {"camera": "green", "generated": "red", "inconclusive": "yellow"}
_WORDS = {
    "camera": "looks like a camera photo",
    "generated": "looks generated",
    "inconclusive": "inconclusive: the traces do not settle it",
}


def show(reports: Iterable[Report], console: Console | None = None) -> list[Report]:
    """Print each report as it comes; returns them all."""
    console = console or Console()
    done = []
    for report in reports:
        console.print(panel(report))
        done.append(report)
    return done


def panel(report: Report) -> Panel:
    """One report as a panel."""
    title = escape(report.source or "(no name)")
    if report.error is not None or report.image is None:
        failure = report.error
        text = Text(f"{failure.kind}: {failure.message}" if failure else "no answer", style="red")
        return Panel(text, title=title, title_align="left", border_style="red")
    colour = _COLOURS[report.verdict] if report.verdict else "default"
    words = _WORDS[report.verdict] if report.verdict else "this bundle does not tell camera from generated"
    head = Text.assemble((words, f"bold {colour}"))
    if report.probability_generated is not None:
        head.append(f"   probability generated {report.probability_generated:.3f}")
    parts: list[RenderableType] = [head]
    if report.verdict in ("inconclusive", None):
        parts.append(Text("If a generator made it:", style="dim"))
    if report.verdict != "camera":
        parts.append(_answers(report))
    image, timing = report.image, report.timing_ms
    foot = f"{image.width}x{image.height} {image.format or 'array'}, {report.windows} windows, {report.backend}, {report.bundle}"
    parts.append(Text(foot + (f", {timing.total:.0f} ms" if timing else ""), style="dim"))
    return Panel(Group(*parts), title=title, title_align="left", border_style=colour)


def _answers(report: Report) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column()
    if report.generator is not None:
        near = ", ".join(f"{candidate.name} {candidate.score:.2f}" for candidate in report.generator.candidates)
        name = report.generator.name or "unknown"
        table.add_row("generator", f"{escape(name)}  (nearest known: {escape(near)})")
    if report.family is not None:
        ranked = sorted(report.family.probabilities.items(), key=lambda item: -item[1])[:3]
        table.add_row("family", ", ".join(f"{name} {chance:.2f}" for name, chance in ranked))
    for name, answer in (report.architecture or {}).items():
        if isinstance(answer, Interval):
            text = f"{_number(answer.value)}  ({_number(answer.low)} to {_number(answer.high)})"
        else:
            text = f"{answer.value}  {answer.probability:.2f}"
        table.add_row(name.replace("_", " "), text)
    if report.losses:
        ranked = sorted(report.losses.items(), key=lambda item: -item[1])
        table.add_row(
            "losses", ", ".join(f"{name} {chance:.2f}" for name, chance in ranked if chance >= 0.1) or "none likely"
        )
    return table


def _number(value: int) -> str:
    if value >= 1_000_000:
        return f"{value / 1e6:.1f}M"
    return f"{value / 1e3:.0f}k" if value >= 10_000 else str(value)
