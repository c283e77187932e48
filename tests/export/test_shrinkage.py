"""Estimates drawn to the median where the network knows nothing."""

from __future__ import annotations

import numpy as np
import torch

from export.shrinkage import Shrinkage
from training.model.network import Network, NetworkConfig


def test_parameters_without_a_trace_shrink_to_the_median() -> None:
    rng = np.random.default_rng(0)
    truth = rng.uniform(0.2, 0.8, (4000, 3))
    estimates = np.stack(
        [truth[:, 0], rng.uniform(0.2, 0.8, 4000), 0.5 + 2 * (truth[:, 2] - 0.5)],
        axis=1,
    )
    shares = Shrinkage.fit(estimates, truth, np.full(3, 0.5)).shares
    assert shares[0] == 1
    assert shares[1] < 0.15
    assert abs(shares[2] - 0.5) < 0.06


def test_folded_network_estimates_between_the_median_and_its_own() -> None:
    torch.manual_seed(0)
    network = Network(NetworkConfig(trunk=(16, 16, 16), hidden=16, embedding=16)).eval()
    windows = torch.randint(0, 256, (3, 128, 128, 3), dtype=torch.uint8)
    shares, medians = np.linspace(0, 1, 9), np.linspace(0.1, 0.9, 9)
    with torch.no_grad():
        before, after = network(windows), Shrinkage(shares, medians).folded(network)(windows)
        again = network(windows)
    wanted = Shrinkage(shares, medians).applied(before["continuous"].numpy())
    assert np.allclose(wanted[:, 0], 0.1)
    assert np.allclose(wanted[:, 8], before["continuous"][:, 8])
    assert np.allclose(after["continuous"].numpy(), wanted, atol=1e-6)
    assert torch.equal(again["continuous"], before["continuous"])
    assert torch.equal(after["generated"], before["generated"])
