"""Random tone curves of training windows."""

from __future__ import annotations

import numpy as np

from tests.conftest import noise
from training.data.dataset import Collection, Generator, Sample
from training.data.sampler import Batches
from training.data.tones import apply_curves, curves, draw_tones
from training.labels import Labels


def test_every_channel_goes_through_its_own_curve() -> None:
    window = noise(16, 16)
    curve = np.stack([np.arange(256), 255 - np.arange(256), np.full(256, 7)], axis=1).astype(np.uint8)
    got = apply_curves(window, curve)
    assert got.dtype == np.uint8
    assert np.array_equal(got[..., 0], window[..., 0])
    assert np.array_equal(got[..., 1], 255 - window[..., 1])
    assert (got[..., 2] == 7).all()


def test_curves_keep_the_order_of_values_and_differ() -> None:
    drawn = curves(draw_tones(np.random.default_rng(0), 50))
    assert (np.diff(drawn.astype(int), axis=1) >= 0).all()
    middles = drawn[:, 128].astype(float)
    assert middles.std() > 10
    # A cast of colour is small beside a change of brightness.
    assert middles.std(axis=1).mean() < middles.mean(axis=1).std()


def test_batches_tone_the_share_that_was_asked_for() -> None:
    sources = [
        Generator("photos", None, False, "train"),
        Generator("vae-000", Labels("vae", {}, {}, None), True, "train"),
    ]
    samples = [Sample(np.full((140, 140, 3), 100 + 50 * i, np.uint8), i, "train") for i in range(2)]
    for sample in samples:
        sample.variants, sample.chains = [sample.pixels], [0]
    shares = []
    for share in (0.0, 0.5, 1.0):
        batches = Batches(Collection(sources, samples), 0, generators=1, pictures=100, public_fraction=0.0, toned=share)
        windows, source = batches()
        shares.append((windows[:, 0, 0, 0] != 100 + 50 * source).mean())
    assert shares[0] == 0
    assert 0.3 < shares[1] < 0.7
    assert shares[2] > 0.9
