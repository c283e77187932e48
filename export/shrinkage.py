"""Estimates of the continuous parameters, drawn to the training generators' median as far as that helps on validation generators.

A network is as sure of a parameter that leaves no trace in pictures as of one that does; for the former the median errs less than it.
"""

from __future__ import annotations

import copy

import numpy as np
import torch

from training.networks import Network

# What is tried: 0 is the median alone, 1 the network's own estimate.
SHARES = np.linspace(0, 1, 21)


def fit_shares(estimates: np.ndarray, truth: np.ndarray, medians: np.ndarray) -> np.ndarray:
    """How much to keep of each parameter's distance to its median, float64[K] in [0, 1], for the least absolute error.

    Args:
        estimates, truth: of the same pictures, float[P, K], scaled to [0, 1].
        medians: float[K].
    """
    distance = estimates - medians
    errors = [np.abs(np.clip(medians + share * distance, 0, 1) - truth).mean(0) for share in SHARES]
    chosen: np.ndarray = SHARES[np.argmin(errors, axis=0)]
    return chosen


def shrunk(network: Network, shares: np.ndarray, medians: np.ndarray) -> Network:
    """A copy whose layer for the continuous parameters gives medians + shares * (estimates - medians)."""
    made = copy.deepcopy(network)
    head = made.heads["continuous"]
    kept, middle = (torch.as_tensor(values, dtype=head.bias.dtype) for values in (shares, medians))
    with torch.no_grad():
        head.weight.mul_(kept[:, None])
        head.bias.copy_(middle + kept * (head.bias - middle))
    return made
