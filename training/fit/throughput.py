"""Measure the throughput of training's data and of the network: `python -m training throughput INDEX`."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor

from training.data.dataset import Collection, add_variants, random_subset
from training.data.index.load import load
from training.data.sampler import Batches
from training.device import to_channels_last
from training.fit.losses import Weights
from training.fit.train import SIZES, Settings
from training.fit.trainer import Trainer
from training.model.network import WINDOW, Network, NetworkConfig

RESULT = Path(__file__).parents[1] / "results" / "data.json"
# Chains per picture. Pictures share the chains of their content, so that most can be paired with their photo.
VARIANTS = 4


def measure(
    collection: Collection, pictures: int, seconds: float, seed: int = 0, compiled: bool = False
) -> dict[str, object]:
    """Measure codec chains per second on all cores, and windows per second cut by one thread and trained on, by window size.

    Training computes chains before it starts, and cuts windows while it runs.

    Args:
        collection: sources and pictures.
        pictures: pictures of each class that pass chains.
        seconds: duration of each measurement.
        seed: seed of all draws.
        compiled: compile the network first.
    """
    rng = np.random.default_rng(seed)
    chosen = [
        sample
        for camera in (True, False)
        for sample in random_subset(
            collection.select(split="train", camera=camera, source_split="train"), pictures, rng
        )
    ]
    start = time.monotonic()
    add_variants(chosen, VARIANTS, seed)
    chain_time = time.monotonic() - start
    batches = Batches(Collection(collection.sources, chosen), seed, toned=Settings.toned)
    cut = _windows_per_s(batches, lambda windows, source: None, seconds)
    trainer = Trainer(
        to_channels_last(Network(NetworkConfig()), torch.device("cpu")),
        collection.sources,
        lr=Settings.lr,
        weights=Weights(),
        compiled=compiled,
    )

    def step(windows: np.ndarray | Tensor, source: np.ndarray) -> None:
        trainer.step(windows, source, 1.0)

    trained = {}
    for _, size in SIZES:
        batches.size = size
        step(*batches())  # Compiles, if requested.
        trained[str(size)] = _windows_per_s(batches, step, seconds)
    return {
        "cores": os.cpu_count() or 1,
        "chains_per_s": round(len(chosen) * VARIANTS / chain_time, 1),
        "windows_per_s": cut,
        "window": WINDOW,
        "learnt_per_s": trained,
        "compiled": compiled,
    }


def _windows_per_s(
    batches: Batches, consume: Callable[[np.ndarray | Tensor, np.ndarray], object], seconds: float
) -> float:
    """Return the windows per second when each batch is sampled and then consumed."""
    windows, start = 0, time.monotonic()
    while (spent := time.monotonic() - start) < seconds:
        pixels, source = batches()
        consume(pixels, source)
        windows += len(source)
    return round(windows / spent, 1)


@click.command()
@click.argument("index", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--pictures", default=800, show_default=True, help="Pictures of each class that pass codec chains.")
@click.option("--seconds", default=10.0, show_default=True, help="Duration of each measurement in seconds.")
@click.option("--compiled/--eager", help="Compile the network first, as for training.")
def main(index: Path, pictures: int, seconds: float, compiled: bool) -> None:
    """Measure training's throughput on the pictures of INDEX.

    Writes training/results/data.json.
    """
    figures = measure(load(index), pictures, seconds, compiled=compiled)
    RESULT.write_text(json.dumps(figures, indent=1) + "\n")
    click.echo(json.dumps(figures, indent=1))
