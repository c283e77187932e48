"""Fixed spectral features of a window: nothing in this module is learnt."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Of the weights of `SpectralLines`' residuals, which are below 1: eleven bits hold its multiples.
STEP = 2.0**-11


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
