"""Train a network on the pictures of an index: `python -m training train INDEX OUT`. Resumes from OUT/checkpoint.pt."""

from __future__ import annotations

import contextlib
import json
import math
import queue
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor, nn

from edgeparse.bundle import open_bundle
from training.data.dataset import CHAINS, Collection, Sample, add_variants, crop, some
from training.data.index.load import load_for_training
from training.data.online_augment import Renewal
from training.data.sampler import Batches, DeviceStore, HostStore
from training.fit import heads_embedding, heads_lines, heads_outputs
from training.fit.features import extract_features, strong_head_epochs
from training.fit.losses import Weights
from training.fit.trainer import Best, Learner
from training.fit.validation import Validation
from training.fit.warm_start import fitting, load_weights
from training.model.network import WINDOW, Network, NetworkConfig

# The side of a window in pixels, and until which share of the time. Half the side costs a quarter: small windows show more pictures in
# the same time, and the last part settles batch norms and pooling on the size that is shipped.
SIZES = ((0.5, 64), (0.7, 96), (1.0, WINDOW))
# Share of the training in which the learning rate rises to its highest.
WARM_UP = 0.05
# How long training goes on between two looks at validation, in seconds: a look takes a CPU ten of them.
BETWEEN_LOOKS = {"cpu": 240.0, "cuda": 10.0}

# What a bundle or network.pt that does not say it did: those from before it was said.
NOT_SAID: dict[str, object] = {
    "head_epochs": 0,
    "strong_head_epochs": 0,
    "online_augment": False,
    "strong": 0.0,
    "teacher": [],
    "hard_labels_for_zoo": False,
}

Batch = tuple[np.ndarray | Tensor, np.ndarray]


@dataclass(frozen=True)
class Settings:
    """How to train: the budget, which the learning rate's schedule follows, the highest `lr`, and `generators` in a batch, of which
    `public_fraction` are public ones. The budget is time in `minutes`, or where `megapixels` is given windows of so many million
    pixels, which cost the same on a busy machine. `pictures`: windows of a generator in a batch, and as many of photos. `paired`:
    whether pictures come
    with the photos they were made from. `sizes`: see `SIZES`.
    `hard_example_weight`: how much more often than one that is never missed a zoo generator is drawn whose pictures
    cannot be told from photos.
    `toned`: the share of windows with random tone curves.
    `muon`: whether the weights of hidden layers are trained with it, or with AdamW as all others. `head_epochs`: how often the embedding
    and the answers, learnt by themselves when the budget is used up, look at every picture. `online_augment`: whether variants go through
    new codec chains all the time, the share `strong` of them with heavy edits. `teacher`: network.pt files, from which it learns
    what is generated; with
    `hard_labels_for_zoo` of photos and public generators alone (`Learner`). `compiled`: whether TorchInductor makes the steps faster, which
    takes it a minute a size of windows and a C++ compiler."""

    minutes: float = 60.0
    megapixels: float | None = None
    seed: int = 1
    lr: float = 2e-3
    generators: int = 14
    pictures: int = 4
    weights: Weights = field(default_factory=Weights)
    public_fraction: float = 0.3
    paired: bool = True
    sizes: tuple[tuple[float, int], ...] = SIZES
    hard_example_weight: float = 4.0
    toned: float = 0.6
    muon: bool = True
    head_epochs: int = 0
    online_augment: bool = False
    strong: float = 0.0
    teacher: tuple[str, ...] = ()
    hard_labels_for_zoo: bool = False
    compiled: bool = False

    def progress(self, spent: float, pixels: int) -> float:
        """Share of the budget that is used up after `spent` seconds and windows of so many pixels."""
        spent, budget = (spent / 60, self.minutes) if self.megapixels is None else (pixels / 1e6, self.megapixels)
        return spent / budget if budget else 1.0

    def size(self, progress: float) -> int:
        """The side of a window in pixels after this share of the budget."""
        return next((size for until, size in self.sizes if progress < until), self.sizes[-1][1])


