"""What spectral lines say of a window by themselves: `Network.by_lines`, fitted when all else is trained.

The features are fixed, so a minute is enough. It learns from public generators and whole photos alone: the zoo's pictures show photos
that were made smaller first, and what tells these apart misleads about all others (training/results/tried.json).
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.dataset import Collection, Sample, crop
from training.networks import SpectralLines, lines_layers, scaled
from training.pooled import Seen

# Windows cut from every variant of a picture.
WINDOWS = 2
# How often each is learnt from, how many are in a step, and how few steps there are at least.
EPOCHS, BATCH, LEAST = 12, 512, 100
RATE, WEIGHT_DECAY, DROPOUT = 2e-3, 5e-2, 0.2
# How much of what they say is added to what the rest of the network says. More costs the zoo, of which they know nothing, more than
# public generators gain (training/results/tried.json).
SHARE = 0.5


def fitted(collection: Collection, seed: int) -> dict[str, Tensor]:
    """The values of `by_lines`, by their names in a network; none where there are no public generators, or no photos, that have variants
    to train on."""
    samples = [s for s in collection.samples if s.variants and not collection.sources[s.source].zoo]
    generated = np.array([collection.sources[s.source].labels is not None for s in samples])
    if generated.all() or not generated.any():
        return {}
    rng = np.random.default_rng(seed)
    lines = SpectralLines()
    features = [_features(lines, sample, rng) for sample in samples]
    counts = [len(of_one) for of_one in features]
    seen = Seen(torch.cat(features), np.repeat([sample.source for sample in samples], counts))
    layers = _learn(seen, np.repeat(generated, counts), seed)
    return {f"by_lines.{name}": value for name, value in layers.state_dict().items()}


@torch.no_grad()
def _features(lines: SpectralLines, sample: Sample, rng: np.random.Generator) -> Tensor:
    windows = np.stack([crop(pixels, rng) for pixels in sample.variants for _ in range(WINDOWS)])
    features: Tensor = lines(scaled(torch.from_numpy(windows)))
    return features


def _learn(seen: Seen, generated: np.ndarray, seed: int) -> nn.Sequential:
    """Layers that tell windows of generated pictures, `generated` bool[N], from photos'."""
    torch.manual_seed(seed)
    layers, scale = lines_layers(), seen.scale(torch.device("cpu"))
    nn.init.normal_(layers[-1].weight, std=0.1)
    features, truth = scale(seen.features), torch.from_numpy(generated).float()
    weights = _weights(seen, generated)
    optimizer = torch.optim.AdamW(layers.parameters(), RATE, weight_decay=WEIGHT_DECAY)
    steps = max(LEAST, EPOCHS * len(truth) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    order = torch.cat([torch.randperm(len(truth)) for _ in range(-(-steps * BATCH // len(truth)))])
    for step in range(steps):
        rows = order[step * BATCH : (step + 1) * BATCH]
        hidden = F.dropout(layers[:-1](features[rows]), DROPOUT)
        said = layers[-1](hidden)[:, 0]
        loss = F.binary_cross_entropy_with_logits(said, truth[rows], weights[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    scale.put_in(layers[0])
    with torch.no_grad():
        for value in layers[-1].parameters():
            value.mul_(SHARE)
    return layers


def _weights(seen: Seen, generated: np.ndarray) -> Tensor:
    """Of every window, float32[N], one on average: photos together have as much as generated pictures, and sources of four times as many
    windows twice as much."""
    weights = np.ones(len(generated), np.float32)
    for members in seen.members().values():
        weights[members] = len(members) ** -0.5
    for of_class in (generated, ~generated):
        weights[of_class] *= len(generated) / 2 / weights[of_class].sum()
    return torch.from_numpy(weights)
