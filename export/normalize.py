"""Within-class covariance normalisation of the embedding (Hatch et al., Interspeech 2006), folded into its fully connected layer.

What pictures of one generator differ in, content above all, is made as small in every direction as in any other; what is left of the
distance between two pictures then rather says whether one generator made both. Fitted on training generators, and kept only where it
helps on validation ones.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor

from edgeparse import windows
from training.dataset import Collection, Sample, chain_seed, through_chain
from training.evaluate import Predictions, few, same_generator, with_photos_content
from training.networks import Network

# Pictures of each generator to fit on, and windows of each picture.
PICTURES, WINDOWS = 25, 4
# Of the mean variance, added in every direction: some directions hardly vary within the generators at hand.
REGULARISATION = 0.1


@torch.no_grad()
def raw_embeddings(network: Network, samples: list[Sample], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """What the fully connected layer gives for some windows of each picture, before it is brought to unit length.

    Returns:
        float32[P, WINDOWS, D] (windows of small pictures repeat), and the sources, int64[P].
    """
    given: list[Tensor] = []
    hook = network.embedding.register_forward_hook(lambda _layer, _given, made: given.append(made))
    try:
        for sample in samples:
            cut = windows.cut(through_chain(sample, chain_seed(sample.content(), 1, seed)), WINDOWS).pixels
            network(torch.from_numpy(cut[np.arange(WINDOWS) % len(cut)]))
    finally:
        hook.remove()
    return torch.stack(given).float().numpy(), np.array([sample.source for sample in samples])


def fit(raw: np.ndarray, source: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(matrix [D, D] that makes the within-class covariance of float[P, W, D] the unit matrix, the mean [D])."""
    flat, classes = raw.reshape(-1, raw.shape[-1]).astype(np.float64), np.repeat(source, raw.shape[1])
    within = np.zeros((flat.shape[1],) * 2)
    for i in np.unique(classes):
        mine = flat[classes == i]
        within += np.cov(mine.T) / len(np.unique(classes))
    within += REGULARISATION * np.trace(within) / len(within) * np.eye(len(within))
    values, vectors = np.linalg.eigh(within)
    return vectors @ np.diag(values**-0.5) @ vectors.T, flat.mean(0)


def folded(network: Network, matrix: np.ndarray, mean: np.ndarray) -> Network:
    """A copy of the network whose embedding is normalised."""
    network = copy.deepcopy(network).eval()
    layer, by = network.embedding, torch.from_numpy(matrix).float()
    with torch.no_grad():
        layer.bias.copy_(by @ (layer.bias - torch.from_numpy(mean).float()))
        layer.weight.copy_(by @ layer.weight)
    return network


def _auc(raw: np.ndarray, source: np.ndarray, collection: Collection) -> float:
    unit = raw / np.linalg.norm(raw, axis=-1, keepdims=True).clip(1e-12)
    made = with_photos_content(Predictions({"embedding": unit.mean(1)}, source), collection)
    figures = same_generator(made)
    return float(figures["auc"]) if figures else 0.5


def normalized(network: Network, collection: Collection) -> tuple[Network, dict[str, float]]:
    """The network with its embedding normalised, if that tells validation generators apart better; and both figures."""
    network = copy.deepcopy(network).eval()
    known = few(collection.select(split="train", camera=False, zoo=True, source_split="train"), PICTURES)
    strangers = few(collection.select(split="val", camera=False, zoo=True, source_split="val"), PICTURES)
    matrix, mean = fit(*raw_embeddings(network, known, seed=1))
    raw, source = raw_embeddings(network, strangers, seed=1)
    before = _auc(raw, source, collection)
    after = _auc((raw - mean.astype(np.float32)) @ matrix.T.astype(np.float32), source, collection)
    chosen = folded(network, matrix, mean) if after > before else network
    return chosen, {"same_generator_auc_before": before, "same_generator_auc_normalised": after}
