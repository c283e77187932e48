"""Windows cut on the host and on a device."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from tests.conftest import noise
from training.data import augment
from training.data.dataset import CHAINS, Collection, Generator, Sample, add_variants
from training.data.online_augment import OnlineAugmenter
from training.data.sampler import Batches, Cuts, DeviceStore, HostStore, max_pixels
from training.data.tones import draw_tones
from training.labels import Labels


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
    room = np.full(4, 200 * 150)
    host, device = HostStore(list(variants), room), DeviceStore(variants, room, torch.device("cpu"))
    count = 200
    cuts = Cuts(
        rng.integers(0, 4, count),
        rng.random((count, 2)),
        rng.random(count) < 0.5,
        rng.random(count) < 0.5,
        rng.random(count) < 0.5,
        draw_tones(rng, count),
    )
    for size in (64, 128):
        # Of other sizes than those before.
        made = [(i, noise(150 - size // 4, 130 + i, size + i)) for i in (1, 3)]
        host.replace(made)
        device.replace(made)
        expected, got = host.cut(cuts, size), device.cut(cuts, size).numpy()
        assert got.shape == expected.shape == (count, size, size, 3)
        assert np.array_equal(got[~cuts.toned], expected[~cuts.toned])
        apart = np.abs(got.astype(int) - expected)
        assert apart.max() <= 1
        assert (apart > 0).mean() < 0.001


@pytest.mark.parametrize("paired", [True, False])
def test_pictures_come_with_their_photos_at_the_same_place(paired: bool) -> None:
    batches = Batches(a_collection(), 1, generators=1, pictures=6, public_fraction=0.0, paired=paired)
    alike = 0
    for _ in range(10):
        windows, source = batches()
        made, taken = windows[source == 2], windows[source < 2]
        assert len(made) == len(taken) == 6
        # The generator changes nothing.
        photos = {window.tobytes() for window in taken}
        alike += sum(window.tobytes() in photos for window in made)
    assert alike == 50 if paired else alike < 5


def test_a_share_of_renewed_chains_has_heavy_edits(monkeypatch: pytest.MonkeyPatch) -> None:
    # Other processes are forked from here.
    monkeypatch.setattr(augment, "strong_chain", lambda pixels, rng: np.zeros_like(pixels))
    for strong, least, most in ((0.0, 0.0, 0.0), (0.5, 0.3, 0.7), (1.0, 1.0, 1.0)):
        with OnlineAugmenter(a_collection(), 1, strong=strong, workers=2) as augmenter:
            made: list[np.ndarray] = []
            while len(made) < 100:
                made += [pixels for _, pixels in augmenter.take()]
                time.sleep(0.02)
        assert least <= np.mean([not pixels.any() for pixels in made]) <= most


def test_renewed_variants_are_other_chains_of_the_same_pictures_and_twins_stay_twins() -> None:
    collection = a_collection()
    before = [variant for sample in collection.samples for variant in sample.variants]
    first = [chain == 0 for sample in collection.samples for chain in sample.chains]
    with OnlineAugmenter(collection, 1, workers=2) as augmenter:
        batches = Batches(collection, 1, generators=1, pictures=6, public_fraction=0.0, augmenter=augmenter)
        kept: dict[int, np.ndarray] = {}
        while len(kept) < len(first) - sum(first):
            kept |= dict(augmenter.take())
            time.sleep(0.02)
        batches._store.replace(list(kept.items()))
        alike = 0
        for _ in range(10):
            windows, source = batches()
            photos = {window.tobytes() for window in windows[source < 2]}
            alike += sum(window.tobytes() in photos for window in windows[source == 2])
    assert alike == 50
    assert not any(first[i] for i in kept)
    changed = [not np.array_equal(before[i], pixels) for i, pixels in kept.items()]
    # A chain may do nothing, or the same.
    assert np.mean(changed) > 0.8
    assert all(pixels.shape[0] * pixels.shape[1] <= max_pixels(collection.samples[0]) for pixels in kept.values())
