"""What the network's parts are worth, and how far its figures can be trusted: `python -m benchmarks.study run INDEX OUT`.

Many networks are trained on equally many windows and evaluated on the same conditions: over folds that leave other generators and photo
sources out, with other seeds, with one thing taken away each; and the published network, whose windows cost twenty times as much, for
the same time. Each run has a folder in OUT and is a process of its own; it goes on where it was stopped, and is done when it has a
`result.json`.
`python -m benchmarks.study collect OUT` keeps the figures in training/results/study.json, which docs/accuracy.md shows.

What a bundle would be calibrated with is fitted by the exporter's own functions.
"""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import peer_network
from edgeparse import files, windows
from edgeparse.backends.base import Backend
from edgeparse.backends.onnxruntime import OnnxRuntimeBackend, usable_cores
from edgeparse.bundle import Calibration, Loss, Parameter, SameGenerator
from export.calibration import (
    fit_calibration,
    fit_gallery,
    fit_labels,
    fit_shrinkage,
    label_spaces,
    redrawn,
    validation_pictures,
)
from export.onnx_graph import export
from export.shrinkage import Shrinkage
from training.bars import headline
from training.data.dataset import Collection, as_it_comes, crop
from training.data.folds import FOLDS, refold, unseen_photos
from training.data.index.load import load
from training.fit.losses import Weights
from training.fit.train import Settings, add_training_variants, train
from training.fit.validation import Validation
from training.labels import FAMILIES
from training.model.network import WINDOW, Network, NetworkConfig
from training.predictions import HEADS, predict
from training.questions import evaluate
from training.zoo.pool import leave_with_parent

RESULT = Path(__file__).parent.parent / "training" / "results" / "study.json"
CONDITIONS = ("clean", "social media", "mixed")
# Windows of a picture that is judged, where a bundle's evaluation takes eight: most of the time goes into public pictures' windows.
WINDOWS = 2
# Pictures of each of the zoo's training generators in a gallery, and tried against it: mixed or clean, and after anything else.
KNOWN_ZOO = (15, 10, 4)
# Codec chains kept of a picture of the zoo: a short training sees hardly more.
VARIANTS = 1
# The embedding is learnt with all else and never by itself, for which the bundle's has a hidden layer twice as wide.
STUDIED = NetworkConfig(compared=NetworkConfig.hidden)


