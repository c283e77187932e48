"""The study: what each part of the network is worth, and how far its metrics depend on the split and the seed.

Many networks are trained on the same number of windows and evaluated alike: over folds, with other seeds, with one
thing changed, and the published network for the same time. Each run has a folder and a process of its own, resumes where it stopped, and
is done when it has a `result.json`. What a bundle is calibrated with is fitted by the exporter's own functions.
"""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
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

from edgeparse import safe_files
from edgeparse.backends.base import Backend
from edgeparse.backends.onnxruntime import OnnxRuntimeBackend
from edgeparse.manifest import Calibration, Loss, Parameter, SameGenerator
from edgeparse.system import usable_cores
from export.calibration import (
    fit_calibration,
    fit_gallery,
    fit_labels,
    fit_shrinkage,
    label_spaces,
    predict_photo_draws,
    validation_pictures,
)
from export.onnx_export import export
from export.shrinkage import Shrinkage
from training.data.dataset import Collection, photo_encoded
from training.data.folds import refold, unseen_photos
from training.data.index.load import load
from training.evaluate.predict import HEADS, predict
from training.evaluate.results import RESULTS, write_result
from training.evaluate.targets import target_values
from training.evaluate.tasks import evaluate
from training.experiments import published_network
from training.experiments.study_runs import RUNS, WINDOWS, Run
from training.fit.train import Settings, add_training_variants, train
from training.fit.validation import Validation
from training.labels import FAMILIES
from training.model.network import Network
from training.zoo.pool import leave_with_parent

RESULT = RESULTS / "ablations.json"
CONDITIONS = ("clean", "social media", "mixed")
# Pictures of each of the zoo's training generators: in the gallery, as queries clean or mixed, and as other queries.
KNOWN_ZOO = (15, 10, 4)
# Codec chains kept of each zoo picture: a short training hardly sees more.
VARIANTS = 1


@dataclass(frozen=True)
class FittedOnValidation:
    """What a bundle would store of what was fitted on validation pictures."""

    calibration: Calibration
    same: SameGenerator | None
    continuous: tuple[Parameter, ...]
    losses: tuple[Loss, ...]

    @staticmethod
    def parse(labels: dict[str, Any], calibration: dict[str, Any]) -> FittedOnValidation:
        """Read the labels and the calibration of a manifest."""
        same = calibration.pop("same", None)
        return FittedOnValidation(
            Calibration(**calibration),
            same and SameGenerator(**same),
            tuple(Parameter(**entry) for entry in labels["continuous"]),
            tuple(Loss(**entry) for entry in labels["losses"]),
        )


def smaller_zoo(collection: Collection, count: int | None) -> Collection:
    """Keep `count` of the zoo's training generators, balanced over families. Smaller zoos are part of larger ones."""
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
    """Give every training picture its variants: after codec chains or clean, shrunk for the published network."""
    trained = collection.select(split="train", source_split="train")
    if run.codecs:
        add_training_variants(collection, VARIANTS, run.seed)
    else:
        for sample in trained:
            sample.chains, sample.variants = [0], [photo_encoded(sample)]
    if run.shrinks:
        for sample in trained:
            sample.variants = [published_network.frame(pixels)[0] for pixels in sample.variants]


def build_network(run: Run) -> Network | published_network.PublishedNetwork:
    """Return the run's network with its first weights."""
    torch.manual_seed(run.seed)
    if run.published:
        return published_network.PublishedNetwork(published_network.PublishedConfig())
    return Network(run.network)


def train_network(run: Run, collection: Collection, settings: Settings, folder: Path, device: torch.device) -> None:
    """Train the run's network; `folder` gets the files of `training train`."""
    validation = Validation.from_collection(collection, run.seed, run.cut)
    prepare(collection, run)
    network = build_network(run)
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    train(network, collection, validation, settings, folder)


def multiply_accumulates(network: nn.Module, size: int) -> int:
    """Count multiply-accumulates of convolutions and matrix products for one window of `size` x `size` pixels."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(torch.zeros((1, size, size, 3), dtype=torch.uint8))
    return int(counter.get_total_flops() // 2)


@dataclass(frozen=True)
class ShrinkingBackend:
    """A backend that draws continuous estimates to the medians, as a bundle's network does."""

    backend: Backend
    shrinkage: Shrinkage

    @property
    def name(self) -> str:
        """The backend's name."""
        return self.backend.name

    def run(self, windows: np.ndarray, outputs: Sequence[str]) -> dict[str, np.ndarray]:
        """See `Backend.run`."""
        found = self.backend.run(windows, outputs)
        if "continuous" not in found:
            return found
        return found | {"continuous": self.shrinkage.applied(found["continuous"])}


