"""What the networks are trained to minimise: the fingerprint's four constraints, the heads' losses, the metric loss."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.data.dataset import Generator
from training.labels import CONTINUOUS, DISCRETE, LOSSES, Labels


@dataclass(frozen=True)
class Weights:
    """Weight of each term. The fingerprint's are those of the published code (arXiv 2106.07873), relative to one another."""

    magnitude: float = 0.1
    low_frequency: float = 0.05
    repetitive: float = 0.001
    symmetric: float = 1.0
    fingerprint: float = 0.2
    generated: float = 1.5
    family: float = 0.3
    continuous: float = 1.0
    discrete: float = 0.3
    losses: float = 0.3
    metric: float = 0.5
    proxy: float = 0.5


@dataclass(frozen=True)
class Targets:
    """The labels of every source as tensors, indexed by source. NaN and -1 mean unknown, or not asked of a camera.

    `prior` is the logarithm of how often the training generators have each value of each discrete parameter.
    """

    generated: Tensor
    family: Tensor
    continuous: Tensor
    discrete: Tensor
    losses: Tensor
    prior: tuple[Tensor, ...]

    @staticmethod
    def of(sources: list[Generator], device: torch.device) -> Targets:
        def stack(rows: list, kind: torch.dtype) -> Tensor:
            return torch.as_tensor(np.array(rows), dtype=kind, device=device)

        labels = [source.labels for source in sources]
        return Targets(
            generated=stack([float(label is not None) for label in labels], torch.float32),
            family=stack([-1 if label is None else label.family_index() for label in labels], torch.int64),
            continuous=stack(
                [np.full(len(CONTINUOUS), np.nan) if label is None else label.continuous_vector() for label in labels],
                torch.float32,
            ),
            discrete=stack(
                [np.full(len(DISCRETE), -1) if label is None else label.discrete_vector() for label in labels],
                torch.int64,
            ),
            losses=stack(
                [np.full(len(LOSSES), np.nan) if label is None else label.loss_vector() for label in labels],
                torch.float32,
            ),
            prior=tuple(prior.to(device) for prior in _priors(sources)),
        )


def _trained(sources: list[Generator]) -> dict[int, Labels]:
    """The labels of the generators that are trained on, by their place."""
    return {i: s.labels for i, s in enumerate(sources) if s.labels is not None and s.split == "train"}


def _priors(sources: list[Generator]) -> Iterator[Tensor]:
    rows = [labels.discrete_vector() for labels in _trained(sources).values()]
    values = np.array(rows, np.int64).reshape(-1, len(DISCRETE))
    for i, names in enumerate(DISCRETE.values()):
        known = values[values[:, i] >= 0, i]
        # One more of each: a value that no training generator has is rare, not impossible.
        counts = np.bincount(known, minlength=len(names)) + 1.0
        yield torch.tensor(np.log(counts / counts.sum()), dtype=torch.float32)


