"""The answers by themselves, learnt on when all else is: `Network.hidden` and `Network.heads`, on what the rest sees in windows.

Beside the windows of sixty-four generators a step has those of every public generator, of which the whole network sees too few. What is
camera and what generated is learnt from what the network said before, and to a fifth from the labels: the more of these, the more of the
zoo it tells, and the fewer of public generators (training/results/tried.json). Of a picture after heavy edits, which the whole network
has seen none of, it is what the network said before of the picture without them.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn

from training.data.dataset import Generator
from training.fit.features import WindowFeatures
from training.fit.losses import Targets, Weights, head_losses
from training.fit.trainer import Average
from training.model.network import Network

# Generators in a step, windows of each, and of photos, half of which are those that the zoo saw.
GENERATORS, EACH, PHOTOS = 64, 4, 128
STEPS, RATE, WEIGHT_DECAY, DROPOUT, WARM_UP = 4000, 5e-4, 1e-2, 0.3, 0.05
# Windows that are asked about at a time.
AT_ONCE = 8192
# The share of the labels in what is camera and what generated.
LABELS = 0.2


def fitted(
    network: Network, sources: list[Generator], made: WindowFeatures, photos: WindowFeatures, seed: int
) -> dict[str, Tensor]:
    """The values of `hidden` and `heads`, by their names in the network; none without windows of generators or of photos.

    Args:
        network: in evaluation mode, with all that it has learnt.
        made: what it sees of windows of training generators.
        photos: and of training photos.
    """
    of_zoo = np.array([source.zoo for source in sources])[photos.source]
    of_sets = [rows for zoo in (False, True) if len(rows := np.flatnonzero(of_zoo == zoo))]
    if not len(made.source) or not of_sets:
        return {}
    torch.manual_seed(seed)
    rng, place = np.random.default_rng(seed), network.device
    scale = made.scale(place)
    layers = nn.ModuleDict({"hidden": copy.deepcopy(network.hidden), "heads": copy.deepcopy(network.heads)}).train()
    scale.take_out(layers["hidden"][0])
    dropout = nn.Dropout(DROPOUT)
    targets, weights = Targets.from_sources(sources, place), Weights()
    optimizer = torch.optim.AdamW(layers.parameters(), RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=STEPS, pct_start=WARM_UP)
    average = Average(layers)
    of_made, of_photos = (_before(network, seen) for seen in (made, photos))
    members = made.members()
    public = [source for source in members if not sources[source].zoo]
    others = [source for source in members if sources[source].zoo]
    for step in range(1, STEPS + 1):
        drawn = [*public, *rng.permutation(others)[: max(0, GENERATORS - len(public))]]
        rows = np.concatenate([rng.choice(members[source], EACH) for source in drawn])
        taken = np.concatenate([rng.choice(of_set, PHOTOS // len(of_sets)) for of_set in of_sets])
        features = torch.cat([made.features[rows], photos.features[taken]]).to(place).float()
        source = torch.from_numpy(np.concatenate([made.source[rows], photos.source[taken]])).to(place)
        before = torch.cat([of_made[rows], of_photos[taken]]).to(place)
        taught = LABELS * targets.generated[source] + (1 - LABELS) * before
        hidden = dropout(layers["hidden"](scale(features)))
        outputs = {name: head(hidden) for name, head in layers["heads"].items()}
        optimizer.zero_grad()
        torch.stack(list(head_losses(outputs, source, targets, weights, taught).values())).sum().backward()
        optimizer.step()
        schedule.step()
        average.update(layers, step)
    learnt = average.network
    scale.put_in(learnt["hidden"][0])
    return {name: value.cpu() for name, value in learnt.state_dict().items()}


@torch.no_grad()
def _before(network: Network, seen: WindowFeatures) -> Tensor:
    """How probably each window's picture without heavy edits is generated, as the network says, float32[N], on the CPU."""
    layers = nn.Sequential(network.hidden, network.heads["generated"])
    parts = [layers(part.to(network.device).float())[:, 0].sigmoid().cpu() for part in seen.features.split(AT_ONCE)]
    return torch.cat(parts)[seen.plain]
