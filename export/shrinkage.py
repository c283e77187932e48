"""Estimates of the continuous parameters, drawn to the training generators' median as far as that helps on validation generators.

A network is as sure of a parameter that leaves no trace in pictures as of one that does; for the former the median errs less than it.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch

from training.model.network import Network

# What is tried: 0 is the median alone, 1 the network's own estimate.
SHARES = np.linspace(0, 1, 21)


@dataclass(frozen=True)
class Shrinkage:
    """How much to keep of each parameter's distance to its median: two float64[K], `shares` in [0, 1], `medians` scaled to [0, 1]."""

    shares: np.ndarray
    medians: np.ndarray

    @staticmethod
    def fit(estimates: np.ndarray, truth: np.ndarray, medians: np.ndarray) -> Shrinkage:
        """The shares of the least absolute error, for estimates and truth of the same pictures, float[P, K], scaled to [0, 1]."""
        tried = [Shrinkage(np.full(len(medians), share), medians) for share in SHARES]
        errors = [np.abs(np.clip(one.applied(estimates), 0, 1) - truth).mean(axis=0) for one in tried]
        return Shrinkage(SHARES[np.argmin(errors, axis=0)], medians)

    def applied(self, estimates: np.ndarray) -> np.ndarray:
        """float[P, K] -> the same shape, drawn to the medians."""
        drawn: np.ndarray = self.medians + self.shares * (estimates - self.medians)
        return drawn

    def folded(self, network: Network) -> Network:
        """A copy of a network whose layer for the continuous parameters gives drawn estimates at once."""
        made = copy.deepcopy(network)
        head = made.heads["continuous"]
        shares, medians = (torch.as_tensor(values, dtype=head.bias.dtype) for values in (self.shares, self.medians))
        with torch.no_grad():
            head.weight.mul_(shares[:, None])
            head.bias.copy_(medians + shares * (head.bias - medians))
        return made