@contextlib.contextmanager
def prefetched(make: Callable[[], Batch], depth: int = 4) -> Iterator[Callable[[], Batch]]:
    """Make batches in a thread while the network works on the last one; the thread ends, and lets go of its pictures, on leaving."""
    ready: queue.Queue[Batch | Exception] = queue.Queue(depth)
    left = threading.Event()

    def run() -> None:
        while not left.is_set():
            try:
                ready.put(make())
            except Exception as error:
                ready.put(error)
                return

    def take() -> Batch:
        batch = ready.get()
        if isinstance(batch, Exception):
            raise batch
        return batch

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield take
    finally:
        left.set()
        while thread.is_alive():
            with contextlib.suppress(queue.Empty):
                ready.get(timeout=0.1)


def add_training_variants(collection: Collection, variants: int, seed: int) -> None:
    """Send all that is trained on through codec chains; zoo pictures, of which there are most, through `variants` each. With none, only
    those that spectral lines learn from have any."""
    add_variants(collection.select(split="train", zoo=False, source_split="train"), CHAINS, seed)
    if not variants:
        return
    add_variants(_made(collection, zoo=True), variants, seed)
    add_variants(collection.select(split="train", zoo=True, camera=True), CHAINS, seed)


@click.command()
@click.argument("index", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--minutes",
    default=60.0,
    show_default=True,
    help="Training time; the learning rate's schedule follows it. After 0 only what is fitted last is fitted anew.",
)
@click.option("--seed", default=1, show_default=True)
@click.option("--lr", default=2e-3, show_default=True, help="Highest learning rate.")
@click.option("--fen-width", default=32, show_default=True)
@click.option("--fen-blocks", default=2, show_default=True)
@click.option(
    "--generators", default=14, show_default=True, help="Generators in a batch, with as many windows of photos."
)
@click.option(
    "--init-from",
    type=click.Path(exists=True, path_type=Path),
    help="A bundle, or a network.pt, whose weights to begin with, in place of random ones; halve the rate.",
)
@click.option("--pictures", default=4, show_default=True, help="Windows of a generator in a batch.")
@click.option(
    "--public-fraction", default=0.3, show_default=True, help="Share of a batch's generators that are public ones."
)
@click.option("--variants", default=2, show_default=True, help="Codec chains kept of a zoo picture.")
@click.option(
    "--head-epochs",
    default=4,
    show_default=True,
    help="Times that pictures are looked at to learn the embedding and the answers by themselves, last; 0 keeps what was learnt before.",
)
@click.option(
    "--online-augment",
    is_flag=True,
    help="Send pictures through new codec chains all the time, on other processors: a GPU would learn the old ones by heart.",
)
@click.option(
    "--strong",
    default=0.0,
    show_default=True,
    help="Share of the renewed chains that have heavy edits; with --online-augment.",
)
@click.option(
    "--teacher",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False),
    help="A network.pt whose answer to camera or generated is learnt in place of the labels; of several, the mean.",
)
@click.option(
    "--hard-labels-for-zoo",
    is_flag=True,
    help="Learn of the zoo's generators from the labels all the same; with --teacher.",
)
@click.option(
    "--whole-windows", is_flag=True, help="Never smaller windows than those that are shipped, as a GPU has the time."
)
@click.option(
    "--compiled/--eager", help="Compile the network first; needs a C++ compiler, and pays after some minutes."
)
@click.option("--device", default="cuda" if torch.cuda.is_available() else "cpu", show_default=True)
def main(
    index: Path,
    out: Path,
    minutes: float,
    seed: int,
    lr: float,
    fen_width: int,
    fen_blocks: int,
    generators: int,
    init_from: Path | None,
    pictures: int,
    public_fraction: float,
    variants: int,
    head_epochs: int,
    online_augment: bool,
    strong: float,
    teacher: tuple[str, ...],
    hard_labels_for_zoo: bool,
    whole_windows: bool,
    compiled: bool,
    device: str,
) -> None:
    """Train on the pictures of INDEX; OUT gets checkpoint.pt, network.pt and log.jsonl, and what was seen in each of the head_epochs."""
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    place = torch.device(device)
    collection = load_for_training(index)
    click.echo(f"{len(collection.sources)} sources, {len(collection.samples)} pictures", err=True)
    validation = Validation.of(collection, seed)
    # Where there are no steps, those of the zoo, which take most of the memory, are not looked at.
    add_training_variants(collection, variants if minutes else 0, seed)
    network = Network(NetworkConfig(fen_width=fen_width, fen_blocks=fen_blocks))
    begun = begin(network, init_from, collection, anew=bool(head_epochs)) if init_from else None
    network.to(place, memory_format=torch.channels_last)
    how = Settings(
        minutes,
        seed=seed,
        lr=lr,
        generators=generators,
        pictures=pictures,
        public_fraction=public_fraction,
        sizes=((1.0, WINDOW),) if whole_windows else SIZES,
        head_epochs=head_epochs,
        online_augment=online_augment,
        strong=strong,
        teacher=teacher,
        hard_labels_for_zoo=hard_labels_for_zoo,
        compiled=compiled,
    )
    train(network, collection, validation, how, out, begun)


