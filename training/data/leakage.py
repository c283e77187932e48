"""What must not tell the answers: `python -m training leakage INDEX` looks for it and fails where it finds some."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import click
import imagehash
import numpy as np
from PIL import Image

from training import metrics
from training.data.dataset import CHAINS, Collection, add_variants, some
from training.data.index.load import load
from training.data.sampler import Batches

RESULT = Path(__file__).parents[1] / "results" / "leakage.json"
# Bits of 64 in which the perceptual hashes of two shots of one scene may differ; unrelated photos differ in half.
NEAR = 8
# Distance from one half that an area under the ROC curve may have by chance.
TOLERANCE = 0.05


def near_duplicates(collection: Collection) -> list[tuple[str, str]]:
    """Pairs of whole photos that look alike and lie in two splits."""
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
    """Photos whose content, as a photo or in a generator's picture, lies in two splits."""
    splits: dict[str, set[str]] = defaultdict(set)
    for sample in collection.samples:
        if sample.photo is not None:
            splits[sample.photo].add(sample.split)
    return sorted(photo for photo, found in splits.items() if len(found) > 1)


def shared_labels(collection: Collection) -> list[tuple[str, str]]:
    """Pairs of zoo generators with equal labels in two splits."""
    first: dict[bytes, tuple[str, str]] = {}
    pairs = []
    for source in collection.sources:
        if source.zoo and source.labels is not None:
            name, split = first.setdefault(source.labels.key(), (source.name, source.split))
            if split != source.split:
                pairs.append((name, source.name))
    return pairs


def blockiness(window: np.ndarray) -> float:
    """How much the steps across one column of the 8-pixel grid differ from those four columns on: what JPEG leaves, and what traces of
    up-sampling by two or four, whose period divides four, do not."""
    grey = window.astype(np.float32).mean(-1)
    steps = np.abs(np.diff(grey, axis=1)).mean(0)
    phases = np.array([steps[phase::8].mean() for phase in range(8)])
    return float(np.abs(phases[:4] - phases[4:]).max() / (phases.mean() + 1e-6))


def format_aucs(collection: Collection, seed: int = 0, pictures: int = 600) -> dict[str, float]:
    """Areas under the ROC curve that size and JPEG traces alone reach, generated above camera, over twins of training."""
    rng = np.random.default_rng(seed)
    made = collection.select(split="train", camera=False, zoo=True, source_split="train")
    made = [sample for sample in made if sample.photo is not None]
    chosen = some(made, pictures, rng)
    names = {sample.photo for sample in chosen}
    photos = [s for s in collection.select(split="train", camera=True, zoo=True) if s.photo in names]
    add_variants(chosen, 4, seed)
    add_variants(photos, CHAINS, seed)
    batches = Batches(collection, seed, generators=len({s.source for s in chosen}), pictures=6, public_fraction=0.0)
    windows, sources = batches()
    generated = np.array([collection.sources[i].labels is not None for i in sources])
    blocks = np.array([blockiness(window) for window in windows])
    heights = {flag: [v.shape[0] for s in members for v in s.variants] for flag, members in ((1, chosen), (0, photos))}
    return {
        "blockiness": metrics.auc(blocks[~generated], blocks[generated]),
        "height": metrics.auc(np.array(heights[0]), np.array(heights[1])),
    }


@click.command()
@click.argument("index", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def main(index: Path) -> None:
    """Look for photos, generators and labels on both sides of a split, and for file formats that tell the classes apart.

    training/results/leakage.json keeps what was found.
    """
    collection = load(index)
    found = {
        "near_duplicates_across_splits": near_duplicates(collection),
        "contents_across_splits": shared_contents(collection),
        "equal_labels_across_splits": shared_labels(collection),
        "format_aucs": format_aucs(collection),
    }
    click.echo(json.dumps(found, indent=1))
    RESULT.write_text(json.dumps(found, indent=1) + "\n")
    leaks = [name for name, value in found.items() if isinstance(value, list) and value]
    leaks += [name for name, auc in found["format_aucs"].items() if abs(auc - 0.5) > TOLERANCE]
    if leaks:
        raise click.ClickException(f"leaks: {', '.join(leaks)}")
