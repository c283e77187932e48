"""Features that a trained network computes of windows: the input of the layers that are fitted last (`Network.pooled`).

All other layers stay fixed, so each window goes through them once and its features are used many times. A step then takes milliseconds with
windows of 64 generators; a step of the whole network has room for 20.
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
from training.data.dataset import Sample, apply_chain, crop
from training.data.tones import apply_curves, curves, draw_tones
from training.device import supports_fast_bfloat16
from training.model.network import Network, feature_count

# Windows per picture and epoch, each with a new codec chain, and the fraction of windows with random tone curves.
WINDOWS, TONED = 2, 0.6
# Epochs per additional epoch with strong edits (`augment.strong_chain`).
EPOCHS_PER_STRONG_EPOCH = 3
# Windows in a batch of the network, and pictures in a job of a process.
BATCH, CHUNK = 128, 15
# Approximate number of windows from which mean and deviation are estimated.
STATISTICS = 50_000

# `Network.pooled`, possibly compiled.
Pooling = Callable[[Tensor], tuple[Tensor, Tensor, Tensor | None]]


@dataclass(frozen=True)
class Scale:
    """Standardises features: an optimizer then moves the weights of all features alike.

    Attributes:
        mean: float32[F].
        deviation: standard deviation, float32[F].
    """

    mean: Tensor
    deviation: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """Standardise features [N, F], and return float32[N, F]."""
        return (features.float() - self.mean) / self.deviation

    @torch.no_grad()
    def remove_from(self, layer: nn.Linear) -> None:
        """Change a layer on raw features so that it gives the same outputs on standardised features."""
        layer.bias.add_(layer.weight @ self.mean)
        layer.weight.mul_(self.deviation)

    @torch.no_grad()
    def fold_into(self, layer: nn.Linear) -> None:
        """Change a layer on standardised features so that it gives the same outputs on raw features."""
        layer.weight.div_(self.deviation)
        layer.bias.sub_(layer.weight @ self.mean)


def first_linear(layer: nn.Module) -> nn.Linear:
    """Return the first linear layer of a hidden layer."""
    return next(part for part in layer.modules() if isinstance(part, nn.Linear))


@dataclass(frozen=True)
class WindowFeatures:
    """Features of N windows, on the CPU.

    Attributes:
        features: float16[N, F].
        source: source of each window, int64[N].
        unedited: row of a window of the same picture without strong edits, int64[N]. A window without strong edits names its own row.
    """

    features: Tensor
    source: np.ndarray
    unedited: np.ndarray

    def rows_by_source(self) -> dict[int, np.ndarray]:
        """Return the rows of each source."""
        return {int(i): np.flatnonzero(self.source == i) for i in np.unique(self.source)}

    def scale(self, device: torch.device) -> Scale:
        """Estimate mean and deviation. A small constant keeps features that hardly vary from being amplified."""
        sample = self.features[:: max(1, len(self.features) // STATISTICS)].float()
        return Scale(sample.mean(0).to(device), (sample.std(0) + 1e-3).to(device))


def strong_head_epochs(epochs: int) -> int:
    """Return the number of epochs with strong edits that are added to `epochs`."""
    return epochs // EPOCHS_PER_STRONG_EPOCH


def extract_features(
    network: Network, samples: list[Sample], epochs: int, seed: int, *, kept: Path | None = None, compiled: bool = False
) -> WindowFeatures:
    """Compute the features of `WINDOWS` windows of each picture in each epoch, and in the epochs with strong edits.

    Args:
        network: trained network in evaluation mode.
        samples: pictures.
        epochs: epochs without strong edits.
        seed: seed of codec chains and windows.
        kept: folder of one file per source and epoch. A run that was interrupted resumes from them, and added sources alone are computed.
        compiled: compile the network with TorchInductor; takes about a minute and a C++ compiler.
    """
    compute = torch.compile(network.pooled, dynamic=False) if compiled else network.pooled
    by_source: dict[int, list[Sample]] = defaultdict(list)
    for sample in samples:
        # Without its variants, a picture is sent to another process faster.
        by_source[sample.source].append(replace(sample, variants=[], chains=[]))
    network_digest = _digest_of_network(network)
    digests = {source: _digest(network_digest, pictures, seed) for source, pictures in by_source.items()}
    counts = {False: epochs, True: strong_head_epochs(epochs)}
    jobs = [
        (strong, epoch, source) for strong, count in counts.items() for epoch in range(count) for source in by_source
    ]
    sizes = [WINDOWS * len(by_source[source]) for _, _, source in jobs]
    features = torch.empty((sum(sizes), feature_count(network.config)), dtype=torch.float16)
    with ProcessPoolExecutor() as pool:
        for (strong, epoch, source), rows in tqdm(
            zip(jobs, torch.split(features, sizes), strict=True), total=len(jobs), desc="features of a source"
        ):
            digest = digests[source]
            # These file names are those of runs that exist.
            file = kept and kept / f"{'strong' if strong else 'seen'}-{digest}-{epoch:03d}.npy"
            if file and file.exists():
                rows[:] = torch.from_numpy(np.load(file, allow_pickle=False))
                continue
            windows = _cut_windows(pool, by_source[source], [seed, epoch, int(digest, 16)], strong)
            rows[:] = compute_features(compute, windows, network.device).to("cpu", torch.float16)
            if file:
                _save(file, rows.numpy())
    # All epochs list the pictures in the same order.
    strong_start = epochs * sum(sizes[: len(by_source)])
    unedited = np.arange(len(features))
    unedited[strong_start:] -= strong_start
    return WindowFeatures(features, np.repeat(np.array([source for *_, source in jobs], np.int64), sizes), unedited)


def _cut_windows(pool: ProcessPoolExecutor, samples: list[Sample], seed: list[int], strong: bool) -> np.ndarray:
    """Return `WINDOWS` windows of each picture, uint8[N, S, S, 3]."""
    chain = augment.strong_chain if strong else augment.random_chain
    seeds = [[*seed, i] + [1] * strong for i in range(len(samples))]
    jobs = [(sample, own_seed, chain) for sample, own_seed in zip(samples, seeds, strict=True)]
    return np.concatenate(list(pool.map(_windows_of, jobs, chunksize=CHUNK)))


def _save(file: Path, array: np.ndarray) -> None:
    """Write an array atomically."""
    temporary = file.with_name(f".{file.name}")
    with temporary.open("wb") as stream:
        np.save(stream, array)
    temporary.replace(file)


def _digest_of_network(network: Network) -> bytes:
    """Hash the layers that compute the features."""
    config = network.config
    digest = hashlib.sha256(repr((config.fen_moments, config.spectrum, config.lines)).encode())
    for name, value in network.state_dict().items():
        if name.startswith(("fen.", "trunk.")):
            digest.update(value.cpu().numpy().tobytes())
    return digest.digest()


def _digest(network_digest: bytes, samples: list[Sample], seed: int) -> str:
    """Return 16 hexadecimal digits that identify network, pictures and seed.

    A change of codec chains or tone curves in the code does not change the digits.
    """
    digest = hashlib.sha256(network_digest + repr((seed, WINDOWS, TONED)).encode())
    for sample in samples:
        digest.update(repr((sample.pixels.shape, sample.jpeg)).encode() + sample.pixels[::64, ::64].tobytes())
    return digest.hexdigest()[:16]


@torch.no_grad()
def compute_features(compute: Pooling, windows: np.ndarray, device: torch.device) -> Tensor:
    """Return the features of windows uint8[N, S, S, 3] as float32[N, F].

    The last batch is filled up, because a compiled network takes one batch size only.
    """
    parts = []
    for start in range(0, len(windows), BATCH):
        batch = np.take(windows, np.arange(start, start + BATCH), axis=0, mode="wrap")
        with torch.autocast(device.type, torch.bfloat16, enabled=supports_fast_bfloat16(device)):
            parts.append(compute(torch.from_numpy(batch).to(device))[1].float())
    return torch.cat(parts)[: len(windows)] if parts else torch.empty(0)


def _windows_of(job: tuple[Sample, list[int], augment.Change]) -> np.ndarray:
    sample, seed, chain = job
    rng = np.random.default_rng(seed)
    pixels = apply_chain(sample, int(rng.integers(2**62)), chain)
    windows = [crop(pixels, rng) for _ in range(WINDOWS)]
    tones = zip(windows, curves(draw_tones(rng, WINDOWS)), rng.random(WINDOWS) < TONED, strict=True)
    return np.stack([apply_curves(window, curve) if changed else window for window, curve, changed in tones])
