"""What a finished network sees in windows of pictures, before the layers that are learnt last (`Network.pooled`).

The rest stays as it is, so that a window is looked at once and learnt from many times, and a step takes milliseconds with the windows of
sixty-four generators in it, where a step of the whole network has room for twenty.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace

import click
import numpy as np
import torch
from torch import Tensor, nn

from training.dataset import Sample, crop, through_chain
from training.networks import Network
from training.tones import curves, random_tones, toned
from training.zoo.build import fast_bfloat16

# Windows of a picture each time that it is looked at, through a codec chain that is never used again, and the share with random tones.
WINDOWS, TONED = 2, 0.6
# Pictures that are read at a time, and windows.
PICTURES, BATCH = 2048, 128
# About how many windows give the features' mean and deviation.
STATISTICS = 50_000

# `Network.pooled`, or that compiled.
Pooling = Callable[[Tensor], tuple[Tensor, Tensor, Tensor | None]]


@dataclass(frozen=True)
class Scale:
    """Mean and deviation of each feature, float32[F]: features brought to mean zero and unit deviation are moved alike by an optimizer."""

    mean: Tensor
    deviation: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """[N, F] -> the scaled ones, float32[N, F]."""
        return (features.float() - self.mean) / self.deviation

    @torch.no_grad()
    def take_out(self, layer: nn.Linear) -> None:
        """Have a layer that reads features compute the same from scaled ones."""
        layer.bias.add_(layer.weight @ self.mean)
        layer.weight.mul_(self.deviation)

    @torch.no_grad()
    def put_in(self, layer: nn.Linear) -> None:
        """Have a layer that reads scaled features compute the same from unscaled ones."""
        layer.weight.div_(self.deviation)
        layer.bias.sub_(layer.weight @ self.mean)


@dataclass(frozen=True)
class Seen:
    """What hidden layers read of windows, float16[N, F], on the CPU, and the windows' sources, int64[N]."""

    features: Tensor
    source: np.ndarray

    def members(self) -> dict[int, np.ndarray]:
        """The windows of every source."""
        return {int(i): np.flatnonzero(self.source == i) for i in np.unique(self.source)}

    def scale(self, place: torch.device) -> Scale:
        """That of these features; those that hardly differ are made no louder by it."""
        some = self.features[:: max(1, len(self.features) // STATISTICS)].float()
        return Scale(some.mean(0).to(place), (some.std(0) + 1e-3).to(place))


def read(network: Network, samples: list[Sample], passes: int, seed: int, compiled: bool = False) -> Seen:
    """Look at every picture so many times, `WINDOWS` each.

    Args:
        network: in evaluation mode.
        compiled: whether TorchInductor makes the network faster, which takes it a minute and a C++ compiler.
    """
    compute = torch.compile(network.pooled, dynamic=False) if compiled else network.pooled
    features, source = [], []
    for windows, of in _windows(samples, passes, seed):
        features.append(pooled(compute, windows, network.place).to("cpu", torch.float16))
        source.append(of)
        click.echo(f"{sum(map(len, source))} windows read", err=True)
    return Seen(torch.cat(features), np.concatenate(source)) if source else Seen(torch.empty(0), np.empty(0, np.int64))


@torch.no_grad()
def pooled(compute: Pooling, windows: np.ndarray, place: torch.device) -> Tensor:
    """uint8[N, S, S, 3] -> float32[N, F], by batches of one size, for which a compiled network was compiled."""
    made = []
    for start in range(0, len(windows), BATCH):
        filled = np.take(windows, np.arange(start, start + BATCH), axis=0, mode="wrap")
        with torch.autocast(place.type, torch.bfloat16, enabled=fast_bfloat16(place)):
            made.append(compute(torch.from_numpy(filled).to(place))[1].float())
    return torch.cat(made)[: len(windows)] if made else torch.empty(0)


def _windows(samples: list[Sample], passes: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(windows uint8[N, S, S, 3], source int64[N]), those of some pictures at a time."""
    # Without what other training keeps beside it, a picture is soon sent to another process.
    light = [replace(sample, variants=[], chains=[]) for sample in samples]
    with ProcessPoolExecutor() as pool:
        for number in range(passes):
            for start in range(0, len(light), PICTURES):
                jobs = [(sample, [seed, number, start + i]) for i, sample in enumerate(light[start : start + PICTURES])]
                cut = list(pool.map(_windows_of, jobs, chunksize=32))
                yield np.concatenate(cut), np.repeat([sample.source for sample, _ in jobs], WINDOWS)


def _windows_of(job: tuple[Sample, list[int]]) -> np.ndarray:
    sample, seed = job
    rng = np.random.default_rng(seed)
    pixels = through_chain(sample, int(rng.integers(2**62)))
    windows = [crop(pixels, rng) for _ in range(WINDOWS)]
    shown = zip(windows, curves(random_tones(rng, WINDOWS)), rng.random(WINDOWS) < TONED, strict=True)
    return np.stack([toned(window, curve) if changed else window for window, curve, changed in shown])