def evaluate_run(run: Run, backend: Backend, collection: Collection) -> dict[str, object]:
    """Fit on validation pictures what a bundle is calibrated with, and evaluate on test pictures."""
    look = partial(predict, backend, condition="mixed", frame=run.frame)
    gallery = fit_gallery(look, collection)
    val = validation_pictures(collection)
    p = {key: look(samples) for key, samples in val.items()}
    shrinkage = fit_shrinkage(p["zoo"], collection)
    p["zoo"].values["continuous"] = shrinkage.applied(p["zoo"].values["continuous"])
    labels = label_spaces(collection)
    fit_labels(labels, p["zoo"], collection)
    fitted = FittedOnValidation.parse(
        labels, fit_calibration(p, predict_photo_draws(look, val, p), gallery, collection)
    )
    shrinking = ShrinkingBackend(backend, shrinkage)
    return evaluate(fitted, shrinking, gallery, collection, "test", CONDITIONS, run.frame, KNOWN_ZOO, many=0)


def perform(
    run: Run,
    load: Callable[[], Collection],
    megapixels: float,
    out: Path,
    device: str,
    threads: int,
    compiled: bool = False,
) -> None:
    """Do a run, or the rest of it.

    Args:
        run: the run.
        load: reads the pictures.
        megapixels: budget of training windows, in millions of pixels.
        out: folder of all runs.
        device: device to train on.
        threads: number of CPU threads.
        compiled: train faster with a compiled network.

    Raises:
        ValueError: the run was started with other settings, or the published network has no run of ours to match.
    """
    torch.set_num_threads(threads)
    folder = out / run.name
    folder.mkdir(parents=True, exist_ok=True)
    _store_settings(folder, run, megapixels)
    collection = smaller_zoo(refold(load(), run.fold, run.photos_left_out), run.zoo)
    trained = folder / "network.pt"
    if not trained.exists():
        settings = run.published_settings(_our_minutes(out)) if run.published else run.settings(megapixels)
        train_network(run, collection, replace(settings, compiled=compiled), folder, torch.device(device))
    stored = torch.load(trained, map_location="cpu", weights_only=True)
    network = build_network(run)
    network.load_state_dict(stored["network"])
    export(network, HEADS, folder / "model.onnx", run.size)
    backend = OnnxRuntimeBackend((folder / "model.onnx").read_bytes(), threads=threads)
    result = {
        **_settings_of(run, megapixels),
        "training": {key: stored[key] for key in ("steps", "minutes", "hardware")},
        "generators": stored["generators"],
        "multiply_accumulates": multiply_accumulates(network, run.size),
        "unseen_photos": sorted(unseen_photos(run.fold, run.photos_left_out)),
        # Spectral lines and thresholds are fitted on heavily edited pictures too.
        "heavy_edits": True,
        "evaluation": evaluate_run(run, backend, collection),
    }
    safe_files.atomic_write(folder / "result.json", (json.dumps(result, indent=1) + "\n").encode())


def _settings_of(run: Run, megapixels: float) -> dict[str, Any]:
    """Return the settings that a result depends on, as JSON reads them back."""
    found: dict[str, Any] = json.loads(json.dumps({"run": asdict(run), "budget_megapixels": megapixels}))
    return found


def _has_settings(found: dict[str, Any], run: Run, megapixels: float | None) -> bool:
    """Return whether a result has a run's settings and, unless None, this budget."""
    stored = _migrated({key: found[key] for key in ("run", "budget_megapixels")})
    today = _settings_of(run, stored["budget_megapixels"] if megapixels is None else megapixels)
    if run.published:
        # The configuration of our network does not matter to the published one.
        stored, today = ({**s, "run": {**s["run"], "network": None}} for s in (stored, today))
    # Descriptions may be reworded.
    stored, today = ({**s, "run": {**s["run"], "changed": None}} for s in (stored, today))
    return stored == today


def _migrated(settings: dict[str, Any]) -> dict[str, Any]:
    """Fill in what older results did not store: left-out photo sources, and the width of the hidden layer."""
    settings = {**settings, "run": {"photos_left_out": [], **settings["run"]}}
    network = settings["run"]["network"]
    if network.get("compared") is not True:
        return settings
    return {**settings, "run": {**settings["run"], "network": {**network, "compared": network["hidden"]}}}


def _store_settings(folder: Path, run: Run, megapixels: float) -> None:
    """Store the settings in an empty folder, or check them in another.

    Raises:
        ValueError: the folder has other settings or none.
    """
    path = folder / "settings.json"
    if not any(folder.iterdir()):
        safe_files.atomic_write(path, (json.dumps(_settings_of(run, megapixels), indent=1) + "\n").encode())
    elif not path.exists() or not _has_settings(json.loads(path.read_text()), run, megapixels):
        raise _other_settings(folder)


def _other_settings(folder: Path) -> ValueError:
    return ValueError(f"{folder} must have the settings of this run, but has other settings; remove or rename it")


