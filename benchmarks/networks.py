"""The networks that ours is compared with, created with random weights, because speed does not depend on weights."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from benchmarks import inputs
from benchmarks.competitors import PUBLISHED
from edgeparse import images, windows
from edgeparse.bundle import Bundle
from export import published
from export.onnx_export import fold_batch_norm, write
from export.published import TASKS
from export.published_networks import DnCNN, Published
from training.model.network import Network, NetworkConfig

CLASSES = ("camera", "one", "two", "three", "four")


class TinyLaDeDa(nn.Module):
    """The light detector of "Real-Time Deepfake Detection in the Real-World" (arXiv 2406.09398), rebuilt from its description.

    Maps uint8 windows [N, S, S, 3] to a tuple of one logit, float32[N, 1]: diagonal pixel differences, four convolutions
    of eight channels, and the mean over positions. As published, it has 1,297 parameters, and 126x126 positions for
    256x256 pixels.
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, 8, 1, bias=False)]
        for kernel, stride in ((3, 1), (1, 1), (3, 2)):
            layers += [nn.Conv2d(8, 8, kernel, stride=stride, bias=False), nn.BatchNorm2d(8), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.last = nn.Linear(8, 1)

    def forward(self, windows: Tensor) -> tuple[Tensor, ...]:
        x = (windows.float() / 255).permute(0, 3, 1, 2)
        difference = F.pad(x[:, :, 1:, 1:] - x[:, :, :-1, :-1], (0, 1, 0, 1))
        return (self.last(self.layers(difference).mean((2, 3))),)


def floor_module() -> nn.Module:
    """Return the light detector in evaluation mode."""
    torch.manual_seed(0)
    return TinyLaDeDa().eval()


def published_module(task: str) -> nn.Module:
    """Return a published network from its cached checkpoint, in evaluation mode."""
    return published.load(task, inputs.checkpoint(task))


def our_module(bundle: Bundle) -> nn.Module:
    """Return a network of a bundle's architecture with random weights, in evaluation mode.

    Raises:
        ValueError: The bundle's manifest has no training configuration.
    """
    manifest = json.loads((bundle.folder / "bundle.json").read_text())
    config = manifest.get("training", {}).get("config")
    if not config:
        raise ValueError(
            f"bundle {bundle.label} must have a training configuration; use a bundle of python -m export bundle"
        )
    torch.manual_seed(0)
    return Network(NetworkConfig.from_json(config)).eval()


def random_published(task: str) -> Published:
    """Return a published network with random weights, in evaluation mode."""
    torch.manual_seed(0)
    network = Published(DnCNN(TASKS[task].depth), TASKS[task].head())
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            # Keep the signal's scale through 31 layers, because denormal numbers are slow.
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    return network.eval()


def prepare_published() -> None:
    """Create the missing checkpoints and bundles of the published networks. Takes minutes the first time."""
    inputs.cache().mkdir(parents=True, exist_ok=True)
    for task in PUBLISHED:
        if not inputs.checkpoint(task).exists():
            _write_checkpoint(task, inputs.checkpoint(task))
        if not (inputs.bundle(task) / "bundle.json").exists():
            _write_bundle(task, inputs.bundle(task))


def prepare_floor(size: int) -> None:
    """Create the light detector's ONNX file for windows of `size` pixels if it is missing."""
    path = inputs.floor(size)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.stem}.partial.onnx")
        write(fold_batch_norm(floor_module()), ["generated"], size, partial)
        partial.rename(path)


def _write_checkpoint(task: str, path: Path) -> None:
    network = random_published(task)
    partial = path.with_suffix(".partial")
    torch.save({"state_dict_cnn": network.fen.state_dict(), "state_dict_class": network.head.state_dict()}, partial)
    partial.rename(path)


def _write_bundle(task: str, folder: Path) -> None:
    """Write a bundle in every precision, with INT8 calibrated on crops of the samples."""
    with tempfile.TemporaryDirectory() as temporary:
        crops = Path(temporary) / "crops"
        _write_crops(crops)
        classes = CLASSES if task == "attribution" else ()
        published.export(task, inputs.checkpoint(task), Path(temporary) / "bundle", classes, crops)
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(Path(temporary) / "bundle", folder)


def _write_crops(folder: Path) -> None:
    folder.mkdir()
    for path in inputs.sample_files():
        for number, crop in enumerate(windows.cut(images.read(path).pixels, 6, 256).pixels):
            Image.fromarray(crop).save(folder / f"{path.stem}-{number}.png")