def begin(network: Network, origin: Path, collection: Collection, anew: bool = False) -> dict[str, object]:
    """Give a network the weights of `origin`, a bundle's folder or a network.pt; with `anew` the embedding may be wider or narrower there.
    Returns what the next bundle says of its origin.

    Raises:
        click.ClickException: the network there is another one, or learnt from what is now validation or test.
    """
    bundle = None if origin.is_file() else open_bundle(origin)
    if bundle is None:
        before = torch.load(origin, map_location="cpu", weights_only=True)
    else:
        before = json.loads((origin / "bundle.json").read_text())["training"]
    now = {source.name: source.split for source in collection.sources if source.labels is not None and not source.zoo}
    if moved := sorted(name for name, split in now.items() if before["generators"].get(name, split) != split):
        raise click.ClickException(
            f"{origin}: these generators are not on the side where it had them: {', '.join(moved)}; train from the start, or put them back"
        )
    try:
        if bundle is None:
            values = before["network"]
            network.load_state_dict(fitting(network, values) if anew else values)
        else:
            rng = np.random.default_rng(0)
            shown = some(collection.select(split="train", zoo=True, camera=True), 64, rng)
            model = bundle.read(bundle.variants["fp32"])
            load_weights(network, model, np.stack([crop(sample.pixels, rng) for sample in shown]), anew)
    except (ValueError, RuntimeError) as error:
        raise click.ClickException(f"{origin}: {error}") from error
    # Its zoo may have been another draw, with other generators under the same names.
    zoo = {name: split for name, split in before["generators"].items() if name not in now}
    kept = {key: before[key] for key in ("steps", "minutes", "hardware")}
    kept |= {key: before.get(key, none) for key, none in NOT_SAID.items()}
    learnt = before.get("zoo_generators", sum(split == "train" for split in zoo.values()))
    return {"bundle": bundle and bundle.label, **kept, "zoo_generators": learnt, "init_from": before.get("init_from")}