def _our_minutes(out: Path) -> float:
    path = out / RUNS[0].name / "result.json"
    if not path.exists():
        raise ValueError(
            f"{path} must exist, because the published network is trained as long; run {RUNS[0].name} first"
        )
    minutes: float = json.loads(path.read_text())["training"]["minutes"]
    return minutes


def is_done(run: Run, megapixels: float, out: Path) -> bool:
    """Return whether a run has its result.

    Raises:
        ValueError: the result has other settings.
    """
    folder = out / run.name
    if not (folder / "result.json").exists():
        return False
    if not _has_settings(json.loads((folder / "result.json").read_text()), run, megapixels):
        raise _other_settings(folder)
    return True


def collect(out: Path, before: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    """Collect the metrics of every finished run, in the study's order.

    Runs without a result in `out` keep their entry in `before` if its settings are today's.

    Raises:
        ValueError: a result has other settings.
    """
    finished = {
        run.name: json.loads(path.read_text()) for run in RUNS if (path := out / run.name / "result.json").exists()
    }
    budget: float | None = next((found["budget_megapixels"] for found in finished.values()), None)
    earlier = {entry["run"]["name"]: entry for entry in before}
    runs: list[dict[str, object]] = []
    for run in RUNS:
        if run.name not in finished:
            if run.name in earlier and _has_settings(earlier[run.name], run, budget):
                runs.append(earlier[run.name])
            continue
        found = finished[run.name]
        if not _has_settings(found, run, budget):
            raise _other_settings(out / run.name)
        runs.append(_entry(found))
    return {"declared": [run.name for run in RUNS], "windows": WINDOWS, "runs": runs}


def _entry(found: dict[str, Any]) -> dict[str, object]:
    """Return what is kept of a run's result."""
    public = found["evaluation"]["detection_public"]
    return {
        **{key: found[key] for key in ("run", "budget_megapixels", "training", "multiply_accumulates")},
        "heavy_edits": found.get("heavy_edits", False),
        "figures": target_values(found),
        "public_generators": {
            condition: {name: f["auc"] for name, f in public[condition]["by_generator"].items()}
            for condition in CONDITIONS
        },
        "unseen_photos": found["unseen_photos"],
        # Number of test photos of each source, and the shares that are called generated.
        "photos": {
            name: {"pictures": count} | {c: public[c]["camera_called_generated_by_source"][name] for c in CONDITIONS}
            for name, count in public["clean"]["camera_pictures_by_source"].items()
        },
    }


@click.group("ablations")
def main() -> None:
    """Train and compare networks that differ in one thing."""


@main.command("run")
@click.argument("index", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--megapixels", default=400.0, show_default=True, help="Training windows of each run, in millions of pixels."
)
@click.option("--only", multiple=True, type=click.Choice([run.name for run in RUNS]), help="Do this run; repeatable.")
@click.option("--jobs", default=1, show_default=True, help="Number of simultaneous runs, which share the cores.")
@click.option("--compiled/--eager", help="Compile the networks to train faster; needs a C++ compiler.")
@click.option(
    "--device",
    default="cuda" if torch.cuda.is_available() else "cpu",
    show_default=True,
    help="Device to train on.",
)
def run_command(
    index: Path, out: Path, megapixels: float, only: tuple[str, ...], jobs: int, compiled: bool, device: str
) -> None:
    """Do every run that has no result in OUT, on the pictures of INDEX. It can be interrupted and restarted."""
    left = [run for run in RUNS if run.name in (only or run.name) and not is_done(run, megapixels, out)]
    threads = max(1, usable_cores() // jobs)
    context = multiprocessing.get_context("spawn")
    working: dict[int, tuple[Run, BaseProcess]] = {}
    failed = []
    # One process per run, so that its pictures leave memory before the next run loads its own.
    for number, run in enumerate(left, 1):
        click.echo(f"{run.name} ({number} of {len(left)}): {run.changed}", err=True)
        process = context.Process(
            target=_perform_in_process, args=(run, partial(load, index), megapixels, out, device, threads, compiled)
        )
        process.start()
        working[process.sentinel] = run, process
        while len(working) == jobs or (working and number == len(left)):
            for sentinel in wait(list(working)):
                ended, finished = working.pop(int(sentinel))  # type: ignore[arg-type]
                finished.join()
                failed += [f"{ended.name} (exit status {finished.exitcode})"] if finished.exitcode else []
    if failed:
        raise click.ClickException(f"these runs failed: {', '.join(failed)}; see the errors above and start again")


def _perform_in_process(*arguments: object) -> None:
    leave_with_parent()
    perform(*arguments)  # type: ignore[arg-type]


@main.command("collect")
@click.argument("out", type=click.Path(exists=True, file_okay=False, path_type=Path))
def collect_command(out: Path) -> None:
    """Write training/results/ablations.json from the finished runs in OUT, and keep earlier entries of the others."""
    before = json.loads(RESULT.read_text())["runs"] if RESULT.exists() else []
    write_result(RESULT, collect(out, before))


if __name__ == "__main__":
    main()
