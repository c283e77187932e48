"""Train a network on public pictures: photos of many cameras, and pictures of many generators that other people trained.

Detection and attribution must hold on generators and cameras that nobody has seen, so what counts is the variety of sources. The zoo, whose
architectures and losses are known, teaches model parsing and is a minority of each batch. Training is judged on owners that it leaves out
(`training.evaluate.left_out`).
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import click
import numpy as np
import torch
from torch.utils.data import DataLoader

from training.data.public_labels import read_labels
from training.data.public_sets import PictureSet, PublicPicture, folds_of, read_pictures, split, split_of_fold
from training.data.stream import Batch, Store, Stream
from training.data.twins import read_twins
from training.data.zoo_sets import read_zoo
from training.device import hardware
from training.evaluate.left_out import DURING_TRAINING, evaluate
from training.fit.trainer import Settings, Trainer, targets_of
from training.fit.warm_start import initial_network, save_network
from training.model.network import WINDOW


def train(
    trainer: Trainer,
    store: Store,
    validation: Store,
    sets: list[PictureSet],
    out: Path,
    facts: Mapping[str, object] | None = None,
) -> None:
    """Train until the budget is used up.

    The folder `out` gets checkpoint.pt, from which a run resumes, network.safetensors, log.jsonl and validation.jsonl.

    Args:
        trainer: the network and its state.
        store: pictures to train on.
        validation: pictures to validate on.
        sets: all sets, in the order of the trainer's targets.
        out: folder of the run.
        facts: facts of the training to store with the weights.
    """
    settings, checkpoint = trainer.settings, out / "checkpoint.pt"
    if checkpoint.exists():
        trainer.resume(checkpoint)
        click.echo(f"resumed at step {trainer.step}, {trainer.seconds / 60:.0f} min", err=True)
    started = time.monotonic() - trainer.seconds
    validated = trainer.seconds
    totals: dict[str, float] = defaultdict(float)
    batches, falling = _batches(trainer, store, sets, settings.sizes), False
    while (progress := trainer.seconds / 60 / settings.minutes) < 1:
        if not falling and progress >= 1 - settings.decay:
            batches, falling = _batches(trainer, store, sets, settings.final_sizes), True
        for name, value in trainer.learn(next(batches), settings.lr_factor(trainer.step, progress)).items():
            totals[name] += value / 100
        trainer.seconds = time.monotonic() - started
        if trainer.step % 100 == 0:
            _log(out / "log.jsonl", trainer, {name: round(value, 4) for name, value in totals.items()})
            totals.clear()
        if trainer.seconds - validated > settings.validate_every * 60:
            trainer.save(checkpoint)
            _save_average(trainer, out, facts)
            # Validation is no training time.
            began = time.monotonic()
            _log(out / "validation.jsonl", trainer, evaluate(trainer.averaged, validation, DURING_TRAINING))
            started += time.monotonic() - began
            validated = trainer.seconds
    trainer.save(checkpoint)
    _save_average(trainer, out, facts)
    _log(out / "validation.jsonl", trainer, evaluate(trainer.averaged, validation, DURING_TRAINING))


def _save_average(trainer: Trainer, out: Path, facts: Mapping[str, object] | None) -> None:
    spent = {"steps": trainer.step, "windows": trainer.windows, "minutes": round(trainer.seconds / 60, 1)}
    save_network(trainer.averaged, out / "network.safetensors", {**(facts or {}), **spent})


def _batches(trainer: Trainer, store: Store, sets: list[PictureSet], sizes: dict[int, float]) -> Iterator[Batch]:
    # Another seed after every start, or a resumed run would see its first batches again.
    names = [one.name for one in sets]
    stream = Stream(store, names, trainer.settings.seed + trainer.step, sizes, trainer.hardness.factors)
    workers = trainer.settings.workers
    return iter(DataLoader(stream, batch_size=None, num_workers=workers, prefetch_factor=6 if workers else None))


def _log(file: Path, trainer: Trainer, values: dict[str, object]) -> None:
    line = {"step": trainer.step, "minutes": round(trainer.seconds / 60, 1), "windows": trainer.windows} | values
    with file.open("a") as stream:
        stream.write(json.dumps(line) + "\n")
    click.echo(json.dumps(line), err=True)


@click.command()
@click.argument("data", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option("--minutes", default=60.0, show_default=True, help="Training time; raise it to continue a finished run.")
@click.option(
    "--decay", default=0.2, show_default=True, help="Final fraction of the time in which the learning rate falls."
)
@click.option("--lr", default=1e-3, show_default=True, help="Highest learning rate.")
@click.option("--weight-decay", default=0.02, show_default=True, help="Weight decay, scaled by the learning rate.")
@click.option("--average", default=0.998, show_default=True, help="Decay of the moving average of the weights.")
@click.option("--seed", default=1, show_default=True, help="Seed of weights and batches.")
@click.option(
    "--init-from",
    type=click.Path(exists=True, path_type=Path),
    help="Bundle, checkpoint.pt or network.safetensors to start from.",
)
@click.option(
    "--twins",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of `python -m training twins`, which made it with the same folds.",
)
@click.option(
    "--zoo",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of `python -m training zoo build`, built from the same DATA.",
)
@click.option("--workers", default=1, show_default=True, help="Processes that make batches.")
@click.option(
    "--threads", default=1, show_default=True, help="Threads of the network on a CPU; more stall on a busy machine."
)
@click.option("--compiled/--eager", help="Compile the network first; needs a C++ compiler.")
@click.option(
    "--device", default="cuda" if torch.cuda.is_available() else "cpu", show_default=True, help="Device to train on."
)
@click.option("--all-but-test", is_flag=True, help="Also train on the validation fold, for the bundle to ship.")
def main(
    data: Path, out: Path, minutes: float, decay: float, lr: float, weight_decay: float, average: float, seed: int, init_from: Path | None,
    twins: Path | None, zoo: Path | None, workers: int, threads: int, compiled: bool, device: str, all_but_test: bool,
) -> None:  # fmt: skip
    """Train on the public pictures of the folder DATA; OUT gets checkpoint.pt and logs, and is resumed from."""
    torch.manual_seed(seed)
    torch.set_num_threads(threads)
    out.mkdir(parents=True, exist_ok=True)
    settings = Settings(
        minutes=minutes, decay=decay, lr=lr, weight_decay=weight_decay, average=average, seed=seed, workers=workers
    )
    pictures = read_pictures(data)
    parts = split(pictures)
    trained: list[PublicPicture] = parts.train if not all_but_test else split(pictures, val_fold=None).train
    trained = trained + (read_twins(twins) if twins else [])
    store, validation = Store.read(data, trained), Store.read(data, parts.val)
    labels = read_labels(data)
    if zoo:
        made, pixels, zoo_labels = read_zoo(zoo)
        store, labels = store.extended(made, pixels), labels | zoo_labels
    # Public sets keep their numbers when the zoo grows, which a resumed run relies on.
    public = sorted({picture.set for picture in pictures}, key=lambda one: one.name)
    sets = public + sorted({picture.set for picture in store.pictures} - set(public), key=lambda one: one.name)
    click.echo(f"{len(store.pictures)} pictures to train on, {len(parts.val)} to validate on", err=True)
    some = next(iter(Stream(store, [one.name for one in sets], seed, {WINDOW: 1.0}, np.ones(len(sets)))))
    network = initial_network(init_from, some.windows).to(device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    trainer = Trainer(network, sets, targets_of(sets, labels, network.device), settings, compiled=compiled)
    folds = folds_of(pictures)
    facts = {
        "seed": seed,
        "init_from": None if init_from is None else init_from.name,
        "hardware": hardware(network.device),
        "all_but_test": all_but_test,
        # Splits of public generators, which later evaluations check.
        "generators": {p.set.name: split_of_fold(folds[p.owner]) for p in pictures if p.set.role == "generated"},
        "zoo_generators": sum(one.role == "zoo" for one in sets),
        "public_pictures": len(trained),
    }
    train(trainer, store, validation, sets, out, facts)