@dataclass(frozen=True)
class Run:
    """One network of the study: what is changed, in words and in fact. `zoo`: how many generators of it to train on, None for all.
    `photos_left_out`: photo sources of which training sees nothing, beside those of the fold. `published`: how many times as long as ours
    the published network is trained in its place; 0 for ours. `windows`: whether it is shown windows of its size as the camera or the
    generator made them, and not the whole picture, shrunk."""

    name: str
    changed: str
    fold: int = 0
    seed: int = 1
    lr: float = 2e-3
    weights: Weights = field(default_factory=Weights)
    paired: bool = True
    codecs: bool = True
    real: bool = True
    zoo: int | None = None
    photos_left_out: tuple[str, ...] = ()
    hard_example_weight: float = Settings.hard_example_weight
    toned: float = Settings.toned
    muon: bool = Settings.muon
    network: NetworkConfig = STUDIED
    published: int = 0
    windows: bool = False

    @property
    def shrinks(self) -> bool:
        """Whether the network is shown whole pictures, shrunk."""
        return bool(self.published) and not self.windows

    @property
    def size(self) -> int:
        """The side in pixels of what the network is shown."""
        return peer_network.PeerConfig().size if self.published else WINDOW

    def frame(self, pixels: np.ndarray) -> np.ndarray:
        """What the network is shown of a picture that is judged, uint8[N, S, S, 3]: of windows as many pixels whatever their size."""
        if self.shrinks:
            return peer_network.frame(pixels)
        return windows.cut(pixels, WINDOWS * (WINDOW // self.size) ** 2, self.size).pixels

    def cut(self, pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """What it is shown of a picture of validation while it is trained, uint8[S, S, 3]."""
        if self.shrinks:
            return peer_network.frame(pixels)[0]
        return crop(pixels, rng, self.size)


def _without(*terms: str) -> Weights:
    return replace(Weights(), **dict.fromkeys(terms, 0.0))


# The fold of all that something is decided by: fold 0 is that of the bundle, and nothing is to be tuned on its test generators.
DECIDING = 1
# The source of nearly half of the photos.
LARGEST = "imagenet1k"

RUNS = (
    *(Run(f"fold-{k}", f"fold {k}", fold=k) for k in range(len(FOLDS))),
    Run("published", "the published network instead of ours", published=1),
    Run(
        "published-adamw",
        "the published network, by AdamW at a quarter of the rate",
        published=1,
        lr=5e-4,
        muon=False,
    ),
    Run("published-windows", "the published network, shown windows", published=1, windows=True),
    *(Run(f"seed-{seed}", f"seed {seed}", DECIDING, seed) for seed in (2, 3)),
    *(
        replace(run, fold=DECIDING)
        for run in (
            Run("no-emphasis", "every zoo generator drawn equally often", hard_example_weight=0.0),
            Run("no-metric", "no metric loss", weights=_without("metric", "proxy")),
            Run("no-proxies", "metric loss within a batch only", weights=_without("proxy")),
            Run("no-tones", "trained on pictures in their own tones only", toned=0.0),
            Run("no-twins", "pictures without the photos that they were made from", paired=False),
            Run("no-codecs", "trained on clean pictures", codecs=False),
            Run("no-real", "no public generators in training", real=False),
            Run("zoo-32", "32 zoo generators in training", zoo=32),
            Run("zoo-80", "80 zoo generators in training", zoo=80),
            Run("zoo-160", "160 zoo generators in training", zoo=160),
            Run("no-fen-moments", "heads see the trunk's features only", network=replace(STUDIED, fen_moments=False)),
            Run("no-spectrum", "heads see no block spectrum", network=replace(STUDIED, spectrum=False)),
            Run("no-lines", "nobody sees spectral lines", network=replace(STUDIED, lines=False)),
            Run("no-muon", "AdamW for every weight", muon=False),
            Run("no-magnitude", "fingerprint not held small", weights=_without("magnitude")),
            Run("no-low-frequency", "fingerprint's low frequencies allowed", weights=_without("low_frequency")),
            Run("no-repetitive", "fingerprint not made repetitive", weights=_without("repetitive")),
            Run("no-symmetric", "fingerprint's spectrum not made symmetric", weights=_without("symmetric")),
        )
    ),
    Run("published-long", "the published network, four times as long", published=4),
    # Of the bundle's own fold, both on one zoo, which need not be that of the others.
    Run("with-largest", "fold 0, for what follows"),
    Run("without-largest", "fold 0, the largest photo source left out, too", photos_left_out=(LARGEST,)),
)


@dataclass(frozen=True)
class Fitted:
    """What a bundle would hold of what was fitted on validation pictures."""

    calibration: Calibration
    same: SameGenerator | None
    continuous: tuple[Parameter, ...]
    losses: tuple[Loss, ...]

    @staticmethod
    def of(labels: dict, calibration: dict) -> Fitted:
        same = calibration.pop("same", None)
        return Fitted(
            Calibration(**calibration),
            same and SameGenerator(**same),
            tuple(Parameter(**entry) for entry in labels["continuous"]),
            tuple(Loss(**entry) for entry in labels["losses"]),
        )


def smaller_zoo(collection: Collection, count: int | None) -> Collection:
    """With only `count` of the zoo's training generators, as many of each family as there are; the others are for nothing.

    The smaller zoos are part of the larger ones.
    """
    by_family = {
        family: [
            s for s in collection.sources if s.zoo and s.split == "train" and s.labels and s.labels.family == family
        ]
        for family in FAMILIES
    }
    rounds = max(map(len, by_family.values()))
    order = [members[i].name for i in range(rounds) for members in by_family.values() if i < len(members)]
    kept = set(order[:count])
    dropped = {
        i
        for i, s in enumerate(collection.sources)
        if s.zoo and s.labels is not None and s.split == "train" and s.name not in kept
    }
    return Collection(
        [replace(s, split="none") if i in dropped else s for i, s in enumerate(collection.sources)],
        [sample for sample in collection.samples if sample.source not in dropped],
    )


def prepare(collection: Collection, run: Run) -> None:
    """Give every picture that is trained on its variants: through codec chains or clean, whole and shrunk for the published network."""
    trained = collection.select(split="train", source_split="train")
    if run.codecs:
        add_training_variants(collection, VARIANTS, run.seed)
    else:
        for sample in trained:
            sample.chains, sample.variants = [0], [as_it_comes(sample)]
    if run.shrinks:
        for sample in trained:
            sample.variants = [peer_network.frame(pixels)[0] for pixels in sample.variants]


def make(run: Run) -> Network | peer_network.Peer:
    """The run's network, with its first weights."""
    torch.manual_seed(run.seed)
    return peer_network.Peer(peer_network.PeerConfig()) if run.published else Network(run.network)


def settings(run: Run, megapixels: float) -> Settings:
    """How one of our networks is trained."""
    return Settings(
        megapixels=megapixels,
        seed=run.seed,
        lr=run.lr,
        weights=run.weights,
        public_fraction=Settings.public_fraction if run.real else 0.0,
        paired=run.paired,
        hard_example_weight=run.hard_example_weight,
        toned=run.toned,
        muon=run.muon,
    )


def published_settings(run: Run, minutes: float) -> Settings:
    """How the published network is trained where ours takes so many minutes."""
    return Settings(
        run.published * minutes,
        seed=run.seed,
        lr=run.lr,
        muon=run.muon,
        sizes=((1.0, run.size),),
    )


def learn(run: Run, collection: Collection, how: Settings, folder: Path, device: torch.device) -> None:
    """Train the run's network; `folder` gets what `training train` writes."""
    validation = Validation.of(collection, run.seed, run.cut)
    prepare(collection, run)
    network = make(run).to(device, memory_format=torch.channels_last)
    train(network, collection, validation, how, folder)


def multiply_accumulates(network: nn.Module, size: int) -> int:
    """Of convolutions and matrix products, for one window of `size` x `size` pixels."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(torch.zeros((1, size, size, 3), dtype=torch.uint8))
    return counter.get_total_flops() // 2


@dataclass(frozen=True)
class Shrunk:
    """A backend whose estimates of the continuous parameters are drawn to the medians, as a bundle's network does by itself."""

    backend: Backend
    shrinkage: Shrinkage

    @property
    def name(self) -> str:
        return self.backend.name

    def run(self, windows: np.ndarray, outputs: Sequence[str]) -> dict[str, np.ndarray]:
        """As `Backend.run`; the estimates are among the outputs."""
        made = self.backend.run(windows, outputs)
        return made | {"continuous": self.shrinkage.applied(made["continuous"])}


def judge(run: Run, backend: Backend, collection: Collection) -> dict[str, object]:
    """Fit on validation pictures what a bundle is calibrated with, and evaluate on test ones, as `training.evaluate` does."""
    look = partial(predict, backend, condition="mixed", frame=run.frame)
    gallery = fit_gallery(look, collection)
    val = validation_pictures(collection)
    p = {key: look(samples) for key, samples in val.items()}
    shrinkage = fit_shrinkage(p["zoo"], collection)
    p["zoo"].values["continuous"] = shrinkage.applied(p["zoo"].values["continuous"])
    labels = label_spaces(collection)
    fit_labels(labels, p["zoo"], collection)
    fitted = Fitted.of(labels, fit_calibration(p, redrawn(look, val, p), gallery, collection))
    ours = Shrunk(backend, shrinkage)
    return evaluate(fitted, ours, gallery, collection, "test", CONDITIONS, run.frame, KNOWN_ZOO, many=0)


def perform(
    run: Run,
    load: Callable[[], Collection],
    megapixels: float,
    out: Path,
    device: str,
    threads: int,
    compiled: bool = False,
) -> None:
    """Do a run, or what is left of it; `compiled` makes its training faster and changes nothing else.

    Raises:
        ValueError: the published network cannot be given our time, because ours is not done; or what is left is of other settings.
    """
    torch.set_num_threads(threads)
    folder, place = out / run.name, torch.device(device)
    folder.mkdir(parents=True, exist_ok=True)
    _settle(folder, run, megapixels)
    collection = smaller_zoo(refold(load(), run.fold, run.photos_left_out), run.zoo)
    trained = folder / "network.pt"
    if not trained.exists():
        how = published_settings(run, _minutes_of_ours(out)) if run.published else settings(run, megapixels)
        learn(run, collection, replace(how, compiled=compiled), folder, place)
    stored = torch.load(trained, map_location="cpu", weights_only=True)
    network = make(run)
    network.load_state_dict(stored["network"])
    export(network, HEADS, folder / "model.onnx", run.size)
    backend = OnnxRuntimeBackend((folder / "model.onnx").read_bytes(), threads=threads)
    result = {
        **_settings_of(run, megapixels),
        "training": {key: stored[key] for key in ("steps", "minutes", "hardware")},
        "generators": stored["generators"],
        "multiply_accumulates": multiply_accumulates(network, run.size),
        "unseen_photos": sorted(unseen_photos(run.fold, run.photos_left_out)),
        # Lines learn from edited pictures, too, and thresholds are fitted to them.
        "heavy_edits": True,
        "evaluation": judge(run, backend, collection),
    }
    files.replace(folder / "result.json", (json.dumps(result, indent=1) + "\n").encode())


def _settings_of(run: Run, megapixels: float) -> dict[str, Any]:
    """What a result rests on, as JSON gives it back."""
    found: dict[str, Any] = json.loads(json.dumps({"run": asdict(run), "budget_megapixels": megapixels}))
    return found


def _rests_on(found: dict[str, Any], run: Run, megapixels: float | None) -> bool:
    """Whether a result, or what was collected of it, is of these settings, and of this budget where there is one. Parts of our network
    say nothing of the published one."""
    then = _as_today({key: found[key] for key in ("run", "budget_megapixels")})
    today = _settings_of(run, then["budget_megapixels"] if megapixels is None else megapixels)
    if run.published:
        then, today = ({**how, "run": {**how["run"], "network": None}} for how in (then, today))
    return then == today


def _as_today(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings that were stored, with the width of the embedding's hidden layer where they say only that there is one, and no photo
    source left out where they do not say."""
    settings = {**settings, "run": {"photos_left_out": [], **settings["run"]}}
    network = settings["run"]["network"]
    if network.get("compared") is not True:
        return settings
    return {**settings, "run": {**settings["run"], "network": {**network, "compared": network["hidden"]}}}


def _settle(folder: Path, run: Run, megapixels: float) -> None:
    """Keep what an empty folder's network will be trained with; what is in another was begun with the same.

    Raises:
        ValueError: it was not, or does not say.
    """
    path, wanted = folder / "settings.json", _settings_of(run, megapixels)
    if not any(folder.iterdir()):
        files.replace(path, (json.dumps(wanted, indent=1) + "\n").encode())
    elif not path.exists() or _as_today(json.loads(path.read_text())) != wanted:
        raise _other_settings(folder)


def _other_settings(folder: Path) -> ValueError:
    return ValueError(f"{folder} was begun with other settings; remove it, or name another folder")


def _minutes_of_ours(out: Path) -> float:
    path = out / RUNS[0].name / "result.json"
    if not path.exists():
        raise ValueError(
            f"the published network is trained for as long as {RUNS[0].name}, of which there is no {path}; do that first"
        )
    minutes: float = json.loads(path.read_text())["training"]["minutes"]
    return minutes


def done(run: Run, megapixels: float, out: Path) -> bool:
    """Whether a run has its result.

    Raises:
        ValueError: it has one of other settings.
    """
    folder = out / run.name
    if not (folder / "result.json").exists():
        return False
    if not _rests_on(json.loads((folder / "result.json").read_text()), run, megapixels):
        raise _other_settings(folder)
    return True


def collect(out: Path, before: Sequence[dict[str, Any]] = ()) -> dict[str, object]:
    """The figures of every run that is done, in the study's order. Of runs that `out` has no result of, what was collected `before` is
    kept, if its settings are today's.

    Raises:
        ValueError: one was done with other settings than the study's, or than another.
    """
    finished = {
        run.name: json.loads(path.read_text()) for run in RUNS if (path := out / run.name / "result.json").exists()
    }
    budget: float | None = next((found["budget_megapixels"] for found in finished.values()), None)
    earlier = {entry["run"]["name"]: entry for entry in before}
    runs: list[dict[str, object]] = []
    for run in RUNS:
        if run.name not in finished:
            if run.name in earlier and _rests_on(earlier[run.name], run, budget):
                runs.append(earlier[run.name])
            continue
        found = finished[run.name]
        if not _rests_on(found, run, budget):
            raise _other_settings(out / run.name)
        public = found["evaluation"]["detection_real"]
        runs.append(
            {
                **{key: found[key] for key in ("run", "budget_megapixels", "training", "multiply_accumulates")},
                "heavy_edits": found.get("heavy_edits", False),
                "figures": headline(found),
                "public_generators": {
                    condition: {name: f["auc"] for name, f in public[condition]["by_generator"].items()}
                    for condition in CONDITIONS
                },
                "unseen_photos": found["unseen_photos"],
                # How many of each source are for test, and the shares of them that are called generated.
                "photos": {
                    name: {"pictures": count}
                    | {c: public[c]["camera_called_generated_by_source"][name] for c in CONDITIONS}
                    for name, count in public["clean"]["camera_pictures_by_source"].items()
                },
            }
        )
    return {"declared": [run.name for run in RUNS], "windows": WINDOWS, "runs": runs}


@click.group()
def main() -> None:
    """Networks trained alike but for one thing, and what that thing is worth."""


@main.command("run")
@click.argument("index", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--megapixels", default=400.0, show_default=True, help="Windows that each run is trained on, in millions of pixels."
)
@click.option("--only", multiple=True, type=click.Choice([run.name for run in RUNS]), help="This run; may be repeated.")
@click.option(
    "--jobs",
    default=1,
    show_default=True,
    help="Runs at a time, which share the cores.",
)
@click.option("--compiled/--eager", help="Compile the networks to train them faster; needs a C++ compiler.")
@click.option("--device", default="cuda" if torch.cuda.is_available() else "cpu", show_default=True)
def run_command(
    index: Path, out: Path, megapixels: float, only: tuple[str, ...], jobs: int, compiled: bool, device: str
) -> None:
    """Do every run that OUT has no result of, on the pictures of INDEX. Stop and start again at will."""
    left = [run for run in RUNS if run.name in (only or run.name) and not done(run, megapixels, out)]
    threads = max(1, usable_cores() // jobs)
    context = multiprocessing.get_context("spawn")
    working: dict[int, tuple[Run, BaseProcess]] = {}
    failed = []
    # A process a run: the pictures of the last one are gone before the next one's are loaded.
    for number, run in enumerate(left, 1):
        click.echo(f"{run.name} ({number} of {len(left)}): {run.changed}", err=True)
        process = context.Process(
            target=_perform_alone, args=(run, partial(load, index), megapixels, out, device, threads, compiled)
        )
        process.start()
        working[process.sentinel] = run, process
        while len(working) == jobs or (working and number == len(left)):
            for sentinel in wait(list(working)):
                ended, process = working.pop(int(sentinel))
                process.join()
                failed += [f"{ended.name} (exit status {process.exitcode})"] if process.exitcode else []
    if failed:
        raise click.ClickException(f"no result of {', '.join(failed)}; see above, and start again")


def _perform_alone(*arguments: object) -> None:
    leave_with_parent()
    perform(*arguments)  # type: ignore[arg-type]


@main.command("collect")
@click.argument("out", type=click.Path(exists=True, file_okay=False, path_type=Path))
def collect_command(out: Path) -> None:
    """Write training/results/study.json from the runs in OUT that are done, and what it had of the others."""
    before = json.loads(RESULT.read_text())["runs"] if RESULT.exists() else []
    RESULT.write_text(json.dumps(collect(out, before), indent=1) + "\n")


if __name__ == "__main__":
    main()
