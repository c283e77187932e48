"""Check the dataset for leaks: `python -m training leakage DATA INDEX` exits with an error if it finds one."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from pathlib import Path

import click
import imagehash
import numpy as np
from PIL import Image, JpegImagePlugin
from sklearn.ensemble import RandomForestClassifier

from training import metrics
from training.data.dataset import Collection
from training.data.index.load import load
from training.data.public_sets import read_pictures, split

RESULT = Path(__file__).parents[1] / "results" / "leakage.json"
# Maximum Hamming distance of the 64-bit perceptual hashes of two photos of one scene. Unrelated photos differ in half of the bits.
NEAR = 8


def near_duplicates(collection: Collection) -> list[tuple[str, str]]:
    """Return pairs of near-duplicate photos that lie in different splits."""
    photos = [
        sample
        for sample in collection.samples
        if (source := collection.sources[sample.source]).labels is None and not source.zoo
    ]
    bits = np.array([imagehash.phash(Image.fromarray(photo.pixels)).hash.ravel() for photo in photos])
    splits = np.array([photo.split for photo in photos])
    pairs = []
    for i in range(len(photos)):
        near = (bits[i + 1 :] != bits[i]).sum(1) <= NEAR
        for j in np.flatnonzero(near & (splits[i + 1 :] != splits[i])) + i + 1:
            pairs.append((photos[i].content(), photos[j].content()))
    return pairs


def shared_contents(collection: Collection) -> list[str]:
    """Return photos whose content, as a photo or in a generated picture, lies in more than one split."""
    splits: dict[str, set[str]] = defaultdict(set)
    for sample in collection.samples:
        if sample.photo is not None:
            splits[sample.photo].add(sample.split)
    return sorted(photo for photo, found in splits.items() if len(found) > 1)


def shared_labels(collection: Collection) -> list[tuple[str, str]]:
    """Return pairs of zoo generators with equal labels in different splits."""
    first: dict[bytes, tuple[str, str]] = {}
    pairs = []
    for source in collection.sources:
        if source.zoo and source.labels is not None:
            name, split = first.setdefault(source.labels.key(), (source.name, source.split))
            if split != source.split:
                pairs.append((name, source.name))
    return pairs


def format_floor(folder: Path) -> float:
    """Return the AUC on the validation fold of a classifier that sees only how files were stored, and no pixel.

    It sees the size of the picture, the size of the whole that it was cut from, the file format, and JPEG's quantisation tables. A detector
    that is hardly better has learnt formats.
    """
    parts = split(read_pictures(folder))
    wholes = _sizes_of_wholes(folder)
    data = []
    for pictures in (parts.train, parts.val):
        asked = [picture for picture in pictures if picture.set.role in ("camera", "generated")]
        stored = np.array([_how_stored(folder / picture.file) + wholes[picture.file] for picture in asked])
        data.append((stored, np.array([picture.set.role == "generated" for picture in asked])))
    (seen, truth), (unseen, wanted) = data
    trees = RandomForestClassifier(300, class_weight="balanced", min_samples_leaf=5, random_state=0)
    score = trees.fit(seen, truth).predict_proba(unseen)[:, 1]
    return metrics.auc(score[~wanted], score[wanted])


def _sizes_of_wholes(folder: Path) -> dict[str, list[float]]:
    with (folder / "index.csv").open(newline="") as file:
        return {row["file"]: [float(row["width"] or 0), float(row["height"] or 0)] for row in csv.DictReader(file)}


def _how_stored(path: Path) -> list[float]:
    with Image.open(path) as image:
        tables = list(image.quantization.values()) if isinstance(image, JpegImagePlugin.JpegImageFile) else []
        sums = [float(sum(table)) for table in (tables[0], tables[-1])] if tables else [0.0, 0.0]
        return [float(image.width), float(image.height), float(bool(tables)), *sums]


@click.command()
@click.argument("data", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("index", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def main(data: Path, index: Path) -> None:
    """Check that no photo, generator or label lies in two splits, and measure what file formats alone say about DATA's classes.

    Writes training/results/leakage.json.
    """
    collection = load(index)
    findings: dict[str, object] = {
        "near_duplicates_across_splits": near_duplicates(collection),
        "contents_across_splits": shared_contents(collection),
        "equal_labels_across_splits": shared_labels(collection),
        "format_floor_auc": format_floor(data),
    }
    click.echo(json.dumps(findings, indent=1))
    RESULT.write_text(json.dumps(findings, indent=1) + "\n")
    leaks = [name for name, value in findings.items() if isinstance(value, list) and value]
    if leaks:
        raise click.ClickException(f"leaks: {', '.join(leaks)}")
