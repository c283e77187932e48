"""Windows cut on the host and on a device."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.conftest import noise
from training.batches import Batches, Cuts, DeviceStore, HostStore
from training.dataset import CHAINS, Collection, Generator, Sample, add_variants
from training.labels import Labels
from training.tones import random_tones


def a_collection() -> Collection:
    """Photos whole and as the zoo saw them, and a generator that copies these; of the last copy the photo is unknown."""
    labels = Labels("vae", {}, {}, ())
    sources = [Generator("set", None, False, "train"), Generator("set", None, True, "train")]
    collection = Collection([*sources, Generator("copy", labels, True, "train")], [])
    for i in range(6):
        name = f"set/{i}.png"
        for source, photo in ((0, name), (1, name), (2, name if i < 5 else None)):
            collection.samples.append(Sample(noise(150, 170, i), source, "train", photo))
    add_variants(collection.samples, CHAINS, 3)
    return collection


def test_a_device_cuts_the_windows_that_the_host_cuts() -> None:
    rng = np.random.default_rng(0)
    # The second is smaller than a window, the third smaller than half of one.
    variants = [noise(140, 200, 0), noise(90, 150, 1), noise(40, 130, 2), noise(128, 128, 3)]
    host, device = HostStore(variants), DeviceStore(variants, torch.device("cpu"))
    count = 200
    cuts = Cuts(
        rng.integers(0, 4, count),
        rng.random((count, 2)),
        rng.random(count) < 0.5,
        rng.random(count) < 0.5,
        rng.random(count) < 0.5,
        random_tones(rng, count),
    )
    for size in (64, 128):
        expected, got = host.cut(cuts, size), device.cut(cuts, size).numpy()
        assert got.shape == expected.shape == (count, size, size, 3)
        assert np.array_equal(got[~cuts.toned], expected[~cuts.toned])
        apart = np.abs(got.astype(int) - expected)
        assert apart.max() <= 1
        assert (apart > 0).mean() < 0.001


@pytest.mark.parametrize("twins", [True, False])
def test_pictures_come_with_their_photos_at_the_same_place(twins: bool) -> None:
    batches = Batches(a_collection(), 1, generators=1, pictures=6, real_share=0.0, twins=twins)
    alike = 0
    for _ in range(10):
        windows, source = batches()
        made, taken = windows[source == 2], windows[source < 2]
        assert len(made) == len(taken) == 6
        # The generator changes nothing.
        photos = {window.tobytes() for window in taken}
        alike += sum(window.tobytes() in photos for window in made)
    assert alike == 50 if twins else alike < 5
