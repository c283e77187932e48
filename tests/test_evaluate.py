"""Figures of comparing and enrolling, on arrays of which the answer is known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.special
import scipy.stats
from click.testing import CliRunner

from edgeparse.backends.select import create
from edgeparse.bundle import Calibration, SameGenerator, default_folder, open_bundle
from edgeparse.gallery import Gallery
from edgeparse.readout import unit
from export.calibration import (
    FALSE_NAME,
    FALSE_SAME,
    alarm_bound,
    fit_enrolled,
    fit_labels,
    fit_same_generator,
    fit_thresholds,
    label_spaces,
)
from tests.conftest import edit_manifest
from tests.made_collection import made_collection
from training import parsing, small
from training.bars import CONFIDENCE, FALSE_ALARM, MISS, above_mode, l1_saved
from training.card import comparing_sections
from training.data.dataset import Collection, Generator
from training.data.index.records import Entry, Index, Place, source_key
from training.edited import EDITS, FEW, measure
from training.edited import looked_at as looked_at_edited
from training.enrolment import MANY, centroids, enrolled_draws, enrolment
from training.evaluate import main
from training.labels import CONTINUOUS, DISCRETE, FAMILIES, LOSSES, Labels
from training.parsing import GAINS, Answers
from training.predictions import Predictions, few
from training.questions import attribution, check_splits, looked_at, pairs_of, same_generator

DIMENSION = 32


def naming_from(enrolled: float, enrolled_share: float = 0.0) -> Calibration:
    """A calibration by which enrolled generators are named from this similarity on, and the bundle's own never."""
    return Calibration(1.0, 0.0, 0.5, 0.5, known=2.0, enrolled=enrolled, enrolled_share=enrolled_share)


def test_few_photos_beyond_the_bound_however_few_it_was_fitted_on() -> None:
    rng = np.random.default_rng(0)
    tail = scipy.stats.norm.sf
    held = [tail(alarm_bound(np.repeat(rng.normal(size=60), 2))) <= FALSE_ALARM for _ in range(400)]
    assert abs(np.mean(held) - CONFIDENCE) < 0.03
    # The quantile of as few would let more than one in a hundred through in every second draw.
    quantiles = [tail(np.quantile(rng.normal(size=60), 1 - FALSE_ALARM)) <= FALSE_ALARM for _ in range(400)]
    assert np.mean(quantiles) < 0.6
    # A tail that is no normal distribution's is seen where it is.
    assert alarm_bound(np.r_[np.zeros(90), np.full(10, 50.0)]) == 50


def test_few_generated_pictures_of_either_kind_are_called_camera() -> None:
    rng = np.random.default_rng(0)
    photos, zoo, public = rng.normal(-2, 1, 400), rng.normal(4, 1, 2000), rng.normal(0, 1, 60)
    fitted = fit_thresholds({"photos": photos}, (zoo, public))
    limit = (np.log(fitted["camera"] / (1 - fitted["camera"])) - fitted["bias"]) / fitted["scale"]
    assert (public < limit).mean() <= MISS
    assert 0.2 < (photos < limit).mean() < 0.8
    # However many pictures the easier kind has.
    again = fit_thresholds({"photos": photos}, (np.tile(zoo, 5), public))
    assert again == pytest.approx(fitted, rel=0.02)
    # A kind may be missing.
    assert fit_thresholds({"photos": photos}, (zoo, np.empty(0)))["camera"] > fitted["camera"]


def test_a_small_set_that_lies_higher_raises_the_threshold() -> None:
    rng = np.random.default_rng(0)
    by_set, kinds = {"large": rng.normal(0, 1, 400)}, (rng.normal(2, 1, 2000), np.empty(0))

    def limit(views: int = 2, **more: np.ndarray) -> float:
        fitted = fit_thresholds({**by_set, **more}, kinds, views)
        return float((scipy.special.logit(fitted["generated"]) - fitted["bias"]) / fitted["scale"])

    alone = limit()
    assert 2.3 < alone < 3.0
    # Of eight photos, each with two logits: their own spread says nothing, where they lie does.
    assert limit(small=np.full(16, 2.0)) == pytest.approx(alone + 2, abs=0.3)
    assert limit(small=np.zeros(16)) == pytest.approx(alone, abs=0.1)
    # Fewer than that may lie anywhere, and more views of them are no more photos.
    assert limit(few=np.full(8, 2.0)) == pytest.approx(alone, abs=0.3)
    assert limit(views=8) > alone + 0.05


