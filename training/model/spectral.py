"""Fixed spectral features of a window. Nothing in this module is learnt."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Step of the filter weights of `SpectralLines`. The weights are below 1, so eleven bits hold them exactly.
STEP = 2.0**-11


class BlockSpectrum(nn.Module):
    """Energy of each frequency in 8x8 blocks.

    Takes the type-II cosine transform of each block, for brightness and two colour differences. For each coefficient it returns the log of
    the mean energy over blocks and the mean of the log energy. The difference of the two tells how peaked the distribution is. Up-sampling,
    decoder filters and missing sensor noise show in these, and a convolutional network is slow to learn log energies.
    """

    SIDE = 8
    FEATURES = 2 * 3 * SIDE * SIDE
    # Energy below the rounding error of 8-bit pixels carries no information.
    FLOOR = 1e-6

    def __init__(self) -> None:
        super().__init__()
        third = 1 / 3
        colours = torch.tensor([[third, third, third], [-third, -third, 1 - third], [1 - third, -third, -third]])
        self.colours: Tensor
        self.register_buffer("colours", _as_four_channels(colours[:, :, None, None]), persistent=False)
        position = torch.arange(self.SIDE) + 0.5
        waves = torch.cos(torch.pi / self.SIDE * torch.arange(self.SIDE)[:, None] * position) * (2 / self.SIDE) ** 0.5
        waves[0] /= 2**0.5
        self.waves: Tensor
        self.register_buffer(
            "waves",
            F.pixel_unshuffle(torch.einsum("ay,bx->abyx", waves, waves).flatten(0, 1)[:, None], 2),
            persistent=False,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map float[N, 3, S, S] in [-1, 1] to float32[N, 384]."""
        # bfloat16 is coarser than the traces.
        with torch.autocast(x.device.type, enabled=False):
            colours = F.conv2d(x.float(), self.colours, stride=2)
            waves = F.conv2d(_planes(colours), self.waves, stride=self.SIDE // 2)
            waves = waves.reshape(x.shape[0], -1, *waves.shape[2:])
            energy = waves * waves + self.FLOOR
            # The log of a product of four energies replaces four logs. The product stays far within the range of float32.
            product = _multiply_halves(_multiply_halves(energy))
            logs = torch.cat([energy.mean((2, 3)).log(), product.log().mean((2, 3)) / 4], dim=1)
            # Roughly zero mean and unit deviation over pictures.
            return (logs + 9) / 2.5


class SpectralLines(nn.Module):
    """Patterns that repeat every eight pixels.

    Three up-samplings by two leave a pattern that has the same phase everywhere in the picture. It is too weak to be visible in one block,
    but unlike content it does not average out over blocks. The input is a high-pass residual of brightness and two colour differences, and
    the magnitude of the residual. For each frequency of the Fourier transform of 8x8 blocks, the feature is the log ratio of the energy of
    the mean over blocks to its expectation for random phases. Strided convolutions with a mean over positions lose these phases.
    """

    SIDE = 8
    # Number of independent frequencies of a real 8x8 block. The coefficients of the last four are real.
    FREQUENCIES, REAL = 34, 4
    FEATURES = 6 * FREQUENCIES
    # Residuals and magnitudes are clipped to these values in grey levels; larger ones are content.
    LIMIT, LARGEST = 4.0, 8.0
    # Energy below the rounding error carries no information, and so do differences between ratios far below 1.
    FLOOR, LEAST = 1e-3, 0.1

    def __init__(self) -> None:
        super().__init__()
        self.colours: Tensor
        self.register_buffer("colours", _as_four_channels(_residuals()), persistent=False)
        side = self.SIDE
        half = side // 2
        frequencies = [(v, u) for v in range(side) for u in range(half + 1) if v <= half or u not in (0, half)]
        frequencies.sort(key=lambda frequency: all(part in (0, half) for part in frequency))
        v, u = (torch.tensor(part)[:, None, None] for part in zip(*frequencies, strict=True))
        position = torch.arange(side)
        angle = 2 * torch.pi / side * (v * position[:, None] + u * position)
        # 64 waves, as many as a block has pixels.
        waves = torch.cat([angle.cos(), angle[: -self.REAL].sin()])[:, None] / side
        self.waves: Tensor
        self.register_buffer("waves", F.pixel_unshuffle(waves, 2), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map float[N, 3, S, S] in [-1, 1], with S even, to float32[N, 204]."""
        # bfloat16 is coarser than the traces.
        with torch.autocast(x.device.type, enabled=False):
            # No padding, because it would add a line: 126 of 128 pixels hold 15 blocks a side.
            residual = F.conv2d(x.float(), self.colours, stride=2)
            both = torch.cat([residual.clamp(-self.LIMIT, self.LIMIT), residual.abs().clamp(max=self.LARGEST)], dim=1)
            waves = F.conv2d(_planes(both), self.waves, stride=self.SIDE // 2).flatten(2)
            mean = waves.mean(2)
            coherent = self._energy(mean * mean) * waves.shape[2]
            incoherent = self._energy((waves * waves).mean(2))
            return (coherent / (incoherent + self.FLOOR) + self.LEAST).log().view(x.shape[0], -1)

    def _energy(self, squares: Tensor) -> Tensor:
        """Return the energy of each frequency, float[M, 34], given the squared real and imaginary parts, float[M, 64]."""
        cosine, sine = squares[:, : self.FREQUENCIES], squares[:, self.FREQUENCIES :]
        return torch.cat([cosine[:, : -self.REAL] + sine, cosine[:, -self.REAL :]], dim=1)


def _residuals() -> Tensor:
    """Return high-pass filters float[3, 3, 3, 3]: brightness and two colour differences less their Gaussian mean.

    They take pixels in [-1, 1] and give grey levels. In grey levels the weights are multiples of `STEP` that add up to zero, so that eleven
    bits hold them. Weights rounded otherwise, as TF32 does, would let smooth content through, which is a hundred times stronger than the
    traces.
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


def _as_four_channels(kernel: Tensor) -> Tensor:
    """Convert filters float[3, C, K, K] of stride 1 to float[12, C, K + 1, K + 1] of stride 2.

    The channels are the outputs at 2x2 neighbouring positions, in the order of `F.pixel_unshuffle`. CPU kernels compute channels in
    blocks of
    16, so that three outputs would waste most of the work.
    """
    return torch.stack([F.pad(kernel, (x, 1 - x, y, 1 - y)) for y in (0, 1) for x in (0, 1)], dim=1).flatten(0, 1)


def _planes(x: Tensor) -> Tensor:
    """Split groups of four channels into separate pictures: float[N, 4C, H, W] -> float[NC, 4, H, W]."""
    return torch.unflatten(x, 1, (-1, 4)).flatten(0, 1)


def _multiply_halves(x: Tensor) -> Tensor:
    """Multiply the upper by the lower half: float[N, C, H, W] -> float[N, C, H/2, W], with H even."""
    half = x.shape[2] // 2
    return x[:, :, :half] * x[:, :, half:]
