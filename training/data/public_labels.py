"""Labels of public generators: from `labels.csv` of the data folder, whose networks were read, and from published code."""

from __future__ import annotations

import csv
from pathlib import Path

from training.data.public_generators import LABELS, LINEAGES
from training.data.public_sets import read_sets
from training.labels import CONTINUOUS, DISCRETE, FAMILIES, LOSSES, Labels

UNKNOWN = Labels(None, {}, {}, None)


def read_labels(folder: Path) -> dict[str, Labels]:
    """Return the labels of every set that has any. Values outside the label spaces count as unknown.

    Raises:
        ValueError: `labels.csv` has a family that is not a label.
    """
    lineages = ((one.name, LINEAGES.get((one.category, one.lineage))) for one in read_sets().values())
    labels = {name: known for name, known in lineages if known is not None} | LABELS
    file = folder / "labels.csv"
    if not file.exists():
        return labels
    with file.open(newline="") as stream:
        for row in csv.DictReader(stream):
            if row["family"] not in FAMILIES:
                raise ValueError(
                    f"family must be one of {', '.join(FAMILIES)}, got {row['family']!r} for {row['set']}; correct {file}"
                )
            losses = tuple(name for name in row["losses"].split(";") if name in LOSSES)
            labels[row["set"]] = Labels(
                row["family"],
                {name: float(row[name]) for name in CONTINUOUS if row.get(name)},
                {name: row[name] for name, values in DISCRETE.items() if row.get(name) in values},
                losses or None,
            )
    return labels
