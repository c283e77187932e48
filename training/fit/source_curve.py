"""How many sources are enough: the same network trained on some or all sources of each class, judged on the same left-out ones."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from training.data.public_labels import read_labels
from training.data.public_sets import PublicPicture, read_pictures, split
from training.data.stream import Store, Stream
from training.evaluate.left_out import DURING_TRAINING
from training.evaluate.results import RESULTS, write_result
from training.fit.train import train
from training.fit.trainer import Settings, Trainer, targets_of
from training.fit.warm_start import initial_network
from training.model.network import WINDOW

COUNTS = (10, 20, 40, 80)
RESULT = RESULTS / "source_curve.json"


def choose(pictures: Sequence[PublicPicture], count: int | None, seed: int) -> list[PublicPicture]:
    """Return the pictures of `count` random sources of each class, or of all for None; more sources include fewer.

    Pictures of other roles are left out.
    """
    chosen: set[str] = set()
    for role in ("camera", "generated"):
        names = sorted({picture.set.name for picture in pictures if picture.set.role == role})
        chosen.update(np.random.default_rng(seed).permutation(names)[:count].tolist())
    return [picture for picture in pictures if picture.set.name in chosen]


def run(data: Path, out: Path, count: int | None, settings: Settings) -> dict[str, Any]:
    """Train on `count` sources of each class and return the number of sources and the figures by condition."""
    torch.manual_seed(settings.seed)
    pictures = read_pictures(data)
    parts = split(pictures)
    trained = choose(parts.train, count, settings.seed)
    store, validation = Store.read(data, trained), Store.read(data, parts.val)
    sets = sorted({picture.set for picture in trained}, key=lambda one: one.name)
    some = next(iter(Stream(store, [one.name for one in sets], settings.seed, {WINDOW: 1.0}, np.ones(len(sets)))))
    network = initial_network(None, some.windows)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    out.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(network, sets, targets_of(sets, read_labels(data), network.device), settings)
    train(trainer, store, validation, sets, out)
    figures = json.loads((out / "validation.jsonl").read_text().splitlines()[-1])
    kept = ("auc", "interval", "recall_at_1_percent")
    return {
        **{role: sum(one.role == role for one in sets) for role in ("camera", "generated")},
        "pictures": len(trained),
        "figures": {name: {key: figures[name][key] for key in kept} for name in DURING_TRAINING},
    }


@click.command("source-curve")
@click.argument("data", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option("--minutes", default=20.0, show_default=True, help="Training time of each network.")
@click.option("--seed", default=1, show_default=True, help="Seed of sources, weights and batches.")
@click.option("--threads", default=1, show_default=True, help="Threads of the network.")
@click.option(
    "-o", "--output", default=RESULT, type=click.Path(dir_okay=False, path_type=Path), help="File of the JSON."
)
def main(data: Path, out: Path, minutes: float, seed: int, threads: int, output: Path) -> None:
    """Train on 10, 20, 40, 80 and all sources of each class of DATA, in folders of OUT; each resumes.

    Writes training/results/source_curve.json, which the report shows.
    """
    torch.set_num_threads(threads)
    settings = Settings(minutes=minutes, seed=seed)
    runs: list[dict[str, Any]] = []
    for count in (*COUNTS, None):
        runs.append(run(data, out / str(count or "all"), count, settings))
        write_result(output, {"fold": "val", "minutes": minutes, "runs": runs})
