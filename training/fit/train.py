"""Train a network on the pictures of an index: `python -m training train INDEX OUT`.

A run that was interrupted resumes from OUT/checkpoint.pt.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections import defaultdict
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor, nn

from training.data.dataset import CHAINS, Collection, Sample, add_variants
from training.data.index.load import load_for_training
from training.data.online_augment import OnlineAugmenter
from training.data.sampler import Batches, DeviceStore, HostStore, prefetch
from training.device import to_channels_last
from training.fit import heads_embedding, heads_lines, heads_outputs
from training.fit.features import extract_features, strong_head_epochs
from training.fit.losses import Weights
from training.fit.trainer import Best, Trainer
from training.fit.validation import Validation
from training.fit.warm_start import initialize_from
from training.model.network import WINDOW, Network, NetworkConfig

# Window sizes in pixels, each with the fraction of the budget at which it ends. Half the side costs a quarter, so that small windows show
# more pictures in the same time. The last part adapts batch norms and pooling to the size that is shipped.
SIZES = ((0.5, 64), (0.7, 96), (1.0, WINDOW))
# Fraction of the budget in which the learning rate rises to its peak.
WARM_UP = 0.05
# Seconds between two validations. One takes a CPU about ten seconds.
VALIDATION_INTERVAL = {"cpu": 240.0, "cuda": 10.0}
# Maximum number of seconds between two lines of the log.
LOG_INTERVAL = 60.0


@dataclass(frozen=True)
class Settings:
    """Settings of a training run."""

    # Budget in minutes, which the learning rate's schedule follows.
    minutes: float = 60.0
    # Budget in millions of pixels of windows. Replaces `minutes`, and does not depend on the speed of the machine.
    megapixels: float | None = None
    seed: int = 1
    # Peak learning rate.
    lr: float = 2e-3
    # Generators in a batch.
    generators: int = 14
    # Windows per generator in a batch. The batch has as many windows of photos as of generators.
    pictures: int = 4
    weights: Weights = field(default_factory=Weights)
    # Fraction of a batch's generators that are public.
    public_fraction: float = 0.3
    # Pair pictures with the photos they were made from.
    paired: bool = True
    # See `SIZES`.
    sizes: tuple[tuple[float, int], ...] = SIZES
    # How much more often hard zoo generators are drawn (`Batches.zoo_probabilities`).
    hard_example_weight: float = 4.0
    # Fraction of windows with a random tone curve.
    toned: float = 0.6
    # Train weights of hidden layers with Muon, not AdamW.
    muon: bool = True
    # Passes over all pictures in which embedding and output layers are refitted at the end; 0 skips this.
    head_epochs: int = 0
    # Replace variants by new codec chains during training.
    online_augment: bool = False
    # Fraction of the new chains with strong edits.
    strong: float = 0.0
    # network.pt files whose detection is learnt in place of the labels.
    teacher: tuple[str, ...] = ()
    # Use labels for zoo generators even with teachers.
    hard_labels_for_zoo: bool = False
    # Compile the network with TorchInductor. Takes about a minute per window size, and a C++ compiler.
    compiled: bool = False

    def progress(self, spent: float, pixels: int) -> float:
        """Return the fraction of the budget used after `spent` seconds and windows of `pixels` pixels in total."""
        used, budget = (spent / 60, self.minutes) if self.megapixels is None else (pixels / 1e6, self.megapixels)
        return used / budget if budget else 1.0

    def size(self, progress: float) -> int:
        """Return the side of a window in pixels after this fraction of the budget."""
        return next((size for until, size in self.sizes if progress < until), self.sizes[-1][1])


def lr_factor(progress: float) -> float:
    """Return the learning rate as a fraction of its peak: linear warm-up, then a cosine down to 1%."""
    return min(1.0, progress / WARM_UP) * (0.5 * (1 + math.cos(math.pi * progress)) * 0.99 + 0.01)


def add_training_variants(collection: Collection, variants: int, seed: int) -> None:
    """Apply codec chains to all training pictures.

    Args:
        collection: sources and pictures.
        variants: chains per zoo picture, which are most of the pictures. With 0, only public pictures and their photos get chains; the
            spectral lines are fitted on these.
        seed: seed of the chains.
    """
    add_variants(collection.select(split="train", zoo=False, source_split="train"), CHAINS, seed)
    if not variants:
        return
    add_variants(_generated(collection, zoo=True), variants, seed)
    add_variants(collection.select(split="train", zoo=True, camera=True), CHAINS, seed)


@click.command()
@click.argument("index", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--minutes",
    default=60.0,
    show_default=True,
    help="Training time, which the learning rate's schedule follows. 0 only refits the last layers.",
)
@click.option("--seed", default=1, show_default=True, help="Seed of weights and data order.")
@click.option("--lr", default=2e-3, show_default=True, help="Peak learning rate.")
@click.option("--fen-width", default=32, show_default=True, help="Channels of the FEN.")
@click.option("--fen-blocks", default=2, show_default=True, help="Residual blocks of the FEN.")
@click.option(
    "--generators", default=14, show_default=True, help="Generators in a batch, with as many windows of photos."
)
@click.option(
    "--init-from",
    type=click.Path(exists=True, path_type=Path),
    help="Bundle or network.pt to take initial weights from. Halve the learning rate with it.",
)
@click.option("--pictures", default=4, show_default=True, help="Windows per generator in a batch.")
@click.option(
    "--public-fraction", default=0.3, show_default=True, help="Fraction of a batch's generators that are public."
)
@click.option("--variants", default=2, show_default=True, help="Codec chains per zoo picture.")
@click.option(
    "--head-epochs",
    default=4,
    show_default=True,
    help="Passes over the pictures to refit embedding and output layers at the end; 0 skips this.",
)
@click.option(
    "--online-augment",
    is_flag=True,
    help="Compute new codec chains on other cores during training. Without it, a GPU memorises the old ones.",
)
@click.option(
    "--strong",
    default=0.0,
    show_default=True,
    help="Fraction of the new chains with strong edits; with --online-augment.",
)
@click.option(
    "--teacher",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False),
    help="network.pt whose detection is learnt in place of the labels. Repeat it to average several.",
)
@click.option("--hard-labels-for-zoo", is_flag=True, help="Use labels for zoo generators even with --teacher.")
@click.option("--whole-windows", is_flag=True, help="Use windows of the shipped size from the start, as a GPU can.")
@click.option(
    "--compiled/--eager", help="Compile the network first. Needs a C++ compiler, and pays off after some minutes."
)
@click.option(
    "--device", default="cuda" if torch.cuda.is_available() else "cpu", show_default=True, help="Device to train on."
)
def main(
    index: Path,
    out: Path,
    fen_width: int,
    fen_blocks: int,
    init_from: Path | None,
    variants: int,
    whole_windows: bool,
    device: str,
    **options: Any,
) -> None:
    """Train on the pictures of INDEX.

    Writes checkpoint.pt, network.pt, log.jsonl and the features of the head epochs to OUT.
    """
    settings = Settings(**options, sizes=((1.0, WINDOW),) if whole_windows else SIZES)
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(settings.seed)
    collection = load_for_training(index)
    click.echo(f"{len(collection.sources)} sources, {len(collection.samples)} pictures", err=True)
    validation = Validation.from_collection(collection, settings.seed)
    # Without training steps, variants of the zoo are not used, and they take most of the memory.
    add_training_variants(collection, variants if settings.minutes else 0, settings.seed)
    network = Network(NetworkConfig(fen_width=fen_width, fen_blocks=fen_blocks))
    origin = None
    if init_from:
        origin = initialize_from(network, init_from, collection, new_embedding=bool(settings.head_epochs))
    to_channels_last(network, torch.device(device))
    train(network, collection, validation, settings, out, origin)


def train(
    network: nn.Module,
    collection: Collection,
    validation: Validation,
    settings: Settings,
    out: Path,
    origin: dict[str, object] | None = None,
) -> None:
    """Train a network on its device, and write network.pt.

    Resumes from `out`/checkpoint.pt if it exists. network.pt holds the moving average with the highest validation score (early stopping:
    the few public pictures are memorised before the zoo is learnt).

    Args:
        network: maps windows uint8[N, S, S, 3] to raw outputs by name, like `Network`. Has a `config` with `to_json`.
        collection: sources, and samples with their variants.
        validation: selects the moving average to keep. The network is not trained on it.
        settings: settings of the run.
        out: folder of checkpoint.pt, network.pt, log.jsonl, and with `head_epochs` the features of each source.
        origin: result of `initialize_from`, which network.pt repeats.

    Raises:
        ValueError: checkpoint.pt is of another index or of other settings.
    """
    trainer = Trainer(
        network,
        collection.sources,
        lr=settings.lr,
        weights=settings.weights,
        muon=settings.muon,
        compiled=settings.compiled,
        teachers=[_teacher(Path(path)) for path in settings.teacher],
        hard_labels_for_zoo=settings.hard_labels_for_zoo,
    )
    run = _Run(trainer, out / "checkpoint.pt", _identity(collection, settings))
    if run.file.exists():
        run.resume()
        click.echo(f"resumed at step {trainer.steps}, {run.spent / 60:.0f} min", err=True)
    if settings.progress(run.spent, run.pixels) < 1:
        _train_steps(run, collection, validation, settings, out)
    best = run.best
    best.consider(validation.scores(trainer.average.network, trainer.device), trainer.steps, trainer.average)
    run.save()
    if isinstance(network, Network):
        network.load_state_dict(best.values)
        best.values |= heads_lines.fit_lines(collection, settings.seed) if network.config.lines else {}
        best.values |= _refit_heads(network.eval(), collection, validation, settings, out)
    config: Any = network.config
    _save(
        out / "network.pt",
        {"config": config.to_json(), **_summary(run, collection, settings), "init_from": origin},
    )


@dataclass
class _Run:
    """A training run, as its checkpoint keeps it.

    Attributes:
        trainer: network and optimizers.
        file: the checkpoint.
        identity: fingerprint of data and settings. A checkpoint resumes only if it matches.
        spent: training time in seconds.
        pixels: pixels of all windows so far.
        best: the best moving average so far.
    """

    trainer: Trainer
    file: Path
    identity: str
    spent: float = 0.0
    pixels: int = 0
    best: Best = field(default_factory=Best)

    def save(self) -> None:
        progress = {"spent": self.spent, "pixels": self.pixels, "best": vars(self.best)}
        _save(self.file, {"of": self.identity, **self.trainer.state(), **progress})

    def resume(self) -> None:
        """Restore the run from the checkpoint.

        Raises:
            ValueError: the checkpoint is of another index or of other settings.
        """
        state = torch.load(self.file, map_location=self.trainer.device, weights_only=True)
        if state.get("of") != self.identity:
            raise ValueError(
                f"{self.file} is of another index or other settings; choose another folder than {self.file.parent}"
            )
        self.trainer.restore(state)
        self.spent, self.pixels, self.best = state["spent"], state["pixels"], Best(**state["best"])


class _Log:
    """Averages losses, and writes a line about once a minute."""

    def __init__(self, file: Path, spent: float) -> None:
        self._file = file
        self._start(spent)

    def _start(self, spent: float) -> None:
        self.start, self._steps, self._waited = spent, 0, 0.0
        self._totals: dict[str, float] = defaultdict(float)

    def add(self, terms: dict[str, float], waited: float) -> None:
        """Add the losses of a step, and the seconds it waited for its batch."""
        self._steps += 1
        self._waited += waited
        for name, term in terms.items():
            self._totals[name] += term

    def write(self, run: _Run, windows: int, scores: dict[str, float]) -> None:
        """Write the averages since the last line; `windows` is the size of a batch."""
        seconds = run.spent - self.start
        line: dict[str, object] = {
            "step": run.trainer.steps,
            "minutes": round(run.spent / 60, 1),
            "windows": run.trainer.steps * windows,
            "windows_per_s": round(self._steps * windows / seconds),
            "waited_for_data": round(self._waited / seconds, 3),
        }
        line |= {name: round(total / self._steps, 4) for name, total in self._totals.items()}
        line |= {f"val_auc_{name}": round(score, 4) for name, score in scores.items()}
        with self._file.open("a") as log:
            log.write(json.dumps(line) + "\n")
        click.echo(json.dumps(line), err=True)
        self._start(run.spent)


def _batches(run: _Run, collection: Collection, settings: Settings, augmenter: OnlineAugmenter | None) -> Batches:
    device = run.trainer.device
    batches = Batches(
        collection,
        # A resumed run must not repeat its first batches.
        settings.seed + run.trainer.steps,
        generators=settings.generators,
        pictures=settings.pictures,
        public_fraction=settings.public_fraction,
        hard_example_weight=settings.hard_example_weight,
        toned=settings.toned,
        paired=settings.paired,
        store=partial(DeviceStore, device=device) if device.type == "cuda" else HostStore,
        augmenter=augmenter,
    )
    # Set before any batch is sampled: one of larger windows might not fit into memory.
    batches.size = settings.size(settings.progress(run.spent, run.pixels))
    return batches


def _train_steps(run: _Run, collection: Collection, validation: Validation, settings: Settings, out: Path) -> None:
    """Train until the budget is used up."""
    trainer = run.trainer
    with contextlib.ExitStack() as stack:
        augmenter = None
        if settings.online_augment:
            seed = settings.seed + trainer.steps
            augmenter = stack.enter_context(OnlineAugmenter(collection, seed, strong=settings.strong))
        batches = _batches(run, collection, settings, augmenter)
        start, saved = time.monotonic() - run.spent, run.spent
        log = _Log(out / "log.jsonl", run.spent)
        interval = VALIDATION_INTERVAL[trainer.device.type]
        next_batch = stack.enter_context(prefetch(batches))
        while (progress := settings.progress(run.spent, run.pixels)) < 1:
            batches.size = settings.size(progress)
            requested = time.monotonic()
            windows, source = next_batch()
            waited = time.monotonic() - requested
            terms, losses = trainer.step(windows, source, lr_factor(progress))
            batches.update_losses(source, losses)
            log.add(terms, waited)
            run.pixels += len(windows) * windows.shape[1] ** 2
            run.spent = time.monotonic() - start
            if run.spent - log.start > min(LOG_INTERVAL, interval):
                scores: dict[str, float] = {}
                if run.spent - saved > interval:
                    scores = validation.scores(trainer.average.network, trainer.device)
                    run.best.consider(scores, trainer.steps, trainer.average)
                    run.save()
                    saved = time.monotonic() - start
                log.write(run, len(windows), scores)


def _refit_heads(
    network: Network, collection: Collection, validation: Validation, settings: Settings, out: Path
) -> dict[str, Tensor]:
    """Return refitted values of embedding and output layers by name; empty without `head_epochs`."""
    if not settings.head_epochs:
        return {}
    generated, photos = (
        extract_features(network, samples, settings.head_epochs, settings.seed, kept=out, compiled=settings.compiled)
        for samples in (
            _generated(collection),
            collection.select(split="train", camera=True, source_split="train"),
        )
    )
    embedding = heads_embedding.fit_embedding(network, collection.sources, generated, validation, settings.seed)
    return embedding | heads_outputs.fit_outputs(network, collection.sources, generated, photos, settings.seed)


def _generated(collection: Collection, zoo: bool | None = None) -> list[Sample]:
    """Return the training pictures of training generators."""
    return collection.select(split="train", camera=False, zoo=zoo, source_split="train")


def _teacher(path: Path) -> Network:
    """Load a teacher, without the detector on spectral lines, which is fitted last."""
    network, _ = load(path)
    network.by_lines = None
    return network.requires_grad_(False)


def _identity(collection: Collection, settings: Settings) -> str:
    """Return the fingerprint of data and settings. The budget, `head_epochs` and `compiled` may change when a run resumes."""
    fixed = replace(settings, minutes=0.0, megapixels=None, head_epochs=0, compiled=False)
    return json.dumps([asdict(fixed), [(source.name, source.split) for source in collection.sources]])


def _summary(run: _Run, collection: Collection, settings: Settings) -> dict[str, object]:
    """Return the weights of a finished run, and the facts about it that a bundle repeats."""
    return {
        "network": run.best.values,
        "generators": {source.name: source.split for source in collection.sources if source.labels is not None},
        # Zoo generators with training pictures.
        "zoo_generators": len({sample.source for sample in _generated(collection, zoo=True)}),
        "steps": run.trainer.steps,
        "kept_step": run.best.step,
        "minutes": run.spent / 60,
        "head_epochs": settings.head_epochs,
        "strong_head_epochs": strong_head_epochs(settings.head_epochs),
        "online_augment": settings.online_augment,
        "strong": settings.strong,
        "teacher": [Path(path).parent.name for path in settings.teacher],
        "hard_labels_for_zoo": settings.hard_labels_for_zoo,
        "seed": settings.seed,
        "hardware": run.trainer.hardware,
    }


def _save(path: Path, state: dict[str, object]) -> None:
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    temporary.replace(path)


def load(path: Path) -> tuple[Network, dict[str, Any]]:
    """Return the network of a network.pt, in evaluation mode, and the stored facts."""
    stored = torch.load(path, map_location="cpu", weights_only=True)
    network = Network(NetworkConfig.from_json(stored["config"]))
    network.load_state_dict(stored["network"])
    return network.eval(), stored
