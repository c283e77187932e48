"""How fast training's data comes, beside how fast a network takes it: `python -m training.throughput INDEX`."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import click
import numpy as np

from training.dataset import Batches, Collection, add_variants, some
from training.index.load import load

RESULT = Path(__file__).parent / "results" / "data.json"
# Chains of a picture; those of one content are shared, so that twins meet.
VARIANTS = 4


def measure(collection: Collection, pictures: int, seconds: float, seed: int = 0) -> dict[str, float]:
    """Chains (decoded pictures through resizing, codecs and noise) a second on all cores, and windows a second that one thread cuts.

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
    batches = Batches(Collection(collection.sources, chosen), seed)
    windows = 0
    begun = time.monotonic()
    while (spent := time.monotonic() - begun) < seconds:
        windows += len(batches()[1])
    return {
        "cores": os.cpu_count() or 1,
        "chains_per_s": round(len(chosen) * VARIANTS / chained, 1),
        "windows_per_s": round(windows / spent, 1),
        "window": batches.size,
    }


@click.command()
@click.argument("index", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--pictures", default=800, show_default=True, help="Pictures of each class that go through chains.")
@click.option("--seconds", default=10.0, show_default=True, help="How long windows are cut.")
def main(index: Path, pictures: int, seconds: float) -> None:
    """Measure on the pictures of INDEX; training/results/data.json keeps the figures."""
    found = measure(load(index), pictures, seconds)
    RESULT.write_text(json.dumps(found, indent=1) + "\n")
    click.echo(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
