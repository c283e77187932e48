"""Tables and numbers in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table."""
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    return "\n".join([*lines, *(f"| {' | '.join(map(str, row))} |" for row in rows)])


def percent(value: float) -> str:
    """Format a share with one decimal."""
    return f"{100 * value:.1f}%"


def percents(bounds: Sequence[float]) -> str:
    """Format an interval of a share."""
    return f"{percent(bounds[0])} to {percent(bounds[1])}"


def interval(bounds: Sequence[float] | None) -> str:
    """Format an interval with three decimals; return an empty string for None."""
    return f"{bounds[0]:.3f} to {bounds[1]:.3f}" if bounds else ""
