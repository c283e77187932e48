"""One network for every question: a fingerprint estimation network (FEN) whose features all heads share.

uint8 windows go in; everything from there to the raw outputs is inside, so that no preprocessing can differ between
training and a device. The published system (arXiv 2106.07873) runs a separate 17- or 31-layer FEN at full resolution for
each question; here the first convolution halves the resolution with more outputs than the pixels it reads, so that the rest
costs a quarter of the positions.
"""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.labels import CONTINUOUS, DISCRETE, FAMILIES, LOSSES
from training.model.spectral import BlockSpectrum, SpectralLines

WINDOW = 128


@dataclass(frozen=True)
class NetworkConfig:
    """Shape of a network. Widths are multiples of 16: the CPU kernels lay channels out in blocks of 16."""

    fen_width: int = 32
    fen_blocks: int = 2
    trunk: tuple[int, ...] = (64, 128, 192)
    # Whether heads also see the mean and deviation of the FEN's own features.
    fen_moments: bool = True
    # Whether they also see `BlockSpectrum`.
    spectrum: bool = True
    # Whether they also see `SpectralLines`, and these have an answer of their own to camera or generated.
    lines: bool = True
    # How wide a hidden layer of its own the embedding has; with 0 it shares that of all other heads.
    compared: int = 512
    embedding: int = 128
    hidden: int = 256

    def to_json(self) -> dict[str, object]:
        return asdict(self)

    @staticmethod
    def from_json(data: dict) -> NetworkConfig:
        # Networks from before there was a choice had none of these, and then one as wide as the other.
        none = {**dict.fromkeys(("fen_moments", "spectrum", "lines"), False), "compared": 0}
        data = {**none, **data, "trunk": tuple(data["trunk"])}
        compared = data["hidden"] if data["compared"] is True else int(data["compared"])
        return NetworkConfig(**{**data, "compared": compared})


def convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """3x3 convolution, batch norm (folded at export), ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class Residual(nn.Module):
    """Two 3x3 convolutions around which the signal may pass."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            convolution(channels, channels),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.body(x))


def pixel_shuffle(x: Tensor) -> Tensor:
    """PyTorch's own, by two: float[N, 12, H, W] -> float[N, 3, 2H, 2W]. Two transpositions that move one axis each take ONNX Runtime a
    third of the time of its DepthToSpace."""
    across = x.unflatten(1, (3, 2, 2)).permute(0, 1, 2, 4, 5, 3).flatten(4)
    return across.permute(0, 1, 3, 2, 4).flatten(2, 3)


