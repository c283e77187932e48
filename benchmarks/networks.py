"""The networks that are measured beside ours, made here with random weights: what a network costs does not depend on them."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from benchmarks import made
from benchmarks.contenders import PUBLISHED
from edgeparse import images, windows
from edgeparse.bundle import Bundle
from export import published
from export.onnx_graph import fold_batch_norm, write
from export.published import TASKS
from export.published_networks import DnCNN, Published
from training.model.network import Network, NetworkConfig

CLASSES = ("camera", "one", "two", "three", "four")


class TinyLaDeDa(nn.Module):
    """The light detector of "Real-Time Deepfake Detection in the Real-World" (arXiv 2406.09398), rebuilt from its description.

    uint8 windows [N, S, S, 3] -> a tuple of one logit, float32[N, 1]. Diagonal differences of pixels, four convolutions of eight
    channels, and the mean over all places; 1,297 parameters, and 126x126 places for 256x256 pixels, as published.
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
    """The light detector in evaluation mode."""
    torch.manual_seed(0)
    return TinyLaDeDa().eval()


def published_module(task: str) -> nn.Module:
    """A published network in evaluation mode, as its authors run it."""
    return published.load(task, made.checkpoint(task))


def our_module(bundle: Bundle) -> nn.Module:
    """A network of the shape that a bundle's was trained in, with random weights, in evaluation mode.

    Raises:
        ValueError: the bundle's manifest does not tell the shape.
    """
    manifest = json.loads((bundle.folder / "bundle.json").read_text())
    config = manifest.get("training", {}).get("config")
    if not config:
        raise ValueError(f"bundle {bundle.label} does not tell its network's shape")
    torch.manual_seed(0)
    return Network(NetworkConfig.from_json(config)).eval()


def random_published(task: str) -> Published:
    """A published network with random weights, in evaluation mode."""
    torch.manual_seed(0)
    network = Published(DnCNN(TASKS[task].depth), TASKS[task].head())
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            # Signals keep their size through 31 layers: numbers that vanish would be slower than real ones.
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    return network.eval()


def prepare_published() -> None:
    """Make the published networks' checkpoints and bundles where they are not made yet. Minutes, the first time."""
    made.cache().mkdir(parents=True, exist_ok=True)
    for task in PUBLISHED:
        if not made.checkpoint(task).exists():
            _write_checkpoint(task, made.checkpoint(task))
        if not (made.bundle(task) / "bundle.json").exists():
            _write_bundle(task, made.bundle(task))


def prepare_floor(size: int) -> None:
    """Make the light detector's ONNX for windows of `size` where it is not made yet."""
    path = made.floor(size)
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
    """In every precision, INT8 calibrated on pieces of the samples."""
    with tempfile.TemporaryDirectory() as temporary:
        pieces = Path(temporary) / "pieces"
        _write_pieces(pieces)
        classes = CLASSES if task == "attribution" else ()
        published.export(task, made.checkpoint(task), Path(temporary) / "bundle", classes, pieces)
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(Path(temporary) / "bundle", folder)


def _write_pieces(folder: Path) -> None:
    folder.mkdir()
    for path in made.sample_files():
        for number, piece in enumerate(windows.cut(images.read(path).pixels, 6, 256).pixels):
            Image.fromarray(piece).save(folder / f"{path.stem}-{number}.png")
