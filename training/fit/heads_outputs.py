"""Refit `Network.hidden` and `Network.heads` on the features of a trained network.

Each step holds windows of 64 generators, all public ones included; training of the whole network has room for few of them. Detection learns
mostly from the network's earlier probability (self-distillation) and to a fifth from the labels. A higher share of labels detects more of
the zoo and fewer public generators. For a strongly edited window, the target is the earlier probability of the same picture unedited,
because the whole network was never trained on strong edits.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn

from training.data.dataset import Generator
from training.fit.features import WindowFeatures, first_linear
from training.fit.losses import Targets, Weights, head_losses
from training.fit.trainer import Average
from training.model.network import Network

# Generators in a step, windows per generator, and windows of photos. Half of the photos are the crops that the zoo was trained on.
GENERATORS, WINDOWS, PHOTOS = 64, 4, 128
STEPS, LR, WEIGHT_DECAY, DROPOUT, WARM_UP = 4000, 5e-4, 1e-2, 0.3, 0.05
# Windows in a batch when targets are computed.
BATCH = 8192
# Weight of the label in the detection target.
LABEL_WEIGHT = 0.2


def fit_outputs(
    network: Network, sources: list[Generator], generated: WindowFeatures, photos: WindowFeatures, seed: int
) -> dict[str, Tensor]:
    """Refit the hidden layer and all output layers.

    Args:
        network: trained network in evaluation mode.
        sources: all sources of the collection.
        generated: features of windows of training generators.
        photos: features of windows of training photos.
        seed: seed of initialisation and sampling.

    Returns:
        Values of `hidden` and `heads` by their names in the network. Empty if there are no windows of generators or of photos.
    """
    is_zoo = np.array([source.zoo for source in sources])[photos.source]
    photo_rows = [rows for zoo in (False, True) if len(rows := np.flatnonzero(is_zoo == zoo))]
    if not len(generated.source) or not photo_rows:
        return {}
    torch.manual_seed(seed)
    rng, device = np.random.default_rng(seed), network.device
    scale = generated.scale(device)
    hidden_layer, heads = copy.deepcopy(network.hidden), copy.deepcopy(network.heads)
    layers = nn.ModuleDict({"hidden": hidden_layer, "heads": heads}).train()
    scale.remove_from(first_linear(hidden_layer))
    dropout = nn.Dropout(DROPOUT)
    targets, weights = Targets.from_sources(sources, device), Weights()
    optimizer = torch.optim.AdamW(layers.parameters(), LR, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=STEPS, pct_start=WARM_UP)
    average = Average(layers)
    generated_before, photos_before = (_probabilities(network, features) for features in (generated, photos))
    rows_by_source = generated.rows_by_source()
    public = [source for source in rows_by_source if not sources[source].zoo]
    zoo = [source for source in rows_by_source if sources[source].zoo]
    for step in range(1, STEPS + 1):
        drawn = [*public, *rng.permutation(zoo)[: max(0, GENERATORS - len(public))]]
        rows = np.concatenate([rng.choice(rows_by_source[source], WINDOWS) for source in drawn])
        photo = np.concatenate([rng.choice(members, PHOTOS // len(photo_rows)) for members in photo_rows])
        features = torch.cat([generated.features[rows], photos.features[photo]]).to(device).float()
        source = torch.from_numpy(np.concatenate([generated.source[rows], photos.source[photo]])).to(device)
        before = torch.cat([generated_before[rows], photos_before[photo]]).to(device)
        wanted = LABEL_WEIGHT * targets.generated[source] + (1 - LABEL_WEIGHT) * before
        hidden = dropout(hidden_layer(scale(features)))
        outputs = {name: head(hidden) for name, head in heads.items()}
        optimizer.zero_grad()
        loss = torch.stack(list(head_losses(outputs, source, targets, weights, wanted).values())).sum()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
        average.update(layers, step)
    fitted = average.network
    scale.fold_into(first_linear(fitted.get_submodule("hidden")))
    return {name: value.cpu() for name, value in fitted.state_dict().items()}


@torch.no_grad()
def _probabilities(network: Network, features: WindowFeatures) -> Tensor:
    """Return the network's probability of "generated" for the unedited picture of each window, float32[N], on the CPU."""
    layers = nn.Sequential(network.hidden, network.heads["generated"])
    batches = torch.split(features.features, BATCH)
    parts = [layers(part.to(network.device).float())[:, 0].sigmoid().cpu() for part in batches]
    return torch.cat(parts)[features.unedited]
