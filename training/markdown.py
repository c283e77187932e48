"""Tables and numbers of rendered documents."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table in Markdown."""
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    return "\n".join([*lines, *(f"| {' | '.join(map(str, row))} |" for row in rows)])


def percent(value: float) -> str:
    """A share, as in tables."""
    return f"{100 * value:.1f}%"


def figure_name(key: str) -> str:
    """A figure of a precision or of the evaluation pack, as in the head of a table."""
    named = key.replace("detection_zoo_auc", "AUC, zoo").replace("detection_public_auc", "AUC, public")
    return named.replace("_", " ")
