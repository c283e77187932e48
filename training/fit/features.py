"""What a finished network sees in windows of pictures, before the layers that are learnt last (`Network.pooled`).

The rest stays as it is, so that a window is looked at once and learnt from many times, and a step takes milliseconds with the windows of
sixty-four generators in it, where a step of the whole network has room for twenty.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from training.data import augment
from training.data.dataset import Sample, crop, through_chain
from training.data.tones import curves, random_tones, toned
from training.device import supports_fast_bfloat16
from training.model.network import Network, feature_count

# Windows of a picture each time that it is looked at, through a codec chain that is never used again, and the share with random tones.
WINDOWS, TONED = 2, 0.6
# So many passes have one more look at every picture, after an edit that few pictures go through (`augment.strong_chain`).
PASSES_A_HEAVY_LOOK = 3
# Windows that the network gets at a time, and pictures that a process does.
BATCH, CHUNK = 128, 15
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
    """What hidden layers read of windows, float16[N, F], on the CPU; the windows' sources, int64[N]; and of every window one of the same
    picture without heavy edits, int64[N]: itself, where it has none."""

    features: Tensor
    source: np.ndarray
    plain: np.ndarray

    def members(self) -> dict[int, np.ndarray]:
        """The windows of every source."""
        return {int(i): np.flatnonzero(self.source == i) for i in np.unique(self.source)}

    def scale(self, place: torch.device) -> Scale:
        """That of these features; those that hardly differ are made no louder by it."""
        some = self.features[:: max(1, len(self.features) // STATISTICS)].float()
        return Scale(some.mean(0).to(place), (some.std(0) + 1e-3).to(place))


def strong_head_epochs(passes: int) -> int:
    """How often every picture is looked at after heavy edits, beside so many passes."""
    return passes // PASSES_A_HEAVY_LOOK


def read(
    network: Network, samples: list[Sample], passes: int, seed: int, *, kept: Path | None = None, compiled: bool = False
) -> Seen:
    """Look at every picture so many times, and then some more times after heavy edits; `WINDOWS` each.

    Args:
        network: in evaluation mode.
        kept: a folder that gets a file of each source's pictures in each pass, so that a run that was cut short goes on from there, and one
            with more sources looks at those alone.
        compiled: whether TorchInductor makes the network faster, which takes it a minute and a C++ compiler.
    """
    compute = torch.compile(network.pooled, dynamic=False) if compiled else network.pooled
    of_source: dict[int, list[Sample]] = defaultdict(list)
    for sample in samples:
        # Without what other training keeps beside it, a picture is soon sent to another process.
        of_source[sample.source].append(replace(sample, variants=[], chains=[]))
    by = _digest_of_network(network)
    digests = {source: _digest(by, pictures, seed) for source, pictures in of_source.items()}
    numbers = {False: passes, True: strong_head_epochs(passes)}
    looks = [
        (heavy, number, source) for heavy, count in numbers.items() for number in range(count) for source in of_source
    ]
    windows = [WINDOWS * len(of_source[source]) for _, _, source in looks]
    seen = torch.empty((sum(windows), feature_count(network.config)), dtype=torch.float16)
    with ProcessPoolExecutor() as pool:
        for (heavy, number, source), rows in tqdm(
            zip(looks, seen.split(windows), strict=True), total=len(looks), desc="looks at a source"
        ):
            digest = digests[source]
            file = kept and kept / f"{'heavy' if heavy else 'seen'}-{digest}-{number:03d}.npy"
            if file and file.exists():
                rows[:] = torch.from_numpy(np.load(file, allow_pickle=False))
                continue
            chain = augment.strong_chain if heavy else augment.random_chain
            seeds = [[seed, number, int(digest, 16), i] + [1] * heavy for i in range(len(of_source[source]))]
            jobs = [(sample, of_one, chain) for sample, of_one in zip(of_source[source], seeds, strict=True)]
            shown = np.concatenate(list(pool.map(_windows_of, jobs, chunksize=CHUNK)))
            rows[:] = pooled(compute, shown, network.device).to("cpu", torch.float16)
            if file:
                temporary = file.with_name(f".{file.name}")
                with temporary.open("wb") as stream:
                    np.save(stream, rows.numpy())
                temporary.replace(file)
    # All passes look at the pictures in one order.
    passed = passes * sum(windows[: len(of_source)])
    plain = np.arange(len(seen))
    plain[passed:] -= passed
    return Seen(seen, np.repeat(np.array([source for *_, source in looks], np.int64), windows), plain)


def _digest_of_network(network: Network) -> bytes:
    """What differs where another network sees other things in the same windows, however wide its hidden layers are."""
    config = network.config
    digest = hashlib.sha256(repr((config.fen_moments, config.spectrum, config.lines)).encode())
    for name, value in network.state_dict().items():
        if name.startswith(("fen.", "trunk.")):
            digest.update(value.cpu().numpy().tobytes())
    return digest.digest()


def _digest(by: bytes, samples: list[Sample], seed: int) -> str:
    """Sixteen hexadecimal digits that differ where other things would be seen: other pictures, or `by` another network. Other codec chains
    or tones in the code are not noticed."""
    digest = hashlib.sha256(by + repr((seed, WINDOWS, TONED)).encode())
    for sample in samples:
        digest.update(repr((sample.pixels.shape, sample.jpeg)).encode() + sample.pixels[::64, ::64].tobytes())
    return digest.hexdigest()[:16]


@torch.no_grad()
def pooled(compute: Pooling, windows: np.ndarray, place: torch.device) -> Tensor:
    """uint8[N, S, S, 3] -> float32[N, F], by batches of one size, for which a compiled network was compiled."""
    made = []
    for start in range(0, len(windows), BATCH):
        filled = np.take(windows, np.arange(start, start + BATCH), axis=0, mode="wrap")
        with torch.autocast(place.type, torch.bfloat16, enabled=supports_fast_bfloat16(place)):
            made.append(compute(torch.from_numpy(filled).to(place))[1].float())
    return torch.cat(made)[: len(windows)] if made else torch.empty(0)


def _windows_of(job: tuple[Sample, list[int], augment.Change]) -> np.ndarray:
    sample, seed, chain = job
    rng = np.random.default_rng(seed)
    pixels = through_chain(sample, int(rng.integers(2**62)), chain)
    windows = [crop(pixels, rng) for _ in range(WINDOWS)]
    shown = zip(windows, curves(random_tones(rng, WINDOWS)), rng.random(WINDOWS) < TONED, strict=True)
    return np.stack([toned(window, curve) if changed else window for window, curve, changed in shown])
