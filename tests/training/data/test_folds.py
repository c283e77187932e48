"""Folds leave every public generator and photo source out once, and put nothing on two sides."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.synthetic_collection import labels, synthetic_collection
from training.data.dataset import Collection, Sample
from training.data.folds import FOLDS, refold, unseen_photos
from training.data.leakage import shared_contents, shared_labels
from training.data.public_generators import LABELS
from training.data.sources import generator_split
from training.zoo.files import zoo_splits


def test_fold_0_is_the_loaded_split() -> None:
    collection = synthetic_collection()
    same = refold(collection, 0)
    assert same.sources == collection.sources
    assert [(s.source, s.split) for s in same.samples] == [(s.source, s.split) for s in collection.samples]
    assert all(a.pixels is b.pixels for a, b in zip(same.samples, collection.samples, strict=True))


def test_every_public_generator_and_left_out_photo_source_is_for_test_once() -> None:
    assert Counter(name for fold in FOLDS for name in fold.test) == Counter(set(LABELS))
    assert max(Counter(name for fold in FOLDS for name in fold.photos).values()) == 1
    for fold in FOLDS:
        assert not fold.test & fold.val
        assert fold.val <= LABELS.keys()
    assert FOLDS[0].test | FOLDS[0].val == {name for name in LABELS if generator_split(name) != "train"}


def test_every_zoo_generator_is_for_test_once_over_six_folds() -> None:
    known = {f"vae-{i:03d}": labels("vae", i) for i in range(12)}
    # One with another's labels follows it.
    known["vae-012"] = known["vae-003"]
    splits = [zoo_splits(known, fold) for fold in range(6)]
    assert splits[0] == zoo_splits(known)
    for name in known:
        assert Counter(fold[name] for fold in splits) == {"train": 4, "val": 1, "test": 1}
    assert all(fold["vae-012"] == fold["vae-003"] for fold in splits)


LARGEST = ("imagenet1k",)


def test_a_photo_source_can_be_left_out_beside_those_of_a_fold() -> None:
    usual, without = (refold(synthetic_collection(), 1, left_out) for left_out in ((), LARGEST))
    assert usual.sources == without.sources
    assert unseen_photos(1, LARGEST) == {*unseen_photos(1), *LARGEST}

    def of_it(collection: Collection, it: bool = True) -> list[Sample]:
        return [s for s in collection.samples if (s.photo or "").startswith("imagenet1k/") is it]

    assert {s.split for s in of_it(usual)} == {"train", "val", "test"}
    assert {s.split for s in of_it(without)} == {"test"}
    # Whole photos, the zoo's crops of them, and what the zoo made from them.
    kinds = {(s.made, without.sources[s.source].zoo) for s in of_it(without)}
    assert kinds == {(False, False), (False, True), (True, True)}
    others = ([(s.source, s.photo, s.split) for s in of_it(c, it=False)] for c in (usual, without))
    assert next(others) == next(others)


@pytest.mark.parametrize("left_out", [(), LARGEST], ids=["", "without the largest source"])
@pytest.mark.parametrize("number", range(len(FOLDS)))
def test_nothing_is_on_two_sides(number: int, left_out: tuple[str, ...]) -> None:
    folded = refold(synthetic_collection(), number, left_out)
    assert shared_contents(folded) == []
    assert shared_labels(folded) == []
    public = {s.name: s.split for s in folded.sources if s.labels is not None and not s.zoo}
    assert {name for name, split in public.items() if split == "test"} == FOLDS[number].test
    for sample in folded.samples:
        source = folded.sources[sample.source]
        if source.name in public and source.split != "train":
            assert sample.split == source.split
        if sample.photo is not None and sample.photo.split("/")[0] in unseen_photos(number, left_out):
            assert sample.split == "test"
    for split in ("train", "val", "test"):
        assert folded.select(split=split, camera=True, zoo=False)
        assert folded.select(split=split, camera=False, zoo=False, source_split=split)
        assert folded.select(split=split, camera=False, zoo=True, source_split=split)
    # Known generators that are trained on can be tested, too.
    seen = folded.select(split="test", camera=False, zoo=False, source_split="train")
    assert len({s.source for s in seen}) > 1
