"""The model card, the accuracy page and CSV tables, rendered from the results of evaluations."""

from __future__ import annotations

import click


@click.command("report")
def main() -> None:
    """Write MODEL_CARD.md, docs/accuracy.md and training/results/*.csv from training/results/*.json."""
    from training.report import accuracy, card, tables
    from training.report.sources import Sources

    sources = Sources.read()
    card.PAGE.write_text(card.render(sources))
    accuracy.PAGE.write_text(accuracy.render(sources))
    tables.write_all(sources)
