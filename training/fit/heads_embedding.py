"""The embedding by itself, learnt anew when all else is: `Network.compared` and `Network.embedding`, on what the rest sees in windows.

Windows of pictures after heavy edits are among these: without any, two pictures that were edited otherwise are hardly compared
(training/results/tried.json).
"""

from __future__ import annotations

import click
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.data.dataset import Generator
from training.fit.features import WindowFeatures, compute_features
from training.fit.losses import Proxies, supervised_contrastive_loss
from training.fit.trainer import Average, Best
from training.fit.validation import Validation
from training.model.network import Network, hidden_layer

# Generators in a step, windows of each, and how many steps there are by what was read: each window is seen about that often. With fewer
# steps than the least no moving average has followed.
GENERATORS, EACH, SEEN, LEAST = 64, 8, 5, 400
RATE, WEIGHT_DECAY, DROPOUT, WARM_UP = 2e-3, 1e-2, 0.1, 0.05
# So many of the windows of heavily edited pictures are learnt from. With all of them pictures as they come are told apart worse
# (training/results/tried.json).
EDITED = 0.5
# How often validation looks which moving average is best.
LOOKS = 8


def fitted(
    network: Network, sources: list[Generator], seen: WindowFeatures, validation: Validation, seed: int
) -> dict[str, Tensor]:
    """The values of `compared` and `embedding`, by their names in the network; none where the embedding has no hidden layer of its own, or
    where there are not two generators to learn from.

    Args:
        network: in evaluation mode, with all else that it has learnt.
        seen: what it sees of windows of training generators.
        validation: what decides which moving average is kept; nothing is learnt from it.
    """
    if network.compared is None or len(seen.members()) < 2:
        return {}
    unseen = compute_features(network.pooled, validation.windows["zoo"], network.device)
    layers = learn(network, sources, seen, unseen, validation, seed)
    named = (("compared", layers[0]), ("embedding", layers[2]))
    return {f"{name}.{key}": value.cpu() for name, layer in named for key, value in layer.state_dict().items()}


def learn(
    network: Network,
    sources: list[Generator],
    seen: WindowFeatures,
    unseen: Tensor,
    validation: Validation,
    seed: int,
) -> nn.Sequential:
    """A hidden layer, dropout and the embedding's layer, by supervised contrast and proxies, from what is `seen` of windows.

    Of the moving averages the one is kept that tells best one validation generator from two, by the features `unseen` of its windows.
    """
    torch.manual_seed(seed)
    config, place = network.config, network.device
    hidden = hidden_layer(config, config.compared)
    layers = nn.Sequential(hidden, nn.Dropout(DROPOUT), nn.Linear(config.compared, config.embedding)).to(place)
    proxies = Proxies(sources, config.embedding).to(place)
    known, source = seen.features.to(place), seen.source
    scale = seen.scale(place)

    def embedded(by: nn.Module, features: Tensor) -> Tensor:
        made: Tensor = F.normalize(by(scale(features)), dim=1)
        return made

    optimizer = torch.optim.AdamW([*layers.parameters(), *proxies.parameters()], RATE, weight_decay=WEIGHT_DECAY)
    rng = np.random.default_rng(seed)
    rows_of = list(members(seen, rng).values())
    steps = max(LEAST, SEEN * sum(map(len, rows_of)) // (GENERATORS * EACH))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps, pct_start=WARM_UP)
    average, best = Average(layers), Best()
    for step in range(1, steps + 1):
        drawn = rng.permutation(len(rows_of))[:GENERATORS]
        rows = np.concatenate([rng.choice(rows_of[i], EACH) for i in drawn])
        origin = torch.from_numpy(source[rows]).to(place)
        embedding = embedded(layers, known[torch.from_numpy(rows).to(place)])
        loss = supervised_contrastive_loss(embedding, origin) + proxies(embedding, origin)
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
    scale.put_in(hidden[0])
    return layers.eval()


def members(seen: WindowFeatures, rng: np.random.Generator) -> dict[int, np.ndarray]:
    """The windows of every source, fewer of those after heavy edits."""
    edited = seen.plain != np.arange(len(seen.plain))
    kept = ~edited | (rng.random(len(edited)) < EDITED)
    return {source: rows[kept[rows]] for source, rows in seen.members().items()}
