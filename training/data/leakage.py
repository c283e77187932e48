"""Check the dataset for leaks: `python -m training leakage INDEX` exits with an error if it finds one."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import click
import imagehash
import numpy as np
from PIL import Image

from training import metrics
from training.data.dataset import CHAINS, Collection, add_variants, random_subset
from training.data.index.load import load
from training.data.sampler import Batches

RESULT = Path(__file__).parents[1] / "results" / "leakage.json"
# Maximum Hamming distance of the 64-bit perceptual hashes of two photos of one scene. Unrelated photos differ in half of the bits.
NEAR = 8
# Deviation from an AUC of 0.5 that chance may cause.
TOLERANCE = 0.05


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


def blockiness(window: np.ndarray) -> float:
    """Measure traces of the 8-pixel JPEG grid in a window uint8[S, S, 3].

    Compares the horizontal steps at each column of the grid with those four columns on. Traces of up-sampling by two or four cancel out,
    because their period divides four.
    """
    grey = window.astype(np.float32).mean(-1)
    steps = np.abs(np.diff(grey, axis=1)).mean(0)
    phases = np.array([steps[phase::8].mean() for phase in range(8)])
    return float(np.abs(phases[:4] - phases[4:]).max() / (phases.mean() + 1e-6))


def format_aucs(collection: Collection, seed: int = 0, pictures: int = 600) -> dict[str, float]:
    """Return the AUC of picture size and JPEG traces alone as detectors, on pairs of training pictures and their photos."""
    rng = np.random.default_rng(seed)
    generated_twins = collection.select(split="train", camera=False, zoo=True, source_split="train")
    generated_twins = [sample for sample in generated_twins if sample.photo is not None]
    generated_pictures = random_subset(generated_twins, pictures, rng)
    names = {sample.photo for sample in generated_pictures}
    photos = [s for s in collection.select(split="train", camera=True, zoo=True) if s.photo in names]
    add_variants(generated_pictures, 4, seed)
    add_variants(photos, CHAINS, seed)
    batches = Batches(
        collection, seed, generators=len({s.source for s in generated_pictures}), pictures=6, public_fraction=0.0
    )
    windows, sources = batches()
    generated = np.array([collection.sources[i].labels is not None for i in sources])
    blocks = np.array([blockiness(window) for window in windows])
    heights = {
        flag: [v.shape[0] for s in members for v in s.variants]
        for flag, members in ((1, generated_pictures), (0, photos))
    }
    return {
        "blockiness": metrics.auc(blocks[~generated], blocks[generated]),
        "height": metrics.auc(np.array(heights[0]), np.array(heights[1])),
    }


@click.command()
@click.argument("index", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def main(index: Path) -> None:
    """Check that no photo, generator or label lies in two splits, and that file formats do not separate the classes.

    Writes training/results/leakage.json.
    """
    collection = load(index)
    aucs = format_aucs(collection)
    findings: dict[str, object] = {
        "near_duplicates_across_splits": near_duplicates(collection),
        "contents_across_splits": shared_contents(collection),
        "equal_labels_across_splits": shared_labels(collection),
        "format_aucs": aucs,
    }
    click.echo(json.dumps(findings, indent=1))
    RESULT.write_text(json.dumps(findings, indent=1) + "\n")
    leaks = [name for name, value in findings.items() if isinstance(value, list) and value]
    leaks += [name for name, auc in aucs.items() if abs(auc - 0.5) > TOLERANCE]
    if leaks:
        raise click.ClickException(f"leaks: {', '.join(leaks)}")
