"""Fit `Network.compared` and `Network.embedding`, the embedding's own layers, on the features of a trained network.

The features include windows of strongly edited pictures. Without them, comparing two pictures with different edits hardly works.
"""

from __future__ import annotations

import click
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.data.dataset import Generator
from training.fit.features import WindowFeatures, compute_features, first_linear
from training.fit.losses import Proxies, supervised_contrastive_loss
from training.fit.trainer import Average, Best
from training.fit.validation import Validation
from training.model.network import Network, hidden_layer

# Generators in a step and windows per generator. The number of steps shows each window about `EPOCHS` times, and is at least `MIN_STEPS`:
# the moving averages do not settle earlier.
GENERATORS, WINDOWS, EPOCHS, MIN_STEPS = 64, 8, 5, 400
LR, WEIGHT_DECAY, DROPOUT, WARM_UP = 2e-3, 1e-2, 0.1, 0.05
# Fraction of the strongly edited windows that is used. With all of them, unedited pictures are compared less well.
STRONG_FRACTION = 0.5
# How often validation chooses between the moving averages.
VALIDATIONS = 8


def fit_embedding(
    network: Network, sources: list[Generator], features: WindowFeatures, validation: Validation, seed: int
) -> dict[str, Tensor]:
    """Fit the embedding's layers.

    Args:
        network: trained network in evaluation mode.
        sources: all sources of the collection.
        features: features of windows of training generators.
        validation: windows that decide which moving average is kept. Nothing is learnt from them.
        seed: seed of initialisation and sampling.

    Returns:
        Values of `compared` and `embedding` by their names in the network. Empty if the embedding shares the hidden layer of the other
        heads, or if there are fewer than two generators.
    """
    if network.compared is None or len(features.rows_by_source()) < 2:
        return {}
    held_out = compute_features(network.pooled, validation.windows["zoo"], network.device)
    layers = _train(network, sources, features, held_out, validation, seed)
    named = (("compared", layers[0]), ("embedding", layers[2]))
    return {f"{name}.{key}": value.cpu() for name, layer in named for key, value in layer.state_dict().items()}


def _train(
    network: Network,
    sources: list[Generator],
    features: WindowFeatures,
    held_out: Tensor,
    validation: Validation,
    seed: int,
) -> nn.Sequential:
    """Train a hidden layer, dropout and the embedding's layer with the contrastive and the proxy loss.

    Keeps the moving average that best tells one validation generator from two, on the features `held_out` of validation windows.
    """
    torch.manual_seed(seed)
    config, device = network.config, network.device
    hidden = hidden_layer(config, config.compared)
    layers = nn.Sequential(hidden, nn.Dropout(DROPOUT), nn.Linear(config.compared, config.embedding)).to(device)
    proxies = Proxies(sources, config.embedding).to(device)
    known, scale = features.features.to(device), features.scale(device)

    def embed(module: nn.Module, x: Tensor) -> Tensor:
        return F.normalize(module(scale(x)), dim=1)

    optimizer = torch.optim.AdamW([*layers.parameters(), *proxies.parameters()], LR, weight_decay=WEIGHT_DECAY)
    rng = np.random.default_rng(seed)
    groups = list(rows_by_source(features, rng).values())
    steps = max(MIN_STEPS, EPOCHS * sum(map(len, groups)) // (GENERATORS * WINDOWS))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=steps, pct_start=WARM_UP)
    average, best = Average(layers), Best()
    for step in range(1, steps + 1):
        drawn = rng.permutation(len(groups))[:GENERATORS]
        rows = np.concatenate([rng.choice(groups[i], WINDOWS) for i in drawn])
        origin = torch.from_numpy(features.source[rows]).to(device)
        embedding = embed(layers, known[torch.from_numpy(rows).to(device)])
        loss = supervised_contrastive_loss(embedding, origin) + proxies(embedding, origin)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        average.update(layers, step)
        if step % (steps // VALIDATIONS) == 0:
            with torch.no_grad():
                auc = (
                    validation.same_generator(embed(average.network, held_out).cpu().numpy()) if len(held_out) else None
                )
            best.consider({} if auc is None else {"same_generator": auc}, step, average)
            click.echo(f"embedding: step {step} of {steps}, loss {loss.item():.3f}, validation AUC {auc}", err=True)
    layers.load_state_dict(best.values)
    scale.fold_into(first_linear(hidden))
    return layers.eval()


def rows_by_source(features: WindowFeatures, rng: np.random.Generator) -> dict[int, np.ndarray]:
    """Return the rows of each source, with a random `STRONG_FRACTION` of the strongly edited ones."""
    edited = features.unedited != np.arange(len(features.unedited))
    kept = ~edited | (rng.random(len(edited)) < STRONG_FRACTION)
    return {source: rows[kept[rows]] for source, rows in features.rows_by_source().items()}
