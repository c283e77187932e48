"""The networks of "Reverse Engineering of Generative Models" (arXiv 2106.07873), with the names of their checkpoints.

A fingerprint estimation network (FEN) feeds one of three heads. Every full network takes uint8 windows [N, S, S, 3], as all
bundles do, and returns a tuple in the order of its `outputs`.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Mean and standard deviation of every channel, for pixels in [0, 1].
MEAN, STD = 0.6490, 0.1269
GREY = (0.299, 0.587, 0.114)


class DnCNN(nn.Module):
    """The FEN: maps pixels, float[N, 3, S, S], to a fingerprint of the same shape."""

    def __init__(self, depth: int, width: int = 64) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.ReLU()),
            *(
                nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
                for _ in range(depth - 2)
            ),
            nn.Conv2d(width, 3, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        fingerprint: Tensor = self.layers(x)
        return fingerprint


def _stage(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, padding=2), nn.ReLU(), nn.MaxPool2d(2))


class ParsingHead(nn.Module):
    """Maps a 64x64 fingerprint to architecture parameters and losses.

    The checkpoints hold two more branches, `fc4` to `fc7`, that no output reads. They exist here so that every key loads.
    """

    outputs = (
        "continuous",
        "normalization",
        "last_nonlinearity",
        "block_nonlinearity",
        "binary_1",
        "binary_2",
        "binary_3",
        "losses",
    )
    sizes = (9, 4, 4, 4, 2, 2, 2)
    # The group of each of the eight losses, whose probability multiplies the loss's own.
    parents = (0, 0, 0, 0, 1, 1, 1, 2)

    def __init__(self) -> None:
        super().__init__()
        for i, (inputs, outputs) in enumerate([(3, 32), (32, 64), (64, 128), (128, 256), (256, 512)], 1):
            self.add_module(f"layer{i}", _stage(inputs, outputs, 3))
        self.fc1 = nn.Linear(4608, 512)
        for first in (2, 4, 6):
            self.add_module(f"fc{first}", nn.Linear(512, 256))
            self.add_module(f"fc{first + 1}", nn.Linear(256, 64))
        for i, size in enumerate(self.sizes, 1):
            self.add_module(f"fc8_{i}", nn.Linear(64, size))
        for i in range(1, 4):
            self.add_module(f"fc9_{i}", nn.Linear(64, 2))
        for i in range(1, 9):
            self.add_module(f"fc10_{i}", nn.Linear(64, 2))

    def branch(self, fingerprint: Tensor) -> Tensor:
        """Return the features that every output reads, float[N, 64]."""
        x = fingerprint
        for i in range(1, 6):
            x = self.get_submodule(f"layer{i}")(x)
        x = F.relu(self.fc1(x.flatten(1)))
        return F.relu(self.get_submodule("fc3")(F.relu(self.get_submodule("fc2")(x))))

    def forward(self, fingerprint: Tensor) -> tuple[Tensor, ...]:
        x = self.branch(fingerprint)
        architecture = [self.get_submodule(f"fc8_{i}")(x) for i in range(1, 8)]
        groups = [self.get_submodule(f"fc9_{i}")(x)[:, 1:].sigmoid() for i in range(1, 4)]
        used = [
            self.get_submodule(f"fc10_{i}")(x)[:, 1:].sigmoid() * groups[parent]
            for i, parent in enumerate(self.parents, 1)
        ]
        # Bundles give losses as logits. The clamp keeps them finite.
        chance = torch.cat(used, dim=1).clamp(1e-6, 1 - 1e-6)
        return (architecture[0].sigmoid(), *architecture[1:], torch.log(chance) - torch.log(1 - chance))


class DeepfakeHead(nn.Module):
    """Maps a 128x128 fingerprint to the logit of "generated". The first published class is fake."""

    outputs = ("generated",)

    def __init__(self) -> None:
        super().__init__()
        widths = [(3, 32, 5), (32, 64, 5), (64, 128, 5), (128, 256, 5), (256, 512, 3)]
        for i, (inputs, outputs, kernel) in enumerate(widths, 1):
            self.add_module(f"layer{i}", _stage(inputs, outputs, kernel))
        self.fc1 = nn.Linear(12800, 512)
        self.fc2 = nn.Linear(512, 2)

    def forward(self, fingerprint: Tensor) -> tuple[Tensor, ...]:
        x = fingerprint
        for i in range(1, 6):
            x = self.get_submodule(f"layer{i}")(x)
        logits: Tensor = self.fc2(F.relu(self.fc1(x.flatten(1))))
        # The published answer is the class with the larger sigmoid, which is the sign of this difference.
        fake, real = logits.chunk(2, dim=1)
        return (fake - real,)


class AttributionHead(nn.Module):
    """Maps the spectrum of a 128x128 fingerprint to logits of five classes: camera and four generators."""

    outputs = ("attribution",)
    size = 128

    def __init__(self) -> None:
        super().__init__()
        self.layer1 = _stage(1, 32, 5)
        self.layer2 = _stage(32, 64, 5)
        self.fc1 = nn.Linear(65536, 512)
        self.fc2 = nn.Linear(512, 5)
        self.spectrum = Spectrum(self.size)

    def forward(self, fingerprint: Tensor) -> tuple[Tensor, ...]:
        x = self.layer2(self.layer1(self.spectrum(fingerprint)))
        return (self.fc2(F.relu(self.fc1(x.flatten(1)))),)


class Spectrum(nn.Module):
    """Amplitudes of the grey picture's Fourier transform, centred: float[N, 3, S, S] to float[N, 1, S, S].

    TensorRT has no Fourier transform, so two products with the transform's matrix compute it, one per direction. The
    rows are ordered to centre the zero frequency, with cosines above sines. The products are 1x1 convolutions, which
    compile where FP32 matrix products do not.
    """

    transform: Tensor
    grey: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        frequency = torch.arange(size) - size // 2
        angle = 2 * math.pi * (frequency[:, None] * torch.arange(size)[None, :] % size).double() / size
        matrix = torch.cat([angle.cos(), -angle.sin()]).float()
        self.register_buffer("transform", matrix[:, :, None, None], persistent=False)
        self.register_buffer("grey", torch.tensor(GREY).view(1, 3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        grey = F.conv2d(x, self.grey).permute(0, 3, 2, 1)
        columns = F.conv2d(grey, self.transform)  # [N, 2S over columns, S rows, 1]
        both = F.conv2d(columns.permute(0, 2, 1, 3), self.transform)  # [N, 2S over rows, 2S over columns, 1]
        from_real, from_imaginary = both.chunk(2, dim=1)
        (a, b), (c, d) = from_real.chunk(2, dim=2), from_imaginary.chunk(2, dim=2)
        real, imaginary = a - d, b + c
        amplitude: Tensor = (real * real + imaginary * imaginary).sqrt()
        return amplitude.permute(0, 3, 1, 2)


class Published(nn.Module):
    """Maps uint8[N, S, S, 3] to the fingerprint, float32[N, 3, S, S], and the head's outputs."""

    def __init__(self, fen: DnCNN, head: ParsingHead | DeepfakeHead | AttributionHead) -> None:
        super().__init__()
        self.fen, self.head = fen, head
        self.outputs = ["fingerprint", *head.outputs]

    def forward(self, windows: Tensor) -> tuple[Tensor, ...]:
        # TensorRT requires the cast of a uint8 input before the transpose.
        x = ((windows.float() / 255 - MEAN) / STD).permute(0, 3, 1, 2)
        fingerprint = self.fen(x)
        return (fingerprint, *self.head(fingerprint))
