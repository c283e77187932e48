"""Train a network on public pictures: photos of many cameras, and pictures of many generators that other people trained.

Detection and attribution must hold on generators and cameras that nobody has seen, so what counts is the variety of sources. Training
starts from the weights of an earlier bundle and is judged on owners that it leaves out (`training.evaluate.left_out`).
"""

from __future__ import annotations

import json
import math
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.sharedctypes import RawArray
from pathlib import Path

import click
import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader

from training.data.dataset import Generator
from training.data.public_labels import UNKNOWN, read_labels
from training.data.public_sets import PictureSet, PublicPicture, read_pictures, split
from training.data.stream import CAMERA, NOT_ASKED, Batch, Store, Stream
from training.data.twins import read_twins
from training.data.zoo_sets import read_zoo
from training.device import supports_fast_bfloat16
from training.evaluate.left_out import DURING_TRAINING, evaluate
from training.fit.losses import Targets, Weights, fingerprint_constraints, head_losses, supervised_contrastive_loss
from training.fit.trainer import Average, build_optimizers, keep_freed_memory
from training.fit.warm_start import load_weights
from training.labels import Labels
from training.model.network import WINDOW, Network, NetworkConfig


@dataclass(frozen=True)
class Settings:
    """How to train."""

    # Training time; it may be raised when a run is resumed.
    minutes: float = 60.0
    # Fraction of the time, at the end, in which the learning rate falls to a hundredth.
    decay: float = 0.2
    # Highest learning rate of AdamW; Muon's is ten times as high.
    lr: float = 1e-3
    # Steps in which the learning rate rises.
    warm_up: int = 300
    seed: int = 1
    # Side of the windows of a batch -> how often. Small windows show more pictures in the same time.
    sizes: dict[int, float] = field(default_factory=lambda: {64: 0.6, 96: 0.25, WINDOW: 0.15})
    # Sizes while the learning rate falls: batch norms settle on the size that is shipped.
    final_sizes: dict[int, float] = field(default_factory=lambda: {96: 0.3, WINDOW: 0.7})
    # A set is drawn in proportion to its mean detection loss to this power.
    hardness: float = 0.5
    label_smoothing: float = 0.03
    # Decay of the moving average, which is what is evaluated and kept.
    average: float = 0.998
    # Detection comes first; the other terms keep what the initial weights know.
    weights: Weights = field(
        default_factory=lambda: Weights(
            generated=1.0, metric=0.15, fingerprint=0.03, family=0.1, discrete=0.1, continuous=0.2, losses=0.1
        )
    )
    # Processes that make batches.
    workers: int = 1
    # Minutes between two validations.
    validate_every: float = 15.0

    def lr_factor(self, step: int, progress: float) -> float:
        """Return the fraction of the highest learning rate: a short rise, a plateau, then a cosine."""
        rise = min(1.0, (step + 1) / self.warm_up)
        fall = max(0.0, (progress - 1 + self.decay) / self.decay) if self.decay else 0.0
        return rise * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, fall))))


class Hardness:
    """Detection loss of every set, as a moving average, and what follows for how often the set is drawn.

    Args:
        sets: number of sets.
        power: 0 draws all sets alike.

    Attributes:
        loss: float64[sets].
        factors: float64[sets], in memory that worker processes share.
    """

    def __init__(self, sets: int, power: float) -> None:
        self.power = power
        self.loss = np.full(sets, math.log(2))
        self.factors: np.ndarray = np.frombuffer(RawArray("d", sets))
        self.refresh()

    def update(self, batch: Batch, losses: np.ndarray) -> None:
        """Take the detection losses, float32[N], of a batch into account."""
        asked = batch.target != NOT_ASKED
        for source in np.unique(batch.source[asked]):
            self.loss[source] += 0.05 * (losses[asked & (batch.source == source)].mean() - self.loss[source])
        self.refresh()

    def refresh(self) -> None:
        """Recompute the factors from the losses."""
        self.factors[:] = np.clip(self.loss / 0.5, 0.2, 4.0) ** self.power


