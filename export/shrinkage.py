"""Shrink estimates of continuous parameters towards the training median, as far as that helps on validation generators.

The network is equally confident about parameters that leave no trace in pictures. For those, the median has a lower error.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from training.model.network import Network

# Candidate weights: 0 is the median alone, 1 the network's own estimate.
SHARES = np.linspace(0, 1, 21)


@dataclass(frozen=True)
class Shrinkage:
    """Linear shrinkage for each of K parameters.

    Attributes:
        shares: float64[K] in [0, 1], the fraction of the distance to the median that is kept.
        medians: float64[K], scaled to [0, 1].
    """

    shares: np.ndarray
    medians: np.ndarray

    @staticmethod
    def fit(estimates: np.ndarray, truth: np.ndarray, medians: np.ndarray) -> Shrinkage:
        """Choose the shares with the least absolute error.

        Args:
            estimates: float[P, K], the network's estimates for P pictures, scaled to [0, 1].
            truth: float[P, K], the true values.
            medians: float[K] of the training generators.
        """
        candidates = [Shrinkage(np.full(len(medians), share), medians) for share in SHARES]
        errors = [np.abs(np.clip(each.applied(estimates), 0, 1) - truth).mean(axis=0) for each in candidates]
        return Shrinkage(SHARES[np.argmin(errors, axis=0)], medians)

    def applied(self, estimates: np.ndarray) -> np.ndarray:
        """Return shrunk estimates, float[P, K]."""
        shrunk: np.ndarray = self.medians + self.shares * (estimates - self.medians)
        return shrunk

    def folded(self, network: Network) -> Network:
        """Return a copy of a network whose layer for continuous parameters computes shrunk estimates."""
        changed = copy.deepcopy(network)
        head = changed.heads["continuous"]
        assert isinstance(head, nn.Linear)
        shares, medians = (torch.as_tensor(values, dtype=head.bias.dtype) for values in (self.shares, self.medians))
        with torch.no_grad():
            head.weight.mul_(shares[:, None])
            head.bias.copy_(medians + shares * (head.bias - medians))
        return changed