class FEN(nn.Module):
    """Fingerprint estimation: float[N, 3, S, S] in [-1, 1] -> (fingerprint [N, 3, S, S], features [N, C + LAST, S/2, S/2]), S even.

    The last feature maps begin with the fingerprint itself, unshuffled, so that what the heads learn from it shapes it.
    """

    FINGERPRINT = 3 * 2 * 2
    # ONNX Runtime's fast INT8 convolution wants 16 outputs on a CPU without VNNI: 12 take 1.6 times as long. The other four are features.
    LAST = 16

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        width = config.fen_width
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 6, stride=2, padding=2, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        )
        # Traces live in high frequencies: filters that begin without a mean see them first, and batch norm amplifies what they see.
        with torch.no_grad():
            self.stem[0].weight -= self.stem[0].weight.mean((2, 3), keepdim=True)
        self.blocks = nn.Sequential(*(Residual(width) for _ in range(config.fen_blocks)))
        self.last = nn.Conv2d(width, self.LAST, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        narrow = torch.is_autocast_enabled(x.device.type)
        begun = self.stem[1:](self._first_in_bfloat16(x) if narrow else self.stem[0](x))
        # Otherwise the blocks' sums stay in float32, with a third of a training step on a CPU: at 64 pixels 625, not 1030 windows a second.
        features = self.blocks(begun.to(torch.bfloat16) if narrow else begun)
        last = self.last(features)
        return pixel_shuffle(last[:, : self.FINGERPRINT]), torch.cat([features, last], dim=1)

    def _first_in_bfloat16(self, x: Tensor) -> Tensor:
        """The first convolution's output where it is computed in bfloat16, whose eight bits cannot tell neighbouring values of x apart.

        They hold (pixel - 128) / 128 exactly, so that is convolved, with weights and an offset that give the same but for half a grey
        level of padding. As good as float32 in a trial (training/results/tried.json).
        """
        convolution = self.stem[0]
        exact = x * (127.5 / 128) - 0.5 / 128
        offset = convolution.weight.sum((1, 2, 3)) * (0.5 / 127.5)
        made = F.conv2d(
            exact, convolution.weight * (128 / 127.5), stride=convolution.stride, padding=convolution.padding
        )
        return made + offset[:, None, None]


def scaled(windows: Tensor) -> Tensor:
    """What all layers begin with: uint8[N, S, S, 3] -> float32[N, 3, S, S] in [-1, 1]."""
    # Cast before the transpose: TensorRT accepts no other order for a uint8 input.
    return (windows.float() / 127.5 - 1).permute(0, 3, 1, 2)


def moments(x: Tensor) -> Tensor:
    """Mean and standard deviation over positions: float[N, C, H, W] -> float32[N, 2C].

    In float32 whatever the features are in: a variance is a small difference of large numbers.
    """
    mean = x.mean((2, 3), dtype=torch.float32)
    variance = (x * x).mean((2, 3), dtype=torch.float32) - mean * mean
    return torch.cat([mean, (variance.clamp_min(0) + 1e-4).sqrt()], dim=1)


def pooled_features(config: NetworkConfig) -> int:
    """How many numbers a window a hidden layer reads: the spectrum's first, then the FEN's, the trunk's, and the lines'."""
    of_fen = 2 * (config.fen_width + FEN.LAST) if config.fen_moments else 0
    of_spectra = (BlockSpectrum.FEATURES if config.spectrum else 0) + (SpectralLines.FEATURES if config.lines else 0)
    return of_spectra + of_fen + 2 * sum(config.trunk)


def hidden_layer(config: NetworkConfig, width: int) -> nn.Sequential:
    """float[N, `pooled_features`] -> float[N, width], from zero up."""
    return nn.Sequential(nn.Linear(pooled_features(config), width), nn.BatchNorm1d(width), nn.ReLU())


class Network(nn.Module):
    """uint8 windows [N, 128, 128, 3] -> every raw output by name, float32.

    fingerprint [N, 3, 128, 128]; embedding [N, D], unit length; generated [N, 1], logit; family [N, F], logits;
    continuous [N, 9], scaled to [0, 1]; one [N, K] of logits a discrete parameter, under its name; losses [N, 10], logits.
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
        # Fitted when all else is trained (`training.fit.heads_lines`): until then it says nothing.
        self.by_lines = nn.Linear(SpectralLines.FEATURES, 1).requires_grad_(False) if config.lines else None
        if self.by_lines is not None:
            nn.init.zeros_(self.by_lines.weight)
            nn.init.zeros_(self.by_lines.bias)
        self.hidden = hidden_layer(config, config.hidden)
        self.compared = hidden_layer(config, config.compared) if config.compared else None
        self.dropout = nn.Dropout(0.1)
        self.embedding = nn.Linear(config.compared or config.hidden, config.embedding)
        sizes = {"generated": 1, "family": len(FAMILIES), "continuous": len(CONTINUOUS), "losses": len(LOSSES)}
        sizes |= {name: len(values) for name, values in DISCRETE.items()}
        self.heads = nn.ModuleDict({name: nn.Linear(config.hidden, size) for name, size in sizes.items()})

    def forward(self, windows: Tensor) -> dict[str, Tensor]:
        fingerprint, pooled, lines = self.pooled(windows)
        hidden = self.hidden(pooled)
        compared = hidden if self.compared is None else self.compared(pooled)
        outputs = {"fingerprint": fingerprint, "embedding": F.normalize(self.embedding(compared), dim=1)}
        hidden = self.dropout(hidden)
        outputs |= {name: head(hidden) for name, head in self.heads.items()}
        # The two are right or wrong each by itself: neither learns what the other has got wrong.
        if lines is not None and self.by_lines is not None and not self.training:
            outputs["generated"] = outputs["generated"] + self.by_lines(lines)
        return outputs

    @property
    def place(self) -> torch.device:
        """Where its weights are."""
        return self.fen.last.weight.device

    def pooled(self, windows: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """uint8 windows [N, S, S, 3] -> (fingerprint float[N, 3, S, S], all that hidden layers read, float32[N, `pooled_features`], and of
        that the spectral lines)."""
        x = scaled(windows)
        fingerprint, features = self.fen(x)
        parts = [] if self.spectrum is None else [self.spectrum(x)]
        # Before the trunk halves anything: the weakest traces, the noise of adversarial attacks, are learnt from these much sooner.
        parts += [moments(features)] if self.config.fen_moments else []
        for stage in self.trunk:
            features = stage(features)
            parts.append(moments(features))
        lines = None if self.lines is None else self.lines(x)
        parts += [] if lines is None else [lines]
        return fingerprint, torch.cat(parts, dim=1), lines
