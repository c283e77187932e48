"""One network for all tasks: a fingerprint estimation network (FEN) whose features all heads share.

The network takes uint8 windows, so that preprocessing cannot differ between training and a device. The published system (arXiv 2106.07873)
runs a separate FEN of 17 or 31 layers at full resolution for each task. Here the first convolution halves the resolution, with more output
channels than input values, so that all later layers cost a quarter.
"""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.labels import CONTINUOUS, DISCRETE, FAMILIES, LOSSES
from training.model.spectral import BlockSpectrum, SpectralLines

WINDOW = 128


@dataclass(frozen=True)
class NetworkConfig:
    """Architecture of a network. Widths should be multiples of 16, because CPU kernels lay channels out in blocks of 16."""

    fen_width: int = 32
    fen_blocks: int = 2
    trunk: tuple[int, ...] = (64, 128, 192)
    # Whether heads also get the mean and deviation of the FEN's features.
    fen_moments: bool = True
    # Whether heads also get `BlockSpectrum`.
    spectrum: bool = True
    # Whether heads also get `SpectralLines`.
    lines: bool = True
    # Width of the embedding's own hidden layer; 0 shares the hidden layer of the other heads.
    compared: int = 512
    embedding: int = 128
    hidden: int = 256

    def to_json(self) -> dict[str, object]:
        """Return the fields as a JSON object."""
        return asdict(self)

    @staticmethod
    def from_json(data: dict[str, Any]) -> NetworkConfig:
        """Read the fields from a JSON object, including those of older networks."""
        # Older networks lack these fields, or state `compared` as a flag.
        defaults = {**dict.fromkeys(("fen_moments", "spectrum", "lines"), False), "compared": 0}
        data = {**defaults, **data, "trunk": tuple(data["trunk"])}
        compared = data["hidden"] if data["compared"] is True else int(data["compared"])
        return NetworkConfig(**{**data, "compared": compared})


def convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """Return a 3x3 convolution with batch norm (folded at export) and ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class Residual(nn.Module):
    """Residual block of two 3x3 convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            convolution(channels, channels),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map float[N, C, H, W] to the same shape."""
        total: Tensor = x + self.body(x)
        return F.relu(total)


def pixel_shuffle(x: Tensor) -> Tensor:
    """Rearrange float[N, 12, H, W] to float[N, 3, 2H, 2W], as `torch.nn.PixelShuffle(2)` does.

    ONNX Runtime runs these two transpositions in a third of the time of its DepthToSpace.
    """
    across = torch.unflatten(x, 1, (3, 2, 2)).permute(0, 1, 2, 4, 5, 3).flatten(4)
    return across.permute(0, 1, 3, 2, 4).flatten(2, 3)


class FEN(nn.Module):
    """Fingerprint estimation network.

    The feature maps include the fingerprint at half resolution, so that gradients of the heads reach the fingerprint.
    """

    FINGERPRINT = 3 * 2 * 2
    # 12 channels of the fingerprint and 4 of features. On CPUs without VNNI, INT8 convolutions of ONNX Runtime take 1.6 times as long
    # with 12
    # output channels as with 16.
    LAST = 16

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        width = config.fen_width
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 6, stride=2, padding=2, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        )
        # Traces lie in high frequencies. Zero-mean filters detect them from the start, and batch norm amplifies the response.
        with torch.no_grad():
            weight = self._first().weight
            weight -= weight.mean((2, 3), keepdim=True)
        self.blocks = nn.Sequential(*(Residual(width) for _ in range(config.fen_blocks)))
        self.last = nn.Conv2d(width, self.LAST, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the fingerprint [N, 3, S, S] and features [N, C + LAST, S/2, S/2] of float[N, 3, S, S] in [-1, 1], with S even."""
        autocast = torch.is_autocast_enabled(x.device.type)
        stem = self.stem[1:](self._first_in_bfloat16(x) if autocast else self.stem[0](x))
        # Without the cast, residual sums stay in float32. On a CPU this costs 40% of the training speed (625 instead of 1030 windows/s
        # at 64 px).
        features = self.blocks(stem.to(torch.bfloat16) if autocast else stem)
        last = self.last(features)
        return pixel_shuffle(last[:, : self.FINGERPRINT]), torch.cat([features, last], dim=1)

    def _first(self) -> nn.Conv2d:
        convolution = self.stem[0]
        assert isinstance(convolution, nn.Conv2d)
        return convolution

    def _first_in_bfloat16(self, x: Tensor) -> Tensor:
        """Compute the first convolution under bfloat16 autocast without rounding the pixels.

        The 8-bit significand of bfloat16 cannot hold neighbouring values of x, but it holds (pixel - 128) / 128 exactly. This convolves
        those values, with weights and an offset that give the same result. Only the padding differs, by half a grey level.
        """
        convolution = self._first()
        exact = x * (127.5 / 128) - 0.5 / 128
        offset = convolution.weight.sum((1, 2, 3)) * (0.5 / 127.5)
        weight = convolution.weight * (128 / 127.5)
        y = F.conv2d(exact, weight, stride=convolution.stride, padding=2)
        return y + offset[:, None, None]


