from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
from torch.utils.data import DataLoader

from tests.training.public_data import write_data
from training.data.public_sets import read_pictures
from training.data.stream import CAMERA, GENERATED, NOT_ASKED, Composition, Store, Stream


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = write_data(tmp_path_factory.mktemp("data"))
    return Store.read(folder, read_pictures(folder))


def stream_of(store: Store, **options: object) -> Stream:
    names = sorted({picture.set.name for picture in store.pictures})
    return Stream(store, names, 1, {64: 1.0}, np.ones(len(names)), **options)


def test_store(store: Store) -> None:
    assert len(store.pixels) == len(store.pictures) == 60
    # Thirty JPEG photos of six qualities.
    assert len(store.settings) == 30
    assert len(store.tables.options) == 6


def test_classes_are_balanced_and_processed_pictures_are_not_asked(store: Store) -> None:
    stream = stream_of(store)
    batch = stream.draw(np.random.default_rng(0), 64)
    names = sorted({picture.set.name for picture in store.pictures})
    asked = {name: set(batch.target[batch.source == i]) for i, name in enumerate(names)}
    assert asked["cq100"] == {CAMERA}
    assert asked["sd1"] == {GENERATED}
    assert asked["fsrcnn-x2"] == {NOT_ASKED}
    assert batch.windows.shape == (len(batch.target), 64, 64, 3)
    # Four generators of four windows each, five pairs.
    assert (batch.target == GENERATED).sum() == 4 * 4 + 5
    assert (batch.target == CAMERA).sum() == 4 * 4 + 5


def test_pairs_show_the_same_place(store: Store) -> None:
    """Twins differ from their photos by a grid of 24 grey levels, other pictures by far more."""
    stream = stream_of(store, composition=Composition(generators=0, processed=0, pairs=12))
    batch = stream.draw(np.random.default_rng(0), 64)
    twins, photos = batch.windows[0::2].astype(float), batch.windows[1::2].astype(float)
    assert set(batch.target[0::2]) == {GENERATED}
    assert set(batch.target[1::2]) == {CAMERA}
    correlation = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(twins, photos, strict=True)]
    shuffled = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(twins, np.roll(photos, 1, 0), strict=True)]
    assert np.median(correlation) > 0.7
    assert np.median(shuffled) < 0.5


def test_hard_sets_are_drawn_more_often(store: Store) -> None:
    stream = stream_of(store)
    index = sorted({picture.set.name for picture in store.pictures}).index("urban100")
    stream.hardness[index] = 20
    batch = stream.draw(np.random.default_rng(0), 64)
    assert (batch.source == index).sum() > 8


def test_workers_give_different_batches(store: Store) -> None:
    loader = DataLoader(stream_of(store), batch_size=None, num_workers=2)
    first, second = islice(iter(loader), 2)
    assert not np.array_equal(first.windows, second.windows)


def test_one_class_alone_is_refused(store: Store) -> None:
    photos = [i for i, picture in enumerate(store.pictures) if picture.set.role == "camera"]
    alone = Store([store.pictures[i] for i in photos], [store.pixels[i] for i in photos], store.tables, {})
    with pytest.raises(ValueError, match="pictures of both classes, got none of role generated"):
        stream_of(alone)


def test_as_few_generated_pictures_as_photos_stay_uncompressed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lossless generated pictures are mostly saved as JPEG first, which photos in JPEG files were already."""
    asked: list[float] = []
    monkeypatch.setattr("training.data.stream.apply_chain", lambda region, *_, saved_first: asked.append(saved_first))
    stream = stream_of(store)
    for i, picture in enumerate(store.pictures):
        stream._windows(np.random.default_rng(0), i, False, 64)
        assert asked[-1] == (0.0 if picture.jpeg else 0.8)
