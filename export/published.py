"""A checkpoint of the published system -> a bundle that the runtime opens like any other.

Its own code runs on no current PyTorch. A bundle says what the checkpoint can answer, and nothing else is made up: thresholds are not
calibrated, intervals are the whole range, and names that the release does not give are numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from edgeparse import images, windows
from edgeparse.backends.onnxruntime import OnnxRuntimeBackend
from edgeparse.bundle import Bundle
from edgeparse.errors import ImageError
from edgeparse.manifest import SCHEMA
from export.bundle import write_manifest
from export.onnx_graph import differences, fold_batch_norm, write
from export.published_networks import MEAN, STD, AttributionHead, DeepfakeHead, DnCNN, ParsingHead, Published
from export.variants import bearing_tf32, write_variants

# The published ranges of the continuous parameters over 116 generators: name, lowest, highest, unit.
CONTINUOUS = (
    ("layers", 1, 105, "layers"),
    ("convolution_layers", 0, 92, "layers"),
    ("fully_connected_layers", 0, 40, "layers"),
    ("pooling_layers", 0, 35, "layers"),
    ("normalization_layers", 0, 57, "layers"),
    ("filters", 0, 8365, "filters"),
    ("blocks", 0, 15, "blocks"),
    ("layers_per_block", 0, 20, "layers"),
    ("parameters", 300_000, 267_000_000, "trainable values"),
)
# Not calibrated: the published rule is the most probable class, and no generator is too far to be named.
UNCALIBRATED = {"scale": 1.0, "bias": 0.0, "camera": 0.5, "generated": 0.5, "known": 0.0}


@dataclass(frozen=True)
class Task:
    """One of the three published networks."""

    depth: int
    size: int
    head: type[ParsingHead] | type[DeepfakeHead] | type[AttributionHead]


TASKS = {
    "parsing": Task(17, 64, ParsingHead),
    "deepfake": Task(31, 128, DeepfakeHead),
    "attribution": Task(17, 128, AttributionHead),
}


class CheckpointError(ValueError):
    """A file is no checkpoint of the published system, or one of another task."""


def load(task: str, checkpoint: Path) -> Published:
    """The networks of a checkpoint, in evaluation mode. Nothing in the file is run: only tensors are read.

    Raises:
        CheckpointError: it is no such file, or its keys or shapes are not exactly the task's.
    """
    kind = TASKS[task]
    network = Published(DnCNN(kind.depth), kind.head())
    try:
        stored = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever the bytes make the unpickler stumble over
        raise CheckpointError(f"{checkpoint} cannot be read as tensors alone: {error}") from error
    for key, module in (("state_dict_cnn", network.fen), ("state_dict_class", network.head)):
        if not isinstance(stored, dict) or key not in stored:
            raise CheckpointError(
                f"{checkpoint} has no {key}; a published checkpoint has state_dict_cnn and state_dict_class"
            )
        try:
            module.load_state_dict(stored[key], strict=True)
        except (RuntimeError, TypeError) as error:
            raise CheckpointError(f"{checkpoint}: {key} is not that of {task}: {error}") from error
    return network.eval()


def export(
    task: str,
    checkpoint: Path,
    folder: Path,
    classes: Sequence[str] = (),
    pictures: Path | None = None,
    name: str | None = None,
    version: str = "1",
) -> Bundle:
    """Write a bundle into `folder`, which must be empty or not there.

    Args:
        classes: for attribution, the five class names in the checkpoint's order, one of them "camera"; the release names none.
        pictures: a folder of pictures to calibrate INT8 with; with it the bundle has every precision, without it fp32 and fp16.

    Raises:
        CheckpointError: see `load`; or classes are missing or given where there are none; or `folder` is not empty.
        ValueError: ONNX Runtime computes something else than PyTorch.
    """
    if (task == "attribution") != bool(classes):
        raise CheckpointError(
            "attribution needs its five class names, in the checkpoint's order; the other tasks have none"
        )
    if classes and (len(set(classes)) != 5 or "camera" not in classes):
        raise CheckpointError(f"{', '.join(classes)}: five different names are needed, one of them camera")
    if folder.exists() and any(folder.iterdir()):
        raise CheckpointError(f"{folder} is not empty; name a new folder")
    network = load(task, checkpoint)
    size = TASKS[task].size
    folder.mkdir(parents=True, exist_ok=True)
    model = folder / "model.onnx"
    seen = _windows(pictures, size)
    exported: nn.Module = fold_batch_norm(network)
    write(exported, network.outputs, size, model)
    errors = differences(network, network.outputs, model, seen[:4])
    variants = write_variants(model, seen, ("fp16",) if pictures is None else ("fp16", "int8", "int8-tensorrt"))
    manifest = {
        "schema": SCHEMA,
        "name": name or f"published-{task}",
        "version": version,
        "files": {},
        "window": size,
        "framing": "resize",
        "normalization": {"mean": MEAN, "std": STD, "of": "pixels / 255, inside the graph"},
        "outputs": network.outputs,
        "variants": variants,
        "default_variant": "fp32",
        # Noise does not show what a network makes of smooth pictures.
        "tf32": bearing_tf32(model, variants, seen) if pictures is not None else [],
        "gallery": None,
        "labels": _labels(task, classes),
        "calibration": None if task == "parsing" else UNCALIBRATED,
        "metrics": {
            "parity_max_relative_error": errors,
            "variants": {
                name: _distance(folder / file, model, network.outputs, seen[:16]) for name, file in variants.items()
            },
        },
        "training": {"paper": "arXiv 2106.07873", "task": task, "class_order": _order(task, classes)},
    }
    return write_manifest(folder, manifest)


def _order(task: str, classes: Sequence[str]) -> list[str] | None:
    """What the checkpoint's own outputs mean, in order."""
    return {"deepfake": ["generated", "camera"], "attribution": list(classes)}.get(task)


