"""Training losses: the four constraints on the fingerprint, one loss per head, and the losses of the embedding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from training.data.dataset import Generator
from training.labels import CONTINUOUS, DISCRETE, LOSSES, Labels


@dataclass(frozen=True)
class Weights:
    """Weight of each loss. The fingerprint's four have the ratios of the published code (arXiv 2106.07873).

    Detection comes first; the other terms keep what the initial weights know.
    """

    magnitude: float = 0.1
    low_frequency: float = 0.05
    repetitive: float = 0.001
    symmetric: float = 1.0
    fingerprint: float = 0.03
    generated: float = 1.0
    family: float = 0.1
    continuous: float = 0.2
    discrete: float = 0.1
    losses: float = 0.1
    metric: float = 0.15


@dataclass(frozen=True)
class Targets:
    """Labels of all S sources as tensors, indexed by source. NaN and -1 mean unknown, or a camera.

    Attributes:
        family: int64[S].
        continuous: float32[S, 9], scaled to [0, 1].
        discrete: int64[S, 7].
        losses: float32[S, 10].
        prior: for each discrete parameter, the log frequency of its values among training generators, float32[K].
    """

    family: Tensor
    continuous: Tensor
    discrete: Tensor
    losses: Tensor
    prior: tuple[Tensor, ...]

    @staticmethod
    def from_sources(sources: list[Generator], device: torch.device) -> Targets:
        """Build the targets on a device."""

        def stack(rows: Sequence[object], kind: torch.dtype) -> Tensor:
            return torch.as_tensor(np.array(rows), dtype=kind, device=device)

        labels = [source.labels for source in sources]
        return Targets(
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


def _training_labels(sources: list[Generator]) -> dict[int, Labels]:
    """Return the labels of training generators by their index in `sources`."""
    return {i: s.labels for i, s in enumerate(sources) if s.labels is not None and s.split == "train"}


def _priors(sources: list[Generator]) -> Iterator[Tensor]:
    rows = [labels.discrete_vector() for labels in _training_labels(sources).values()]
    values = np.array(rows, np.int64).reshape(-1, len(DISCRETE))
    for i, names in enumerate(DISCRETE.values()):
        known = values[values[:, i] >= 0, i]
        # Laplace smoothing: a value that no training generator has is rare, not impossible.
        counts = np.bincount(known, minlength=len(names)) + 1.0
        yield torch.tensor(np.log(counts / counts.sum()), dtype=torch.float32)


def fingerprint_constraints(fingerprint: Tensor, weights: Weights) -> Tensor:
    """Return the weighted sum of the published constraints (arXiv 2106.07873) on a fingerprint float[N, 3, S, S].

    They ask for a small magnitude, little energy in low frequencies, a repetitive pattern, and a symmetric spectrum. Low frequencies
    are the centre of the spectrum, 51x51 for S = 128 as published, and in proportion for other sizes. The orthonormal transform makes
    the weights independent of S.
    """
    grey = fingerprint.float().mean(1)
    size = grey.shape[-1]
    spectrum = torch.fft.fftshift(torch.fft.fft2(grey, norm="ortho").abs(), dim=(-2, -1))
    centre = slice(size // 2 - size // 5, size // 2 + size // 5 + 1)
    low = spectrum[:, centre, centre]
    high = spectrum.clone()
    high[:, centre, centre] = 0
    total: Tensor = (
        weights.magnitude * grey.square().mean()
        + weights.low_frequency * low.square().mean()
        - weights.repetitive * high.flatten(1).amax(1).mean()
        + weights.symmetric * F.mse_loss(spectrum, spectrum.transpose(1, 2))
    )
    return total


def supervised_contrastive_loss(embedding: Tensor, source: Tensor, temperature: float = 0.1) -> Tensor:
    """Return the supervised contrastive loss (arXiv 2004.11362).

    Args:
        embedding: unit vectors, float[N, D].
        source: source of each vector, int64[N].
        temperature: divisor of the cosine similarities.
    """
    similarity = embedding.float() @ embedding.float().T / temperature
    same = source[:, None] == source[None, :]
    itself = torch.eye(len(source), dtype=torch.bool, device=source.device)
    log_probability = similarity - similarity.masked_fill(itself, -torch.inf).logsumexp(1, keepdim=True)
    positives = same & ~itself
    count = positives.sum(1)
    return (-(log_probability * positives).sum(1)[count > 0] / count[count > 0]).mean()


def _masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    return (values * mask).sum() / mask.sum().clamp_min(1)


def head_losses(
    outputs: dict[str, Tensor],
    source: Tensor,
    targets: Targets,
    weights: Weights,
) -> dict[str, Tensor]:
    """Return the weighted losses of family and parameters by name.

    Args:
        outputs: outputs of the network.
        source: source of each window, int64[N].
        targets: labels of the sources.
        weights: weights of the losses.
    """
    terms = {
        "family": weights.family
        * F.cross_entropy(outputs["family"].float(), targets.family[source], ignore_index=-1, label_smoothing=0.05),
    }
    continuous = targets.continuous[source]
    known = ~continuous.isnan()
    error = F.smooth_l1_loss(outputs["continuous"].float(), continuous.nan_to_num(), beta=0.05, reduction="none")
    terms["continuous"] = weights.continuous * _masked_mean(error, known)
    # Logit adjustment (arXiv 2007.07314): the prior is added to the logits, so that the outputs need not learn it.
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