def fingerprint_constraints(fingerprint: Tensor, weights: Weights) -> Tensor:
    """The method's four constraints on float[N, 3, S, S]: small, without low frequencies, repetitive, of symmetric spectrum.

    The published 51x51 centre of a 128x128 spectrum is kept in proportion. The spectrum is orthonormal, so that the
    weights do not depend on the window's size.
    """
    grey = fingerprint.float().mean(1)
    size = grey.shape[-1]
    spectrum = torch.fft.fftshift(torch.fft.fft2(grey, norm="ortho").abs(), dim=(-2, -1))
    centre = slice(size // 2 - size // 5, size // 2 + size // 5 + 1)
    low = spectrum[:, centre, centre]
    high = spectrum.clone()
    high[:, centre, centre] = 0
    return (
        weights.magnitude * grey.square().mean()
        + weights.low_frequency * low.square().mean()
        - weights.repetitive * high.flatten(1).amax(1).mean()
        + weights.symmetric * F.mse_loss(spectrum, spectrum.transpose(1, 2))
    )


def supervised_contrastive(embedding: Tensor, source: Tensor, temperature: float = 0.1) -> Tensor:
    """Supervised contrastive loss (arXiv 2004.11362): unit vectors float[N, D] of one source lie together, of two sources apart."""
    similarity = embedding.float() @ embedding.float().T / temperature
    same = source[:, None] == source[None, :]
    itself = torch.eye(len(source), dtype=torch.bool, device=source.device)
    log_probability = similarity - similarity.masked_fill(itself, -torch.inf).logsumexp(1, keepdim=True)
    positives = same & ~itself
    count = positives.sum(1)
    return (-(log_probability * positives).sum(1)[count > 0] / count[count > 0]).mean()


class Proxies(nn.Module):
    """A direction for every generator that is trained on, to which its embeddings are drawn and those of all others are not: normalised
    softmax (arXiv 1704.06369). A batch has few generators; these stand for those that it has not. They are no part of the network.

    Args:
        sources: all there are.
        dimension: of the embedding.
    """

    SCALE = 16.0

    def __init__(self, sources: list[Generator], dimension: int) -> None:
        super().__init__()
        trained = list(_trained(sources))
        places = torch.full((len(sources),), -1)
        places[trained] = torch.arange(len(trained))
        self.places: Tensor
        self.register_buffer("places", places)
        self.directions = nn.Parameter(F.normalize(torch.randn(len(trained), dimension), dim=1))

    def forward(self, embedding: Tensor, source: Tensor) -> Tensor:
        """Unit vectors float[N, D] of generators int64[N], all of them trained on -> the loss, a number."""
        cosine = embedding.float() @ F.normalize(self.directions, dim=1).T
        return F.cross_entropy(self.SCALE * cosine, self.places[source])


def _masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    return (values * mask).sum() / mask.sum().clamp_min(1)


def detection_losses(
    outputs: dict[str, Tensor], source: Tensor, targets: Targets, taught: Tensor | None = None
) -> Tensor:
    """Cross-entropy of camera or generated, float32[N], one a window; where `taught`, float32[N], is given, with these probabilities."""
    wanted = targets.generated[source] if taught is None else taught
    return F.binary_cross_entropy_with_logits(outputs["generated"][:, 0].float(), wanted, reduction="none")


def answers(
    outputs: dict[str, Tensor],
    source: Tensor,
    targets: Targets,
    weights: Weights,
    taught: Tensor | None = None,
) -> dict[str, Tensor]:
    """The weighted terms of what is said of each window by itself, by name; sources are int64[N]; `taught`: see `detection_losses`."""
    terms = {
        "generated": weights.generated * detection_losses(outputs, source, targets, taught).mean(),
        "family": weights.family
        * F.cross_entropy(outputs["family"].float(), targets.family[source], ignore_index=-1, label_smoothing=0.05),
    }
    continuous = targets.continuous[source]
    known = ~continuous.isnan()
    error = F.smooth_l1_loss(outputs["continuous"].float(), continuous.nan_to_num(), beta=0.05, reduction="none")
    terms["continuous"] = weights.continuous * _masked_mean(error, known)
    # Logit adjustment (arXiv 2007.07314): the prior is given, so the outputs need not learn to prefer what is frequent.
    discrete = [
        F.cross_entropy(
            outputs[name].float() + targets.prior[i], targets.discrete[source, i], ignore_index=-1, label_smoothing=0.05
        )
        for i, name in enumerate(DISCRETE)
    ]
    terms["discrete"] = weights.discrete * torch.stack(discrete).nan_to_num().mean()
    losses = targets.losses[source]
    bits = F.binary_cross_entropy_with_logits(outputs["losses"].float(), losses.nan_to_num(), reduction="none")
    terms["losses"] = weights.losses * _masked_mean(bits, ~losses.isnan())
    return terms


def heads(
    outputs: dict[str, Tensor],
    source: Tensor,
    targets: Targets,
    weights: Weights,
    proxies: Proxies,
    taught: Tensor | None = None,
) -> dict[str, Tensor]:
    """Every weighted term by name, over the windows of a batch whose sources are int64[N]; `taught`: see `detection_losses`."""
    terms = answers(outputs, source, targets, weights, taught)
    made = targets.generated[source] > 0
    terms["metric"] = weights.metric * supervised_contrastive(outputs["embedding"][made], source[made])
    terms["proxy"] = weights.proxy * proxies(outputs["embedding"][made], source[made])
    terms["fingerprint"] = weights.fingerprint * fingerprint_constraints(outputs["fingerprint"], weights)
    return terms