def test_a_loss_of_one_generator_gets_no_threshold_of_its_own() -> None:
    def generators(split: str) -> list[Generator]:
        used = [("L1",) if i < 4 else ("hinge",) if i == 4 else () for i in range(8)]
        return [
            Generator(f"vae-{i}-{split}", Labels("vae", {}, {}, losses), True, split) for i, losses in enumerate(used)
        ]

    collection = Collection([*generators("val"), *generators("train")], [])
    used = np.stack([s.labels.loss_vector() for s in collection.sources[:8] if s.labels is not None])
    values = {"continuous": np.zeros((8, len(CONTINUOUS)), np.float32), "losses": (4 * used - 1).astype(np.float32)}
    labels = label_spaces(collection)
    fit_labels(labels, Predictions(values, np.arange(8)), collection)
    fitted = {entry["name"]: entry for entry in labels["losses"]}
    assert (fitted["L1"]["reported"], fitted["hinge"]["reported"], fitted["WGAN"]["reported"]) == (True, False, False)
    # As often as training generators use it; one that none uses is as good as never said.
    assert (fitted["hinge"]["threshold"], fitted["WGAN"]["threshold"]) == (1 / 8, 0.5)
    assert fitted["L1"]["threshold"] not in (0.5, 4 / 8)


def predictions(generators: int, pictures: int, noise: float, seed: int = 0) -> Predictions:
    """Embeddings about a random direction a generator; without structure where the noise is large."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(generators, DIMENSION))
    source = np.repeat(np.arange(generators), pictures)
    vectors = centres[source] + noise * rng.normal(size=(len(source), DIMENSION))
    return Predictions({"embedding": vectors.astype(np.float32)}, source)


def gallery(names: int, seed: int = 9) -> Gallery:
    vectors = np.random.default_rng(seed).normal(size=(names, DIMENSION)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Gallery(tuple(f"known-{i}" for i in range(names)), vectors)


def test_pairs_are_half_of_one_generator_and_weigh_generators_alike() -> None:
    made = predictions(4, 10, 0.1)
    uneven = Predictions({"embedding": made.values["embedding"][:34]}, made.source[:34])
    score, truth = pairs_of(uneven, count=4000)
    assert truth.mean() == 0.5
    assert np.abs(score).max() <= 1 + 1e-5
    assert score[truth].min() > score[~truth].max()


def test_pairs_of_one_kind_are_the_hard_ones() -> None:
    kinds = {0: "gan", 1: "gan", 2: "vae", 3: "vae", 4: "alone"}
    made = predictions(5, 10, 0.0)
    # A generator's traces are those of its kind: pictures of two of a kind are as alike as those of one.
    ways = {kind: np.eye(DIMENSION, dtype=np.float32)[i] for i, kind in enumerate(("gan", "vae", "alone"))}
    alike = Predictions({"embedding": np.stack([ways[kinds[int(i)]] for i in made.source])}, made.source)
    assert same_generator(alike, kinds=kinds)["auc"] == 0.5  # type: ignore[index]
    assert same_generator(alike)["auc"] > 0.8  # type: ignore[index, operator]
    score, truth = pairs_of(alike, kinds=kinds)
    assert len(score) == 20_000
    assert (truth.mean(), score.min()) == (0.5, 1)
    # Nobody is left who has another of its kind, by the draw or at all.
    assert not len(pairs_of(alike, generators=np.array([0, 2, 2, 4]), kinds=kinds)[0])
    assert same_generator(alike, kinds=dict.fromkeys(range(5), "") | {0: "a", 1: "b", 2: "c", 3: "d"}) is None


def test_every_figure_of_attribution_lies_in_its_interval() -> None:
    made = predictions(30, 20, 2.5)
    collection = Collection([Generator(f"g{i}", "generated", True, "train") for i in range(30)], [])
    known, unknown = made.of(range(20)), made.of(range(20, 30))
    parts = [Predictions({"embedding": made.values["embedding"][rows]}, made.source[rows]) for rows in (known, unknown)]
    figures = attribution(centroids(parts[0], collection), *parts, collection, None)
    for name in ("accuracy", "unknown_auroc", "oscr"):
        low, high = figures[f"{name}_interval"]  # type: ignore[misc]
        assert low < figures[name] < high
    found = enrolment(made, gallery(10), naming_from(0.7), pictures=10)
    assert found is not None
    for name in ("accuracy", "unknown_auroc"):
        low, high = found[f"{name}_interval"]
        assert low < found[name] < high


def test_gains_that_are_redrawn_are_those_that_are_judged() -> None:
    rng = np.random.default_rng(3)
    collection = made_collection()
    labels = [source.labels for source in collection.sources if source.labels is not None and source.zoo]
    assert len({label.family for label in labels}) > 1
    known, rows = labels[: len(labels) // 2], [labels[i] for i in rng.integers(len(labels), size=40)]
    values = {"family": rng.normal(size=(40, len(FAMILIES))), "losses": rng.normal(size=(40, len(LOSSES)))}
    values |= {"continuous": rng.random((40, len(CONTINUOUS)))}
    values |= {name: rng.normal(size=(40, len(choices))) for name, choices in DISCRETE.items()}
    limits = dict.fromkeys(LOSSES, 0.5)
    figures = parsing.figures(values, rows, known, dict.fromkeys(CONTINUOUS, 0.1), limits)
    true, said, trained = (Answers.true(rows), Answers.said(values, limits), Answers.true(known))
    assert GAINS["continuous"](true, said, trained) == pytest.approx(l1_saved(figures), abs=1e-4)
    for group in ("discrete", "losses"):
        assert GAINS[group](true, said, trained) == pytest.approx(above_mode(figures, group))


def test_an_evaluation_reads_no_picture_that_it_does_not_look_at() -> None:
    """And all that it looks at, in the same order."""
    collection = made_collection()
    sources = {source_key(source): source for source in collection.sources}
    keys = list(sources)
    entries = [
        Entry(Place(Path(f"{i}.png")), keys[sample.source], sample.split, sample.photo, None, made=sample.made)
        for i, sample in enumerate(collection.samples)
    ]
    kept = looked_at(Index(sources, entries), "test", (3, 2, 1)).entries
    numbers = [int(entry.place.file.stem) for entry in kept]
    narrowed = Collection(collection.sources, [collection.samples[i] for i in numbers])
    asked: list[tuple[dict[str, Any], int | None]] = [
        ({"split": "test", "camera": True, "zoo": True}, None),
        ({"split": "test", "camera": True, "zoo": False}, None),
        *(({"split": "test", "camera": False, "zoo": zoo, "source_split": "test"}, None) for zoo in (True, False)),
        ({"split": "test", "camera": False, "zoo": False, "source_split": "train"}, None),
        ({"split": "test", "camera": False, "zoo": True, "source_split": "train"}, 2),
        ({"split": "train", "camera": False, "zoo": True, "source_split": "train"}, 3),
        ({"split": "train", "camera": False, "zoo": True, "source_split": "test"}, MANY),
    ]
    needed = []
    for question, count in asked:
        there, left = (few(of.select(**question), count or 10**6) for of in (collection, narrowed))
        assert there
        assert list(map(id, there)) == list(map(id, left))
        needed += there
    assert sorted(map(id, needed)) == sorted(map(id, narrowed.samples))


def test_an_evaluation_needs_pictures() -> None:
    asked = CliRunner().invoke(main, [str(default_folder())])
    assert asked.exit_code == 2
    assert "--pack" in asked.output


def test_same_generator_tells_structure_from_none() -> None:
    clear = same_generator(predictions(8, 12, 0.2))
    noise = same_generator(predictions(8, 12, 100.0))
    assert clear is not None
    assert noise is not None
    assert clear["auc"] > 0.99  # type: ignore[operator]
    assert abs(noise["auc"] - 0.5) < 0.08  # type: ignore[operator]
    low, high = noise["auc_interval"]  # type: ignore[misc]
    assert low <= noise["auc"] <= high
    assert same_generator(predictions(1, 12, 0.2)) is None
    assert same_generator(predictions(8, 1, 0.2)) is None


def test_fitted_calibration_holds_on_other_generators() -> None:
    fitted = fit_same_generator(predictions(60, 12, 1.2, seed=1))
    assert fitted is not None
    same = SameGenerator(**fitted)
    figures = same_generator(predictions(60, 12, 1.2, seed=3), same)
    assert figures is not None
    assert figures["calibration_error"] < 0.05  # type: ignore[operator]
    assert figures["different_called_same"] < 2 * FALSE_SAME  # type: ignore[operator]
    assert figures["same_called_same"] > 0.5  # type: ignore[operator]
    wrong = same_generator(predictions(60, 12, 1.2, seed=3), SameGenerator(1.0, 4.0, 0.5))
    assert wrong is not None
    assert wrong["calibration_error"] > 0.3  # type: ignore[operator]


def test_no_calibration_without_structure_or_generators() -> None:
    backwards = predictions(6, 6, 0.1)
    # Each generator's pictures point every way, and those of all generators the same ways: closer across than within.
    ways = np.eye(6, DIMENSION, dtype=np.float32)
    backwards.values["embedding"] = np.tile(ways, (6, 1))
    assert fit_same_generator(backwards) is None
    assert fit_same_generator(predictions(1, 20, 0.1)) is None


def test_enrolment_names_new_generators_and_rejects_strangers() -> None:
    figures = enrolment(predictions(24, 30, 0.4), gallery(10), naming_from(0.7), pictures=10)
    assert figures is not None
    assert (figures["enrolled"], figures["names"], figures["pictures"]) == (16, 20, 10)
    assert figures["accuracy"] > 0.99
    assert figures["unknown_auroc"] > 0.99
    assert figures["named_rightly"] > 0.9
    assert figures["unknown_named"] < 0.1
    noise = enrolment(predictions(24, 30, 100.0), gallery(10), naming_from(0.7), pictures=10)
    assert noise is not None
    assert noise["accuracy"] < 0.2
    assert 0.35 < noise["unknown_auroc"] < 0.65


def test_as_many_strangers_are_named_at_enrolment_as_are_meant() -> None:
    # Unseen generators lie closer together than those of the gallery.
    fitted = fit_enrolled(predictions(40, 30, 1.5, seed=5), gallery(10))
    figures = enrolment(predictions(40, 30, 1.5, seed=6), gallery(10), naming_from(fitted["enrolled"]), pictures=10)
    assert figures is not None
    assert figures["unknown_named"] == pytest.approx(FALSE_NAME, abs=0.05)
    assert fit_enrolled(predictions(2, 30, 0.4), gallery(10)) == {}
    # Of few generators the bundle's own names are enrolled beside them, and have a threshold of their own.
    few = [predictions(12, 60, 1.5, seed=seed) for seed in (7, 8)]
    figures = enrolment(
        few[1], gallery(40, seed=7), naming_from(**fit_enrolled(few[0], gallery(40, seed=7))), pictures=10
    )
    assert figures is not None
    assert (figures["enrolled"], figures["names"]) == (8, 20)
    assert figures["unknown_named"] == pytest.approx(FALSE_NAME, abs=0.05)


def test_what_is_usual_for_a_picture_is_held_against_enrolled_names() -> None:
    """Of pictures with few traces all embeddings lie near one another, and near those of any generator."""
    made = predictions(40, 30, 1.5, seed=5)
    faint = np.random.default_rng(1).random(len(made.source)) < 0.5
    middle = unit(np.ones(DIMENSION, np.float32))
    made.values["embedding"][faint] = 0.2 * made.values["embedding"][faint] + 3 * middle
    plain = gallery(10)
    around = np.random.default_rng(2).normal(size=(30, DIMENSION)).astype(np.float32) * 0.2 + middle
    knowing = replace(plain, background=around / np.linalg.norm(around, axis=1, keepdims=True))
    figures = []
    for known in (plain, knowing):
        found = enrolment(made, known, naming_from(**fit_enrolled(made, known)), pictures=10)
        assert found is not None
        assert found["unknown_named"] == pytest.approx(FALSE_NAME, abs=0.03)
        figures.append(found)
    assert figures[1]["accuracy"] == figures[0]["accuracy"]
    assert figures[1]["unknown_auroc"] > figures[0]["unknown_auroc"] + 0.02
    assert figures[1]["named_rightly"] > figures[0]["named_rightly"] + 0.03


def test_more_pictures_name_better() -> None:
    few, many = (enrolment(predictions(24, 80, 2.5), gallery(10), naming_from(0.5), pictures=n) for n in (3, 50))
    assert few is not None
    assert many is not None
    assert many["accuracy"] > few["accuracy"] + 0.05


def test_generators_enrolled_by_other_pictures_have_all_of_theirs_looked_for() -> None:
    every = predictions(24, 10 + MANY, 0.8)
    first = np.concatenate([every.of([i])[:10] for i in range(24)])
    made, others, short = (
        Predictions({name: value[rows] for name, value in every.values.items()}, every.source[rows])
        for rest in [np.setdiff1d(np.arange(len(every.source)), first)]
        for rows in (first, rest, np.setdiff1d(rest, [every.of([i])[-1] for i in range(24)]))
    )
    draws = list(enrolled_draws(made, gallery(10), MANY, others=others, draws=2))
    assert len(draws) == 2
    assert all(np.array_equal(np.bincount(draw.made_by)[draw.names[:16]], np.full(16, 10)) for draw in draws)
    # Whose other pictures are somebody else's is not found again.
    strange = Predictions(others.values, (others.source + 1) % 24)
    found, lost = (enrolment(made, gallery(10), naming_from(0.5), MANY, others=each) for each in (others, strange))
    assert found is not None
    assert lost is not None
    assert found["accuracy"] > 0.9
    assert lost["accuracy"] < 0.1
    assert enrolment(made, gallery(10), naming_from(0.5), MANY, others=short) is None


def test_enrolment_takes_three_generators_with_pictures_to_spare() -> None:
    assert enrolment(predictions(2, 30, 0.4), gallery(10), naming_from(0.7), pictures=10) is None
    assert enrolment(predictions(24, 10, 0.4), gallery(10), naming_from(0.7), pictures=10) is None
    small = enrolment(predictions(3, 30, 0.4), Gallery.empty(), naming_from(0.7), pictures=10)
    assert small is not None
    assert (small["enrolled"], small["names"]) == (2, 2)


def test_edited_pictures_are_asked_about_of_both_kinds() -> None:
    bundle, collection = open_bundle(default_folder()), made_collection()
    assert bundle.calibration is not None
    backend, seen = create("cpu", bundle, None), []

    class Counted:
        def run(self, windows: np.ndarray, outputs: Sequence[str]) -> dict[str, np.ndarray]:
            seen.append(len(windows))
            return backend.run(windows, outputs)

    edits = {name: EDITS[name] for name in ("none", "enlarged three times")}
    found = measure(Counted(), collection, bundle.calibration, edits)  # type: ignore[arg-type]
    assert list(found) == list(edits)
    for of in found.values():
        for kind, zoo in (("zoo", True), ("public", False)):
            photos = len(collection.select(split="test", camera=True, zoo=zoo))
            made = len(collection.select(split="test", camera=False, zoo=zoo, source_split="test"))
            assert of[kind]["pictures"] == {"camera": photos, "generated": made}  # type: ignore[index]
            assert sum(of[kind]["camera"].values()) == pytest.approx(1)  # type: ignore[index]
    # Of 48 pixels a side one window is cut, and of three times as many more.
    half = len(seen) // 2
    assert set(seen[:half]) == {1}
    assert min(seen[half:]) > 1


def test_small_pictures_are_asked_about_on_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    bundle, collection = open_bundle(default_folder()), made_collection()
    assert bundle.calibration is not None
    backend = create("cpu", bundle, None)
    monkeypatch.setattr(small, "SIDES", (16, 40))
    for split in small.SPLITS:
        found = small.of_every_size(backend, collection, bundle.calibration, split)
        assert {how: list(sides) for how, sides in found.items()} == {"cut out": [16, 40], "shrunk": [16, 40]}
        photos = len(collection.select(split=split, camera=True, zoo=False))
        made = len(collection.select(split=split, camera=False, zoo=False, source_split=split))
        assert found["shrunk"][40]["public"]["pictures"] == {"camera": photos, "generated": made}


def test_a_small_picture_is_the_middle_or_all_of_a_larger_one() -> None:
    pixels = np.arange(60 * 90 * 3, dtype=np.uint32).astype(np.uint8).reshape(60, 90, 3)
    assert np.array_equal(small.cut_out(pixels, 20), pixels[20:40, 35:55])
    assert small.shrunk(pixels, 20).shape == (20, 30, 3)
    assert small.shrunk(pixels.swapaxes(0, 1), 20).shape == (30, 20, 3)


@pytest.mark.parametrize("name", EDITS)
def test_every_edit_changes_a_picture_and_leaves_one(name: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (96, 120, 3), np.uint8)
    edited = EDITS[name].apply(pixels)
    assert edited.dtype == np.uint8
    assert edited.ndim == 3
    assert edited.shape[2] == 3
    assert np.array_equal(edited, EDITS[name].apply(pixels))
    assert np.array_equal(edited, pixels) == (name == "none")


def test_only_what_edits_are_tried_on_is_loaded() -> None:
    labels = made_collection().sources[-1].labels
    sources = {
        "zoo/photos": Generator("photos", None, True, "train"),
        "photos": Generator("photos", None, False, "train"),
        "zoo/seen": Generator("seen", labels, True, "train"),
        "zoo/unseen": Generator("unseen", labels, True, "test"),
        "unseen": Generator("unseen", labels, False, "test"),
        "seen": Generator("seen", labels, False, "train"),
    }
    entries = [
        Entry(Place(Path("a.npz"), i), key, split, None, None, True)
        for i in range(FEW + 2)
        for key in sources
        for split in ("train", "test")
    ]
    kept = Counter(entry.source for entry in looked_at_edited(Index(sources, entries)).entries)
    assert kept == {"zoo/photos": FEW + 2, "photos": FEW + 2, "zoo/unseen": FEW, "unseen": FEW + 2}


def test_card_shows_comparing_and_enrolment_where_they_were_measured() -> None:
    made = predictions(24, 60, 1.2)
    same = SameGenerator(**(fit_same_generator(made) or {}))
    nothing = {"mixed": None, "clean": None}
    result = {
        "same_generator_zoo": {"mixed": same_generator(made, same), "clean": None},
        "same_generator_real": {"mixed": {"auc": 0.5}, "clean": None},
        "enrolment_zoo": {
            "mixed": [enrolment(made, gallery(10), naming_from(0.7), pictures) for pictures in (10, 50)],
            "clean": [None, None],
        },
        "enrolment_real": {"mixed": [None, None], "clean": [None, None]},
    }
    _, calibration, words, enrolled = comparing_sections(result)
    assert "| zoo generators | mixed | 24 | 0." in calibration
    assert "public" not in calibration + enrolled
    assert "enrolled by" in words
    assert enrolled.count("\n") == 3
    too_few = {key: {"mixed": [None], "clean": [None]} for key in ("enrolment_zoo", "enrolment_real")}
    assert not list(comparing_sections({"same_generator_zoo": nothing, "same_generator_real": nothing, **too_few}))


@pytest.mark.parametrize("seed", [0, 1])
def test_pairs_repeat(seed: int) -> None:
    made = predictions(5, 8, 0.5)
    assert np.array_equal(pairs_of(made, seed)[0], pairs_of(made, seed)[0])


def test_a_generator_that_changed_sides_is_noticed(bundle_copy: Path) -> None:
    edit_manifest(
        bundle_copy, lambda fields: fields["training"].update(generators={"vae-000": "train", "vae-001": "test"})
    )
    labels = Labels("vae", {}, {}, ())

    def collection(split: str) -> Collection:
        return Collection([Generator("vae-000", labels, True, "train"), Generator("vae-001", labels, True, split)], [])

    check_splits(open_bundle(bundle_copy), collection("test"))
    with pytest.raises(ValueError, match="vae-001"):
        check_splits(open_bundle(bundle_copy), collection("train"))
    # A zoo of fewer rounds lacks some that are for training alone; none that is held out, and no public one.
    sources = collection("test").sources
    check_splits(open_bundle(bundle_copy), Collection(sources[1:], []))
    with pytest.raises(ValueError, match="vae-001"):
        check_splits(open_bundle(bundle_copy), Collection(sources[:1], []))
    with pytest.raises(ValueError, match="vae-002"):
        check_splits(open_bundle(bundle_copy), Collection([*sources, Generator("vae-002", labels, True, "train")], []))
    edit_manifest(bundle_copy, lambda fields: fields["training"]["generators"].update(sd1="train"))
    with pytest.raises(ValueError, match="sd1"):
        check_splits(open_bundle(bundle_copy), Collection(sources, []))