def train(
    network: nn.Module,
    collection: Collection,
    validation: Validation,
    settings: Settings,
    out: Path,
    begun: dict[str, object] | None = None,
) -> None:
    """Train a network, where it is, on the variants of pictures; the folder `out` gets checkpoint.pt, network.pt and log.jsonl, and
    with head_epochs a file of each source's pictures in each.

    Goes on from checkpoint.pt. What network.pt holds is the moving average as it was when validation scored it highest (early stopping:
    the public pictures are few, and are learnt by heart before the zoo is learnt), and `network.config`.

    Raises:
        ValueError: checkpoint.pt is of another index or of other settings than a budget.

    Args:
        network: uint8 windows [N, S, S, 3] -> every raw output by name, as `Network`.
        validation: what decides which moving average is kept; nothing is learnt from it.
        begun: what `begin` says of the weights that training begins with, to be kept in network.pt.
    """
    learner = Learner(
        network,
        collection.sources,
        lr=settings.lr,
        weights=settings.weights,
        muon=settings.muon,
        compiled=settings.compiled,
        teachers=[_teacher(Path(path)) for path in settings.teacher],
        hard_labels_for_zoo=settings.hard_labels_for_zoo,
    )
    run = _Run(learner, out / "checkpoint.pt", _what(collection, settings))
    if run.file.exists():
        run.resume()
        click.echo(f"resumed at step {learner.steps}, {run.spent / 60:.0f} min", err=True)
    if settings.progress(run.spent, run.pixels) < 1:
        _learn(run, collection, validation, settings, out)
    best = run.best
    best.consider(validation.scores(learner.average.network, learner.device), learner.steps, learner.average)
    run.save()
    if isinstance(network, Network):
        network.load_state_dict(best.values)
        best.values |= heads_lines.fit_lines(collection, settings.seed) if network.config.lines else {}
        best.values |= _learnt_last(network.eval(), collection, validation, settings, out)
    names = {source.name: source.split for source in collection.sources if source.labels is not None}
    _save(
        out / "network.pt",
        {
            "config": network.config.to_json(),
            "network": best.values,
            "generators": names,
            # Of the zoo, those that the run had pictures of.
            "zoo_generators": len({sample.source for sample in _made(collection, zoo=True)}),
            "steps": learner.steps,
            "kept_step": best.step,
            "minutes": run.spent / 60,
            "head_epochs": settings.head_epochs,
            "strong_head_epochs": strong_head_epochs(settings.head_epochs),
            "online_augment": settings.online_augment,
            "strong": settings.strong,
            "teacher": [Path(path).parent.name for path in settings.teacher],
            "hard_labels_for_zoo": settings.hard_labels_for_zoo,
            "seed": settings.seed,
            "init_from": begun,
            "hardware": learner.hardware,
        },
    )


@dataclass
class _Run:
    """A learner, how far it has come and the best that validation has seen of it, as they are kept in a checkpoint."""

    learner: Learner
    file: Path
    of: str
    spent: float = 0.0
    pixels: int = 0
    best: Best = field(default_factory=Best)

    def save(self) -> None:
        _save(
            self.file,
            {
                "of": self.of,
                **self.learner.state(),
                "spent": self.spent,
                "pixels": self.pixels,
                "best": vars(self.best),
            },
        )

    def resume(self) -> None:
        """Go on from the checkpoint.

        Raises:
            ValueError: it is of another index or of other settings.
        """
        state = torch.load(self.file, map_location=self.learner.device, weights_only=True)
        if state.get("of") != self.of:
            raise ValueError(
                f"{self.file} is of another index or other settings; name another folder than {self.file.parent}"
            )
        self.learner.restore(state)
        self.spent, self.pixels, self.best = state["spent"], state["pixels"], Best(**state["best"])


