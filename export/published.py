"""Turn a checkpoint of the published system (arXiv 2106.07873) into a bundle that the runtime opens like any other.

The system's own code runs on no current PyTorch. The bundle states only what the checkpoint can answer: thresholds are not
calibrated, intervals span the whole range, and classes that the release does not name are numbered.
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
from export.onnx_export import differences, fold_batch_norm, write
from export.published_networks import MEAN, STD, AttributionHead, DeepfakeHead, DnCNN, ParsingHead, Published
from export.variants import tf32_safe_variants, write_variants

# Published ranges of the continuous parameters over 116 generators: name, lowest, highest, unit.
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
# The published rule picks the most probable class and always names a generator.
UNCALIBRATED = {"scale": 1.0, "bias": 0.0, "camera": 0.5, "generated": 0.5, "known": 0.0}


# INT8 calibration needs this many pictures.
MIN_PICTURES = 8


@dataclass(frozen=True)
class Task:
    """One of the three published networks: depth of its FEN, side of its windows in pixels, and its head."""

    depth: int
    size: int
    head: type[ParsingHead] | type[DeepfakeHead] | type[AttributionHead]


TASKS = {
    "parsing": Task(17, 64, ParsingHead),
    "deepfake": Task(31, 128, DeepfakeHead),
    "attribution": Task(17, 128, AttributionHead),
}


class CheckpointError(ValueError):
    """Raised for a file that is not a checkpoint of the published system, or belongs to another task."""


def load(task: str, checkpoint: Path) -> Published:
    """Load a checkpoint in evaluation mode. Only tensors are read; no code in the file runs.

    Raises:
        CheckpointError: The file is unreadable, or its keys or shapes are not the task's.
    """
    layout = TASKS[task]
    network = Published(DnCNN(layout.depth), layout.head())
    try:
        stored = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes raise many types
        raise CheckpointError(
            f"{checkpoint} cannot be read as tensors alone: {error}; use a checkpoint of the release"
        ) from error
    for key, module in (("state_dict_cnn", network.fen), ("state_dict_class", network.head)):
        if not isinstance(stored, dict) or key not in stored:
            raise CheckpointError(
                f"{checkpoint} has no {key}; a published checkpoint has state_dict_cnn and state_dict_class"
            )
        try:
            module.load_state_dict(stored[key], strict=True)
        except (RuntimeError, TypeError) as error:
            raise CheckpointError(f"{checkpoint}: {key} is not that of {task}: {error}; choose another task") from error
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
    """Write a checkpoint as a bundle.

    Args:
        task: "parsing", "deepfake" or "attribution".
        checkpoint: The file to read.
        folder: The bundle's folder, which must be new or empty.
        classes: Attribution's five class names in the checkpoint's order, one of them "camera". The release names none.
        pictures: A folder of pictures to calibrate INT8 on. Without it, the bundle has only fp32 and fp16.
        name: The bundle's name, by default "published-TASK".
        version: The bundle's version.

    Raises:
        CheckpointError: See `load`; or the classes or the folder are wrong.
        ValueError: ONNX Runtime and PyTorch disagree.
    """
    _check_arguments(task, folder, classes)
    network = load(task, checkpoint)
    size = TASKS[task].size
    folder.mkdir(parents=True, exist_ok=True)
    model = folder / "model.onnx"
    shown = _windows(pictures, size)
    exported: nn.Module = fold_batch_norm(network)
    write(exported, network.outputs, size, model)
    errors = differences(network, network.outputs, model, shown[:4])
    variants = write_variants(model, shown, ("fp16",) if pictures is None else ("fp16", "int8", "int8-tensorrt"))
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
        # Noise does not show the effect of TF32 on smooth pictures.
        "tf32": tf32_safe_variants(model, variants, shown) if pictures is not None else [],
        "gallery": None,
        "labels": _labels(task, classes),
        "calibration": None if task == "parsing" else UNCALIBRATED,
        "metrics": {
            "parity_max_relative_error": errors,
            "variants": _distances(folder, variants, network.outputs, shown[:16]),
        },
        "training": {"paper": "arXiv 2106.07873", "task": task, "class_order": _order(task, classes)},
    }
    return write_manifest(folder, manifest)


def _check_arguments(task: str, folder: Path, classes: Sequence[str]) -> None:
    """Raise CheckpointError for wrong classes or a folder with files."""
    if (task == "attribution") != bool(classes):
        raise CheckpointError("attribution needs its five class names in the checkpoint's order; other tasks take none")
    if classes and (len(set(classes)) != 5 or "camera" not in classes):
        raise CheckpointError(f"classes must be five different names, one of them camera, got {', '.join(classes)}")
    if folder.exists() and any(folder.iterdir()):
        raise CheckpointError(f"{folder} must be empty; name a new folder")


def _order(task: str, classes: Sequence[str]) -> list[str] | None:
    """Return the classes of the checkpoint's outputs, in order."""
    return {"deepfake": ["generated", "camera"], "attribution": list(classes)}.get(task)


def _windows(pictures: Path | None, size: int) -> np.ndarray:
    """Return the folder's pictures resized as the runtime does, uint8[N, S, S, 3]; without a folder, return noise."""
    if pictures is None:
        return np.random.default_rng(0).integers(0, 256, (4, size, size, 3), np.uint8)
    resized = []
    for path in sorted(path for path in pictures.rglob("*") if path.is_file()):
        try:
            resized.append(windows.resize_whole(images.read(path).pixels, size).pixels[0])
        except ImageError:
            continue
    if len(resized) < MIN_PICTURES:
        raise CheckpointError(
            f"{pictures} must have at least {MIN_PICTURES} readable pictures, got {len(resized)}; some hundreds are better"
        )
    return np.stack(resized)


def _distances(
    folder: Path, variants: dict[str, str], names: Sequence[str], shown: np.ndarray
) -> dict[str, dict[str, float]]:
    """Return each variant's mean difference from fp32 for every output, relative to the output's largest value.

    The release has no labelled pictures to measure accuracy on.
    """
    outputs = {
        variant: OnnxRuntimeBackend((folder / file).read_bytes()).run(shown, names)
        for variant, file in variants.items()
    }
    expected = outputs["fp32"]
    return {
        variant: {
            name: float(np.abs(got[name] - expected[name]).mean() / max(float(np.abs(expected[name]).max()), 1e-9))
            for name in names
        }
        for variant, got in outputs.items()
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