def _windows(pictures: Path | None, size: int) -> np.ndarray:
    """uint8[N, S, S, 3]: the folder's pictures as the runtime would show them to the network; without one, noise to compare on."""
    if pictures is None:
        return np.random.default_rng(0).integers(0, 256, (8, size, size, 3), np.uint8)
    found = []
    for path in sorted(path for path in pictures.rglob("*") if path.is_file()):
        try:
            found.append(windows.resize_whole(images.read(path).pixels, size).pixels[0])
        except ImageError:
            continue
    if len(found) < 8:
        raise CheckpointError(
            f"{pictures} has {len(found)} pictures that can be read; INT8 needs 8 at least, some hundreds are better"
        )
    return np.stack(found)


def _distance(file: Path, reference: Path, names: Sequence[str], given: np.ndarray) -> dict[str, float]:
    """Mean difference of each output from fp32, relative to its largest value: no labelled pictures come with a checkpoint."""
    got, expected = (OnnxRuntimeBackend(path.read_bytes()).run(given, names) for path in (file, reference))
    return {
        name: float(np.abs(got[name] - expected[name]).mean() / max(float(np.abs(expected[name]).max()), 1e-9))
        for name in names
    }


def _labels(task: str, classes: Sequence[str]) -> dict[str, object]:
    labels: dict[str, object] = {"family": [], "family_reported": False, "continuous": [], "discrete": [], "losses": []}
    if task == "attribution":
        labels["attribution"] = list(classes)
    if task == "parsing":
        labels["continuous"] = [
            {"name": name, "low": low, "high": high, "log": False, "unit": unit, "half_width": 1.0, "reported": True}
            for name, low, high, unit in CONTINUOUS
        ]
        labels["discrete"] = [
            {"name": output, "values": [f"type {i}" for i in range(size)], "reported": True}
            for output, size in zip(ParsingHead.outputs[1:7], ParsingHead.sizes[1:], strict=True)
        ]
        labels["losses"] = [{"name": f"loss {i}", "threshold": 0.5, "reported": True} for i in range(1, 9)]
    return labels