def _learn(run: _Run, collection: Collection, validation: Validation, settings: Settings, out: Path) -> None:
    """One step after another until the budget is used up."""
    learner = run.learner
    with contextlib.ExitStack() as stack:
        # A run that goes on must not see its first batches again.
        renewal = None
        if settings.online_augment:
            renewal = stack.enter_context(Renewal(collection, settings.seed + learner.steps, strong=settings.strong))
        batches = Batches(
            collection,
            settings.seed + learner.steps,
            generators=settings.generators,
            pictures=settings.pictures,
            public_fraction=settings.public_fraction,
            hard_example_weight=settings.hard_example_weight,
            toned=settings.toned,
            paired=settings.paired,
            store=partial(DeviceStore, device=learner.device) if learner.device.type == "cuda" else HostStore,
            renewal=renewal,
        )
        # Before the thread makes any: of larger windows than were meant, a network may not have the memory for one batch.
        batches.size = settings.size(settings.progress(run.spent, run.pixels))

        started = time.monotonic() - run.spent
        shown, saved = run.spent, run.spent
        between = BETWEEN_LOOKS[learner.device.type]
        totals: dict[str, float] = defaultdict(float)
        since, waited = 0, 0.0
        next_batch = stack.enter_context(prefetched(batches))
        while (progress := settings.progress(run.spent, run.pixels)) < 1:
            batches.size = settings.size(progress)
            share = min(1.0, progress / WARM_UP) * (0.5 * (1 + math.cos(math.pi * progress)) * 0.99 + 0.01)
            asked = time.monotonic()
            windows, source = next_batch()
            waited += time.monotonic() - asked
            terms, missed = learner.step(windows, source, share)
            batches.missed(source, missed)
            since, run.pixels = since + 1, run.pixels + len(windows) * windows.shape[1] ** 2
            run.spent = time.monotonic() - started
            for name, term in terms.items():
                totals[name] += term
            if run.spent - shown > min(60.0, between):
                line: dict[str, object] = {
                    "step": learner.steps,
                    "minutes": round(run.spent / 60, 1),
                    "windows": learner.steps * len(windows),
                    "windows_per_s": round(since * len(windows) / (run.spent - shown)),
                    "waited_for_data": round(waited / (run.spent - shown), 3),
                }
                line |= {name: round(total / since, 4) for name, total in totals.items()}
                if run.spent - saved > between:
                    figures = validation.scores(learner.average.network, learner.device)
                    run.best.consider(figures, learner.steps, learner.average)
                    line |= {f"val_auc_{name}": round(figure, 4) for name, figure in figures.items()}
                    run.save()
                    saved = time.monotonic() - started
                with (out / "log.jsonl").open("a") as log:
                    log.write(json.dumps(line) + "\n")
                click.echo(json.dumps(line), err=True)
                totals.clear()
                shown, since, waited = run.spent, 0, 0.0


def _learnt_last(
    network: Network, collection: Collection, validation: Validation, settings: Settings, out: Path
) -> dict[str, Tensor]:
    """The values of the layers that are learnt by themselves, by their names; none without head_epochs. What is seen of the pictures is
    kept in the folder `out`."""
    if not settings.head_epochs:
        return {}
    shown = _made(collection), collection.select(split="train", camera=True, source_split="train")
    made, photos = (
        extract_features(network, samples, settings.head_epochs, settings.seed, kept=out, compiled=settings.compiled)
        for samples in shown
    )
    return heads_embedding.fit_embedding(
        network, collection.sources, made, validation, settings.seed
    ) | heads_outputs.fit_outputs(network, collection.sources, made, photos, settings.seed)


def _made(collection: Collection, zoo: bool | None = None) -> list[Sample]:
    """Pictures that the training generators made, for training."""
    return collection.select(split="train", camera=False, zoo=zoo, source_split="train")


def _teacher(path: Path) -> Network:
    """A network that says of windows what all its layers but those fitted last say."""
    network, _ = load(path)
    network.by_lines = None
    return network.requires_grad_(False)


def _what(collection: Collection, settings: Settings) -> str:
    """What a checkpoint is of: one of other pictures or settings cannot be gone on from. A budget may change, and how it is computed."""
    fixed = replace(settings, minutes=0.0, megapixels=None, head_epochs=0, compiled=False)
    return json.dumps([asdict(fixed), [(source.name, source.split) for source in collection.sources]])


def _save(path: Path, state: dict[str, object]) -> None:
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    temporary.replace(path)


def load(path: Path) -> tuple[Network, dict]:
    """(network in evaluation mode, what was stored beside it) of a `network.pt`."""
    stored = torch.load(path, map_location="cpu", weights_only=True)
    network = Network(NetworkConfig.from_json(stored["config"]))
    network.load_state_dict(stored["network"])
    return network.eval(), stored