def to_unit_range(windows: Tensor) -> Tensor:
    """Convert pixels uint8[N, S, S, 3] to float32[N, 3, S, S] in [-1, 1]."""
    # Cast before the transpose: TensorRT accepts no other order for a uint8 input.
    return (windows.float() / 127.5 - 1).permute(0, 3, 1, 2)


def moments(x: Tensor) -> Tensor:
    """Return mean and standard deviation over positions, float32[N, 2C], of float[N, C, H, W].

    Computed in float32 for every input dtype, because a variance is a small difference of large numbers.
    """
    mean = x.mean((2, 3), dtype=torch.float32)
    variance = (x * x).mean((2, 3), dtype=torch.float32) - mean * mean
    return torch.cat([mean, (variance.clamp_min(0) + 1e-4).sqrt()], dim=1)


def feature_count(config: NetworkConfig) -> int:
    """Return the number of pooled features F of a window, in the order spectrum, FEN, trunk, spectral lines."""
    fen = 2 * (config.fen_width + FEN.LAST) if config.fen_moments else 0
    spectra = (BlockSpectrum.FEATURES if config.spectrum else 0) + (SpectralLines.FEATURES if config.lines else 0)
    return spectra + fen + 2 * sum(config.trunk)


def hidden_layer(config: NetworkConfig, width: int) -> nn.Sequential:
    """Return a hidden layer float[N, F] -> float[N, width], where F is `feature_count(config)`."""
    return nn.Sequential(nn.Linear(feature_count(config), width), nn.BatchNorm1d(width), nn.ReLU())


class Network(nn.Module):
    """Network from uint8 windows [N, S, S, 3], S even, to raw outputs.

    The outputs are float32, by name:

    - `fingerprint` [N, 3, S, S]
    - `embedding` [N, D], unit length
    - `generated` [N, 1], logit
    - `family` [N, 7], logits
    - `continuous` [N, 9], scaled to [0, 1]
    - one [N, K] of logits for each discrete parameter, under its name
    - `losses` [N, 10], logits
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.fen = FEN(config)
        widths = (config.fen_width + FEN.LAST, *config.trunk)
        self.trunk = nn.ModuleList(
            nn.Sequential(convolution(a, b, stride=2), convolution(b, b)) for a, b in itertools.pairwise(widths)
        )
        self.spectrum = BlockSpectrum() if config.spectrum else None
        self.lines = SpectralLines() if config.lines else None
        self.hidden = hidden_layer(config, config.hidden)
        self.compared = hidden_layer(config, config.compared) if config.compared else None
        self.dropout = nn.Dropout(0.1)
        self.embedding = nn.Linear(config.compared or config.hidden, config.embedding)
        sizes = {"generated": 1, "family": len(FAMILIES), "continuous": len(CONTINUOUS), "losses": len(LOSSES)}
        sizes |= {name: len(values) for name, values in DISCRETE.items()}
        self.heads = nn.ModuleDict({name: nn.Linear(config.hidden, size) for name, size in sizes.items()})

    def forward(self, windows: Tensor) -> dict[str, Tensor]:
        """Return all raw outputs by name."""
        fingerprint, pooled = self.pooled(windows)
        hidden = self.hidden(pooled)
        compared = hidden if self.compared is None else self.compared(pooled)
        outputs = {"fingerprint": fingerprint, "embedding": F.normalize(self.embedding(compared), dim=1)}
        hidden = self.dropout(hidden)
        outputs |= {name: head(hidden) for name, head in self.heads.items()}
        return outputs

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.fen.last.weight.device

    def pooled(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the fingerprint float[N, 3, S, S] and pooled features float32[N, F] of windows uint8[N, S, S, 3]."""
        x = to_unit_range(windows)
        fingerprint, features = self.fen(x)
        parts = [] if self.spectrum is None else [self.spectrum(x)]
        # At full resolution of the features: the weakest traces, noise of adversarial attacks, are learnt much sooner from these.
        parts += [moments(features)] if self.config.fen_moments else []
        for stage in self.trunk:
            features = stage(features)
            parts.append(moments(features))
        parts += [] if self.lines is None else [self.lines(x)]
        return fingerprint, torch.cat(parts, dim=1)