class PublicTrainer:
    """A network in training, with everything that changes beside it.

    Args:
        network: the network, on its device.
        sets: all sets; a batch's `source` indexes them.
        targets: labels of the same sets.
        settings: how to train.
        compiled: whether TorchInductor compiles the network first, which needs a C++ compiler and takes about two minutes.
    """

    def __init__(
        self, network: Network, sets: list[PictureSet], targets: Targets, settings: Settings, *, compiled: bool = False
    ) -> None:
        keep_freed_memory()
        self.network, self.settings, self.targets = network, settings, targets
        self.device = network.device
        self.average = Average(network, settings.average)
        self.optimizers = build_optimizers(network, settings.lr)
        self.hardness = Hardness(len(sets), settings.hardness)
        self.step, self.seconds, self.windows = 0, 0.0, 0
        self._mixed = torch.tensor([one.mixed for one in sets], device=self.device)
        self._compute = torch.compile(network, dynamic=False) if compiled else network

    @property
    def averaged(self) -> Network:
        """The network with the moving average of the weights, which is what is evaluated and kept."""
        network = self.average.network
        assert isinstance(network, Network)
        return network

    def learn(self, batch: Batch, lr_factor: float) -> dict[str, float]:
        """Take one step. Returns every weighted term of the objective, and the accuracy of detection, by name."""
        for group in (group for optimizer in self.optimizers for group in optimizer.param_groups):
            group["lr"] = lr_factor * group["highest"]
        self.network.train()
        source, target = (torch.from_numpy(values).to(self.device) for values in (batch.source, batch.target))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=supports_fast_bfloat16(self.device)):
            outputs = self._compute(torch.from_numpy(batch.windows).to(self.device))
        terms, losses = self.objective(outputs, source, target)
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), 2.0)
        for optimizer in self.optimizers:
            optimizer.step()
        self.average.update(self.network, self.step)
        self.step, self.windows = self.step + 1, self.windows + len(batch.windows)
        self.hardness.update(batch, losses.detach().cpu().numpy())
        asked = target != NOT_ASKED
        right = (outputs["generated"][:, 0] > 0) == (target > 0.5)
        return {name: float(term.detach()) for name, term in terms.items()} | {
            "accuracy": float(right[asked].float().mean())
        }

    def objective(self, outputs: dict[str, Tensor], source: Tensor, target: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Return the weighted terms by name, and the detection loss of every window, float32[N].

        Args:
            outputs: the network's outputs for N windows.
            source: int64[N], set of each window.
            target: float32[N], as in `Batch`.
        """
        weights, smoothing = self.settings.weights, self.settings.label_smoothing
        wanted = target.clamp_min(0) * (1 - smoothing) + smoothing / 2
        losses = F.binary_cross_entropy_with_logits(outputs["generated"][:, 0].float(), wanted, reduction="none")
        terms = head_losses(outputs, source, self.targets, weights)
        # Sets without labels leave a mean over nothing.
        terms = {name: term.nan_to_num() for name, term in terms.items()}
        terms["generated"] = weights.generated * losses[target != NOT_ASKED].mean()
        named = (target != CAMERA) & ~self._mixed[source]
        terms["metric"] = weights.metric * supervised_contrastive_loss(outputs["embedding"][named], source[named])
        terms["fingerprint"] = weights.fingerprint * fingerprint_constraints(outputs["fingerprint"], weights)
        return terms, losses

    def save(self, file: Path) -> None:
        """Write a checkpoint, whole or not at all."""
        state = {
            "config": self.network.config.to_json(),
            "network": self.network.state_dict(),
            "average": self.average.network.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "hardness": torch.from_numpy(self.hardness.loss),
            "step": self.step,
            "seconds": self.seconds,
            "windows": self.windows,
        }
        temporary = file.with_suffix(".tmp")
        torch.save(state, temporary)
        temporary.replace(file)

    def resume(self, file: Path) -> None:
        """Continue from a checkpoint of `save`.

        Raises:
            ValueError: the checkpoint is of a network of another shape.
        """
        state = torch.load(file, map_location=self.device, weights_only=True)
        if NetworkConfig.from_json(state["config"]) != self.network.config:
            raise ValueError(
                f"checkpoint must have the network's shape, got {state['config']}; choose another folder than {file.parent}"
            )
        self.network.load_state_dict(state["network"])
        self.average.network.load_state_dict(state["average"])
        for optimizer, values in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(values)
        known = state["hardness"].numpy()[: len(self.hardness.loss)]
        self.hardness.loss[: len(known)] = known
        self.hardness.refresh()
        self.step, self.seconds, self.windows = state["step"], state["seconds"], state["windows"]


def train(trainer: PublicTrainer, store: Store, validation: Store, sets: list[PictureSet], out: Path) -> None:
    """Train until the budget is used up.

    The folder `out` gets checkpoint.pt, from which a run resumes, network.safetensors, log.jsonl and validation.jsonl.
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
            save_network(trainer.averaged, out / "network.safetensors")
            # Validation is no training time.
            began = time.monotonic()
            _log(out / "validation.jsonl", trainer, evaluate(trainer.averaged, validation, DURING_TRAINING))
            started += time.monotonic() - began
            validated = trainer.seconds
    trainer.save(checkpoint)
    save_network(trainer.averaged, out / "network.safetensors")
    _log(out / "validation.jsonl", trainer, evaluate(trainer.averaged, validation, DURING_TRAINING))


def _batches(trainer: PublicTrainer, store: Store, sets: list[PictureSet], sizes: dict[int, float]) -> Iterator[Batch]:
    # Another seed after every start, or a resumed run would see its first batches again.
    names = [one.name for one in sets]
    stream = Stream(store, names, trainer.settings.seed + trainer.step, sizes, trainer.hardness.factors)
    workers = trainer.settings.workers
    return iter(DataLoader(stream, batch_size=None, num_workers=workers, prefetch_factor=6 if workers else None))


def _log(file: Path, trainer: PublicTrainer, values: dict[str, object]) -> None:
    line = {"step": trainer.step, "minutes": round(trainer.seconds / 60, 1), "windows": trainer.windows} | values
    with file.open("a") as stream:
        stream.write(json.dumps(line) + "\n")
    click.echo(json.dumps(line), err=True)


def initial_network(origin: Path | None, windows: np.ndarray) -> Network:
    """Return a network with random weights, or with those of a bundle's folder or of a file of weights.

    Args:
        origin: a bundle's folder, a checkpoint.pt, a network.safetensors, or None.
        windows: uint8[N, S, S, 3], from which the batch norms of a bundle's folded network take their statistics.
    """
    if origin is None:
        return Network(NetworkConfig())
    if origin.is_dir():
        network = Network(
            NetworkConfig.from_json(json.loads((origin / "bundle.json").read_text())["training"]["config"])
        )
        load_weights(network, (origin / "model.onnx").read_bytes(), windows)
        # What the spectral lines say by themselves was fitted last, on other data.
        if network.by_lines is not None:
            nn.init.zeros_(network.by_lines.weight)
            nn.init.zeros_(network.by_lines.bias)
        return network
    return load_network(origin)


def load_network(file: Path) -> Network:
    """Return the network of `save_network`, or the moving average of a checkpoint.pt, in evaluation mode, on the CPU."""
    if file.suffix == ".safetensors":
        with safe_open(file, "pt") as stored:
            config = json.loads(stored.metadata()["config"])
        values = {
            name: value.float() if value.is_floating_point() else value for name, value in load_file(file).items()
        }
    else:
        state = torch.load(file, map_location="cpu", weights_only=True)
        config, values = state["config"], state["average"]
    network = Network(NetworkConfig.from_json(config))
    network.load_state_dict(values)
    return network.eval()


def save_network(network: Network, file: Path) -> None:
    """Write a network's weights in float16 and its shape, for the repository. Training starts from them as well as from float32."""
    values = {
        name: (value.half() if value.is_floating_point() else value).cpu().contiguous()
        for name, value in network.state_dict().items()
    }
    save_file(values, file, {"config": json.dumps(network.config.to_json())})


def targets_of(sets: list[PictureSet], labels: dict[str, Labels], device: torch.device) -> Targets:
    """Return the labels of all sets as tensors. Cameras have none; unknown labels are masked."""
    sources = [
        Generator(
            one.name,
            None if one.role == "camera" else labels.get(one.name, UNKNOWN),
            zoo=one.role == "zoo",
            split="train",
        )
        for one in sets
    ]
    return Targets.from_sources(sources, device)


@click.command()
@click.argument("data", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option("--minutes", default=60.0, show_default=True, help="Training time; raise it to continue a finished run.")
@click.option(
    "--decay", default=0.2, show_default=True, help="Final fraction of the time in which the learning rate falls."
)
@click.option("--lr", default=1e-3, show_default=True, help="Highest learning rate.")
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
    data: Path, out: Path, minutes: float, decay: float, lr: float, seed: int, init_from: Path | None,
    twins: Path | None, zoo: Path | None, workers: int, threads: int, compiled: bool, device: str, all_but_test: bool,
) -> None:  # fmt: skip
    """Train on the public pictures of the folder DATA; OUT gets checkpoint.pt and logs, and is resumed from."""
    torch.manual_seed(seed)
    torch.set_num_threads(threads)
    out.mkdir(parents=True, exist_ok=True)
    settings = Settings(minutes=minutes, decay=decay, lr=lr, seed=seed, workers=workers)
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
    trainer = PublicTrainer(network, sets, targets_of(sets, labels, network.device), settings, compiled=compiled)
    train(trainer, store, validation, sets, out)
