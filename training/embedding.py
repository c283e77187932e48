"""The embedding by itself, learnt anew when all else is: `Network.compared` and `Network.embedding`, on what the rest sees in windows.

The rest stays as it is, so that a window is looked at once and learnt from many times, and a step takes milliseconds with the windows of
sixty-four generators in it, where a step of the whole network has room for twenty.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import click
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.dataset import Collection, Generator, Sample, crop, through_chain
from training.learner import Average, Best
from training.networks import Network, hidden_layer
from training.objectives import Proxies, supervised_contrastive
from training.tones import curves, random_tones, toned
from training.validation import Validation
from training.zoo.build import fast_bfloat16

# Windows of a picture each time that it is looked at, through a codec chain that is never used again, and the share with random tones.
WINDOWS, TONED = 2, 0.6
# Pictures that are read at a time, and windows.
PICTURES, BATCH = 2048, 128
# Generators in a step, windows of each, and how many steps there are by what was read: each window is seen about that often. With fewer
# steps than the least no moving average has followed.
GENERATORS, EACH, SEEN, LEAST = 64, 8, 5, 400
RATE, WEIGHT_DECAY, DROPOUT, WARM_UP = 2e-3, 1e-2, 0.1, 0.05
# About how many features give their mean and deviation.
STATISTICS = 50_000
# How often validation looks which moving average is best.
LOOKS = 8

# `Network.pooled`, or that compiled.
Pooling = Callable[[Tensor], tuple[Tensor, Tensor, Tensor | None]]


def fitted(
    network: Network, collection: Collection, validation: Validation, passes: int, seed: int, compiled: bool = False
) -> dict[str, Tensor]:
    """The values of `compared` and `embedding`, by their names in the network; none without passes, where the embedding has no hidden layer
    of its own, or where there are not two generators to learn from.

    Args:
        network: in evaluation mode, with all else that it has learnt.
        validation: what decides which moving average is kept; nothing is learnt from it.
        passes: how often every picture of a training generator is looked at.
        compiled: whether TorchInductor makes the network faster, which takes it a minute and a C++ compiler.
    """
    samples = collection.select(split="train", camera=False, source_split="train")
    if network.compared is None or passes == 0 or len({sample.source for sample in samples}) < 2:
        return {}
    features, source = read(network, samples, passes, seed, compiled)
    unseen = _pooled(network.pooled, validation.windows["zoo"], network.place)
    layers = learn(network, collection.sources, features, source, unseen, validation, seed)
    named = (("compared", layers[0]), ("embedding", layers[2]))
    return {f"{name}.{key}": value.cpu() for name, layer in named for key, value in layer.state_dict().items()}


def read(
    network: Network, samples: list[Sample], passes: int, seed: int, compiled: bool = False
) -> tuple[Tensor, np.ndarray]:
    """What hidden layers read of windows of these pictures: (float16[N, F], on the CPU, source int64[N])."""
    compute = torch.compile(network.pooled, dynamic=False) if compiled else network.pooled
    features, source = [], []
    for windows, of in _windows(samples, passes, seed):
        features.append(_pooled(compute, windows, network.place).to("cpu", torch.float16))
        source.append(of)
        click.echo(f"embedding: {sum(map(len, source))} windows read", err=True)
    return torch.cat(features), np.concatenate(source)


@torch.no_grad()
def _pooled(compute: Pooling, windows: np.ndarray, place: torch.device) -> Tensor:
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


def learn(
    network: Network,
    sources: list[Generator],
    features: Tensor,
    source: np.ndarray,
    unseen: Tensor,
    validation: Validation,
    seed: int,
) -> nn.Sequential:
    """A hidden layer, dropout and the embedding's layer, by supervised contrast and proxies, from `features` of windows of these sources.

    Of the moving averages the one is kept that tells best one validation generator from two, by the features `unseen` of its windows.
    """
    torch.manual_seed(seed)
    config, place = network.config, network.place
    hidden = hidden_layer(config)
    layers = nn.Sequential(hidden, nn.Dropout(DROPOUT), nn.Linear(config.hidden, config.embedding)).to(place)
    proxies = Proxies(sources, config.embedding).to(place)
    known = features.to(place)
    some = known[:: max(1, len(known) // STATISTICS)].float()
    # Features that hardly differ are no louder for it.
    mean, deviation = some.mean(0), some.std(0) + 1e-3

    def embedded(by: nn.Module, seen: Tensor) -> Tensor:
        made: Tensor = F.normalize(by((seen.float() - mean) / deviation), dim=1)
        return made

    optimizer = torch.optim.AdamW([*layers.parameters(), *proxies.parameters()], RATE, weight_decay=WEIGHT_DECAY)
    steps = max(LEAST, SEEN * len(source) // (GENERATORS * EACH))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps, pct_start=WARM_UP)
    average, best = Average(layers), Best()
    members = [np.flatnonzero(source == i) for i in np.unique(source)]
    rng = np.random.default_rng(seed)
    for step in range(1, steps + 1):
        drawn = rng.permutation(len(members))[:GENERATORS]
        rows = np.concatenate([rng.choice(members[i], EACH) for i in drawn])
        origin = torch.from_numpy(source[rows]).to(place)
        embedding = embedded(layers, known[torch.from_numpy(rows).to(place)])
        loss = supervised_contrastive(embedding, origin) + proxies(embedding, origin)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        average.update(layers, step)
        if step % (steps // LOOKS) == 0:
            with torch.no_grad():
                alike = (
                    validation.same_generator(embedded(average.network, unseen).cpu().numpy()) if len(unseen) else None
                )
            best.consider({} if alike is None else {"same_generator": alike}, step, average)
            click.echo(f"embedding: step {step} of {steps}, loss {loss.item():.3f}, validation {alike}", err=True)
    layers.load_state_dict(best.values)
    with torch.no_grad():
        first = hidden[0]
        first.weight.div_(deviation)
        first.bias.sub_(first.weight @ mean)
    return layers.eval()
