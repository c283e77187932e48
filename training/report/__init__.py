"""The model card, the accuracy page and CSV tables, rendered from the results of evaluations."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("report")
@click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="List the picture sets of this data folder again in training/results/sources.csv.",
)
def main(data: Path | None) -> None:
    """Write MODEL_CARD.md, docs/accuracy.md and training/results/*.csv from training/results/*.json."""
    from training.report import accuracy, card, tables
    from training.report.measured import Measured
    from training.report.picture_sets import write_sets

    if data:
        write_sets(data)
    measured = Measured.read()
    card.PAGE.write_text(card.render(measured))
    accuracy.PAGE.write_text(accuracy.render(measured))
    tables.write_all(measured)
