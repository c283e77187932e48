"""Small networks whose every path is known, exported once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from export.onnx_export import export, output_names, write
from training.model.network import Network, NetworkConfig

NAMES = ["fingerprint", "generated"]
SIZE = 16


class Small(nn.Module):
    """A network with a fingerprint that is also read again, statistics that overflow fp16, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.third = nn.Conv2d(8, 8, 3, stride=2, padding=1)
        self.head = nn.Linear(16, 4)

    def forward(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        x = (windows.float() / 127.5 - 1).permute(0, 3, 1, 2)
        fingerprint = self.second(self.first(x).relu())
        # 400 squared does not fit in fp16, whose largest number is 65504.
        y = (self.third(fingerprint) * 400).relu()
        mean, square = y.mean((2, 3)), (y * y).mean((2, 3))
        deviation = ((square - mean * mean).clamp_min(0) + 1e-4).sqrt()
        return fingerprint, self.head(torch.cat([mean, deviation], dim=1) / 400)


@pytest.fixture(scope="session")
def windows() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (24, SIZE, SIZE, 3), np.uint8)


@pytest.fixture(scope="session")
def network() -> Small:
    torch.manual_seed(0)
    return Small().eval()


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory, network: Small) -> Path:
    path = tmp_path_factory.mktemp("small") / "model.onnx"
    write(network, NAMES, SIZE, path)
    return path


def run(path: Path, windows: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return dict(zip(NAMES, session.run(NAMES, {"windows": windows}), strict=True))


def operators(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path).graph.node]


@pytest.fixture(scope="session")
def shipped_kind(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An fp32 file of the shipped architecture with random weights."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("kind") / "model.onnx"
    kind = Network(NetworkConfig(trunk=(32, 48, 64), hidden=64, compared=64, embedding=16)).eval()
    export(kind, output_names(kind), path)
    return path


def smooth_windows() -> np.ndarray:
    """Return noise and smooth slopes; a residual filter whose weights do not sum to zero lets slopes through."""
    slopes = np.linspace(0, 60, 128, dtype=np.float32)[:, None, None] + np.arange(8)[:, None, None, None] * 20
    rng = np.random.default_rng(0)
    slow = np.clip(slopes + rng.normal(0, 0.3, (8, 128, 128, 3)), 0, 255).round().astype(np.uint8)
    return np.concatenate([slow, rng.integers(0, 256, (8, 128, 128, 3), np.uint8)])
