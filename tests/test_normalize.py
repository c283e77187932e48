"""The embedding's normalisation: what varies within generators is made small, and folding it changes nothing else."""

from __future__ import annotations

import numpy as np
import torch

from export.normalize import fit, folded, raw_embeddings
from tests.conftest import noise
from training.dataset import Sample
from training.networks import Network, NetworkConfig


def test_within_class_covariance_becomes_the_unit_matrix() -> None:
    rng = np.random.default_rng(0)
    source = np.repeat(np.arange(20), 50)
    # Content varies most in the first direction, generators differ in the last.
    raw = rng.normal(size=(1000, 2, 6)) * [9, 3, 1, 1, 1, 1]
    raw[..., 5] += 4 * source[:, None]
    matrix, mean = fit(raw.astype(np.float32), source)
    made = (raw - mean) @ matrix.T
    spread = np.stack([made[source == i].reshape(-1, 6).std(0) for i in range(20)]).mean(0)
    assert spread.max() / spread.min() < 4
    assert (raw[source == 0].std((0, 1)).max() / raw[source == 0].std((0, 1)).min()) > 7
    centres = np.stack([made[source == i].mean((0, 1)) for i in range(20)])
    assert centres[:, 5].std() > 5 * centres[:, 0].std()


def test_folding_is_exact_and_leaves_the_other_outputs_alone() -> None:
    torch.manual_seed(0)
    network = Network(NetworkConfig(fen_width=16, fen_blocks=1, trunk=(16, 16, 16), embedding=8, hidden=16)).eval()
    samples = [Sample(noise(160, 160, seed), seed % 2, "train") for seed in range(8)]
    raw, source = raw_embeddings(network, samples, seed=0)
    assert raw.shape == (8, 4, 8)
    matrix, mean = fit(raw, source)
    window = torch.from_numpy(noise(128, 128, 9)[None])
    with torch.no_grad():
        before, after = network(window), folded(network, matrix, mean)(window)
        hidden = torch.from_numpy(np.linalg.pinv(matrix)).float() @ after["embedding"][0]
    assert torch.equal(before["generated"], after["generated"])
    assert not torch.allclose(before["embedding"], after["embedding"], atol=1e-3)
    # Undone, up to the length, it is the layer's own output without the mean.
    given: list[torch.Tensor] = []
    network.embedding.register_forward_hook(lambda _layer, _given, made: given.append(made))
    with torch.no_grad():
        network(window)
    own = given[0][0] - torch.from_numpy(mean).float()
    assert float(torch.nn.functional.cosine_similarity(hidden, own, dim=0)) > 0.999
