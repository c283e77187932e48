"""How fast training's data comes, beside how fast a network takes it: `python -m training throughput INDEX`."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import torch

from training.data.dataset import Collection, add_variants, some
from training.data.index.load import load
from training.data.sampler import Batches
from training.fit.losses import Weights
from training.fit.train import SIZES, Settings
from training.fit.trainer import Learner
from training.model.network import WINDOW, Network, NetworkConfig

RESULT = Path(__file__).parents[1] / "results" / "data.json"
# Chains of a picture; those of one content are shared, so that twins meet.
VARIANTS = 4


def measure(
    collection: Collection, pictures: int, seconds: float, seed: int = 0, compiled: bool = False
) -> dict[str, object]:
    """Chains (decoded pictures through resizing, codecs and noise) a second on all cores, windows a second that one thread cuts, and
    windows a second that the network learns from, by their side in pixels.

    Chains are made once, before training; windows are cut while it runs.
    """
    rng = np.random.default_rng(seed)
    chosen = [
        sample
        for camera in (True, False)
        for sample in some(collection.select(split="train", camera=camera, source_split="train"), pictures, rng)
    ]
    begun = time.monotonic()
    add_variants(chosen, VARIANTS, seed)
    chained = time.monotonic() - begun
    batches = Batches(Collection(collection.sources, chosen), seed, toned=Settings.toned)
    cut = _windows_per_s(batches, lambda windows, source: None, seconds)
    learner = Learner(
        Network(NetworkConfig()).to(memory_format=torch.channels_last),
        collection.sources,
        lr=Settings.lr,
        weights=Weights(),
        compiled=compiled,
    )
    learnt = {}
    for _, size in SIZES:
        batches.size = size
        learner.step(*batches(), 1.0)  # compiles, where wanted
        learnt[str(size)] = _windows_per_s(batches, lambda *batch: learner.step(*batch, 1.0), seconds)
    return {
        "cores": os.cpu_count() or 1,
        "chains_per_s": round(len(chosen) * VARIANTS / chained, 1),
        "windows_per_s": cut,
        "window": WINDOW,
        "learnt_per_s": learnt,
        "compiled": compiled,
    }


def _windows_per_s(batches: Batches, take: Callable[[np.ndarray, np.ndarray], object], seconds: float) -> float:
    """How many windows are made and taken in a second, one after the other."""
    windows, begun = 0, time.monotonic()
    while (spent := time.monotonic() - begun) < seconds:
        batch = batches()
        take(*batch)
        windows += len(batch[1])
    return round(windows / spent, 1)


@click.command()
@click.argument("index", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--pictures", default=800, show_default=True, help="Pictures of each class that go through chains.")
@click.option(
    "--seconds", default=10.0, show_default=True, help="How long windows are cut, and learnt from at each size."
)
@click.option("--compiled/--eager", help="Compile the network first, as for training.")
def main(index: Path, pictures: int, seconds: float, compiled: bool) -> None:
    """Measure on the pictures of INDEX; training/results/data.json keeps the figures."""
    found = measure(load(index), pictures, seconds, compiled=compiled)
    RESULT.write_text(json.dumps(found, indent=1) + "\n")
    click.echo(json.dumps(found, indent=1))
