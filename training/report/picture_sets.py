"""The public picture sets of training and evaluation: how many pictures, under which licence, in which split."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from training.data.public_sets import folds_of, may_redistribute, read_pictures, split_of_fold
from training.evaluate.results import RESULTS

FILE = RESULTS / "sources.csv"
COLUMNS = ("set", "role", "category", "lineage", "owner", "licence", "split", "pictures")
SPLITS = ("train", "val", "test")
Row = dict[str, str]


def write_sets(data: Path, file: Path = FILE) -> None:
    """Write one row for every set of a data folder."""
    pictures = read_pictures(data)
    folds = folds_of(pictures)
    count = Counter(
        (p.set.name, p.set.role, p.set.category, p.set.lineage, p.owner, p.licence, split_of_fold(folds[p.owner]))
        for p in pictures
    )
    with file.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows([*key, number] for key, number in sorted(count.items(), key=lambda item: item[0]))


def read_sets(file: Path = FILE) -> list[Row]:
    """Return the rows of `sources.csv`, or none if it was never written."""
    if not file.exists():
        return []
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


def kind_of_licence(licence: str) -> str:
    """Return `free`, `research`, `none stated` or `other`, which also stands for statements that were not read."""
    if may_redistribute(licence):
        return "free"
    if re.search(r"non-commercial|research|academic|-NC|BY-NC|NVIDIA|Evaluation", licence):
        return "research"
    if not licence or re.match(r"none (stated|seen)", licence):
        return "none stated"
    return "other"


def by_category(rows: Iterable[Row]) -> list[tuple[object, ...]]:
    """Return one table row per role and category: owners, sets, pictures by split, licences by pictures."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["role"], row["category"]), []).append(row)
    found: list[tuple[object, ...]] = []
    for (role, category), mine in sorted(groups.items()):
        splits: Counter[str] = Counter()
        licences: Counter[str] = Counter()
        for row in mine:
            splits[row["split"]] += int(row["pictures"])
            licences[kind_of_licence(row["licence"])] += int(row["pictures"])
        stated = ", ".join(f"{name} {number}" for name, number in licences.most_common())
        owners, sets = len({row["owner"] for row in mine}), len({row["set"] for row in mine})
        found.append(
            (role.replace("_", " "), category.replace("_", " "), owners, sets, *(splits[s] for s in SPLITS), stated)
        )
    return found
