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

WINDOW = 128
# Of the weights of `SpectralLines`' residuals, which are below 1: eleven bits hold its multiples.
STEP = 2.0**-11


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
        level of padding. As good as float32 in a trial (docs/research-notes.md).
        """
        convolution = self.stem[0]
        exact = x * (127.5 / 128) - 0.5 / 128
        offset = convolution.weight.sum((1, 2, 3)) * (0.5 / 127.5)
        made = F.conv2d(
            exact, convolution.weight * (128 / 127.5), stride=convolution.stride, padding=convolution.padding
        )
        return made + offset[:, None, None]


class BlockSpectrum(nn.Module):
    """How much of every frequency there is in 8x8 blocks: float[N, 3, S, S] in [-1, 1] -> float32[N, 384]. Nothing in it is learnt.

    Of brightness and two colour differences, the type-II cosine transform of every block; of each coefficient's energy over the blocks
    the logarithm of the mean, and the mean of the logarithm, which together tell how peaked it is. Up-sampling, the filters of a decoder
    and a missing sensor noise all show in these, and a convolutional network takes long to find logarithms of energies.
    """

    SIDE = 8
    FEATURES = 2 * 3 * SIDE * SIDE
    # Energy below that of rounding to eight bits says nothing.
    FLOOR = 1e-6

    def __init__(self) -> None:
        super().__init__()
        third = 1 / 3
        colours = torch.tensor([[third, third, third], [-third, -third, 1 - third], [1 - third, -third, -third]])
        self.colours: Tensor
        self.register_buffer("colours", _four_at_once(colours[:, :, None, None]), persistent=False)
        place = torch.arange(self.SIDE) + 0.5
        waves = torch.cos(torch.pi / self.SIDE * torch.arange(self.SIDE)[:, None] * place) * (2 / self.SIDE) ** 0.5
        waves[0] /= 2**0.5
        self.waves: Tensor
        self.register_buffer(
            "waves",
            F.pixel_unshuffle(torch.einsum("ay,bx->abyx", waves, waves).flatten(0, 1)[:, None], 2),
            persistent=False,
        )

    def forward(self, x: Tensor) -> Tensor:
        # bfloat16 is coarser than the traces.
        with torch.autocast(x.device.type, enabled=False):
            colours = F.conv2d(x.float(), self.colours, stride=2)
            waves = F.conv2d(_planes(colours), self.waves, stride=self.SIDE // 2)
            waves = waves.reshape(x.shape[0], -1, *waves.shape[2:])
            energy = waves * waves + self.FLOOR
            # The logarithm of a product is the sum of the logarithms: a quarter of them to take. Four energies stay far inside float32.
            product = _halves_multiplied(_halves_multiplied(energy))
            logs = torch.cat([energy.mean((2, 3)).log(), product.log().mean((2, 3)) / 4], dim=1)
            # To about zero mean and unit deviation over pictures.
            return (logs + 9) / 2.5


class SpectralLines(nn.Module):
    """What repeats every eight pixels: float[N, 3, S, S] in [-1, 1] -> float32[N, 204], S even. Nothing in it is learnt.

    Up-sampling by two, three times, leaves a pattern that has the same phase all over the picture, which is too weak to be seen in any
    block and does not average out over all of them; content does. Of brightness and two colour differences, without what is smooth, and
    of its size, the Fourier transform of every 8x8 block; of each frequency the energy of the mean over blocks, by what it would be if
    the phases were random. Convolutions with a stride and a mean over positions do not keep these phases.
    """

    SIDE = 8
    # Of a real block as many complex numbers are needed: the others are their conjugates. Those of the last four are real.
    FREQUENCIES, REAL = 34, 4
    FEATURES = 6 * FREQUENCIES
    # A residual beyond this, in grey levels, is content, and a size beyond this.
    LIMIT, LARGEST = 4.0, 8.0
    # Energy below that of rounding says nothing, and it does not matter how much less than by chance a frequency repeats.
    FLOOR, LEAST = 1e-3, 0.1

    def __init__(self) -> None:
        super().__init__()
        self.colours: Tensor
        self.register_buffer("colours", _four_at_once(_residuals()), persistent=False)
        side = self.SIDE
        half = side // 2
        frequencies = [(v, u) for v in range(side) for u in range(half + 1) if v <= half or u not in (0, half)]
        frequencies.sort(key=lambda frequency: all(part in (0, half) for part in frequency))
        v, u = (torch.tensor(part)[:, None, None] for part in zip(*frequencies, strict=True))
        place = torch.arange(side)
        angle = 2 * torch.pi / side * (v * place[:, None] + u * place)
        # As many as a block has pixels.
        waves = torch.cat([angle.cos(), angle[: -self.REAL].sin()])[:, None] / side
        self.waves: Tensor
        self.register_buffer("waves", F.pixel_unshuffle(waves, 2), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        # bfloat16 is coarser than the traces.
        with torch.autocast(x.device.type, enabled=False):
            # Without the border, which any padding would make a line of: fifteen blocks in 126 pixels.
            residual = F.conv2d(x.float(), self.colours, stride=2)
            both = torch.cat([residual.clamp(-self.LIMIT, self.LIMIT), residual.abs().clamp(max=self.LARGEST)], dim=1)
            waves = F.conv2d(_planes(both), self.waves, stride=self.SIDE // 2).flatten(2)
            mean = waves.mean(2)
            together = self._energy(mean * mean) * waves.shape[2]
            apart = self._energy((waves * waves).mean(2))
            return (together / (apart + self.FLOOR) + self.LEAST).log().view(x.shape[0], -1)

    def _energy(self, squares: Tensor) -> Tensor:
        """Of every frequency, float[M, 34], from the squares of its real and its imaginary parts, float[M, 64]."""
        cosine, sine = squares[:, : self.FREQUENCIES], squares[:, self.FREQUENCIES :]
        return torch.cat([cosine[:, : -self.REAL] + sine, cosine[:, -self.REAL :]], dim=1)


def _residuals() -> Tensor:
    """float[3, 3, 3, 3], a convolution that makes of pixels in [-1, 1] brightness and two colour differences, in grey levels, less a
    Gaussian mean of the neighbours.

    For pixels in grey levels its weights are multiples of `STEP` that add up to zero, so that eleven bits hold them: rounded otherwise,
    as by TF32, they would let through some of what is smooth, which is a hundred times what they are to find.
    """
    weights = torch.exp(-0.5 * (torch.arange(-1.0, 2.0, dtype=torch.float64) / 0.8) ** 2)
    weights /= weights.sum()
    kernel = -weights[:, None] * weights
    kernel[1, 1] += 1
    brightness = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)
    red, blue = torch.eye(3, dtype=torch.float64)[[0, 2]]
    colours = torch.stack([brightness, blue - brightness, red - brightness])
    kernels = (colours[:, :, None, None] * kernel / STEP).round() * STEP
    kernels[:, :, 1, 1] -= kernels.sum((2, 3))
    return (127.5 * kernels).float()


def _four_at_once(kernel: Tensor) -> Tensor:
    """float[3, C, K, K] -> float[12, C, K + 1, K + 1]: with a stride of two the same as `kernel` with none, two by two neighbours as
    channels, as `F.pixel_unshuffle` puts them. CPU kernels compute sixteen channels where three are wanted."""
    return torch.stack([F.pad(kernel, (x, 1 - x, y, 1 - y)) for y in (0, 1) for x in (0, 1)], dim=1).flatten(0, 1)


def _planes(x: Tensor) -> Tensor:
    """Every four channels as a picture of their own: float[N, 4 C, H, W] -> float[N C, 4, H, W]."""
    return x.unflatten(1, (-1, 4)).flatten(0, 1)


def _halves_multiplied(x: Tensor) -> Tensor:
    """The upper half times the lower: float[N, C, H, W] -> float[N, C, H/2, W], H even."""
    half = x.shape[2] // 2
    return x[:, :, :half] * x[:, :, half:]


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
        # Fitted when all else is trained (`training.lines`): until then it says nothing.
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
