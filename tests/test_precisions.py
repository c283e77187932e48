"""Which figures hold for a bundle, and what a precision loses."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgeparse.backends.select import create
from edgeparse.bundle import open_bundle
from edgeparse.gallery import Gallery
from tests.conftest import edit_manifest
from tests.made_collection import made_collection
from training.accuracy import Sources, _anew, _cost
from training.bars import BARS
from training.card import _fitted_of
from training.data.dataset import Collection
from training.precisions import lost_by_row, rows
from training.provenance import holds_for, measured_of
from training.questions import evaluate


@pytest.mark.parametrize(
    ("change", "holds"),
    [
        (lambda fields: fields.update(version="99", tf32=["fp16"]), True),
        (lambda fields: fields["metrics"].clear(), True),
        (lambda fields: fields["files"]["model.fp16.onnx"].update(sha256="0" * 64), True),
        (lambda fields: fields["files"]["model.int8.onnx"].update(sha256="0" * 64), False),
        (lambda fields: fields["files"]["gallery.npz"].update(sha256="0" * 64), False),
        (lambda fields: fields["calibration"].update(generated=0.99), False),
        (lambda fields: fields["labels"]["losses"][0].update(threshold=0.99), False),
    ],
)
def test_figures_hold_for_all_that_answers_the_same(
    bundle_copy: Path, change: Callable[[dict[str, Any]], object], holds: bool
) -> None:
    found: dict[str, object] = {**measured_of(open_bundle(bundle_copy), "int8")}
    edit_manifest(bundle_copy, change)
    assert holds_for(found, open_bundle(bundle_copy)) == holds
    assert not holds_for(found | {"variant": "int4"}, open_bundle(bundle_copy))


def test_points_are_lost_on_the_worse_side() -> None:
    before = {
        "detection_zoo_clean": 0.97,
        "worst_cameras_called_generated": 2.0,
        "interval_coverage": 84.0,
        "intervals_that_cover": 9,
    }
    now = {
        "detection_zoo_clean": 0.96,
        "worst_cameras_called_generated": 5.0,
        "interval_coverage": 81.0,
        "intervals_that_cover": 3,
    }
    lost = lost_by_row(before, now)
    assert lost == pytest.approx(
        {"detection_zoo_clean": 1, "worst_cameras_called_generated": 3, "interval_coverage": -3}
    )
    assert lost_by_row(now, before) == pytest.approx({name: -value for name, value in lost.items()})
    assert ("camera or generated, AUC, unseen zoo generators, clean", "0.970", "0.960") in rows(
        {"fp32": before, "int8": now}
    )


def test_a_zoo_without_training_pictures_is_enough_for_unseen_generators() -> None:
    bundle, whole = open_bundle(), made_collection()
    assert bundle.gallery is not None
    sources = whole.sources
    held_out = Collection(
        sources,
        [s for s in whole.samples if not (sources[s.source].zoo and s.made and sources[s.source].split == "train")],
    )
    gallery, backend = Gallery.load(bundle.read(bundle.gallery)), create("cpu", bundle)
    all_of_it, of_held_out = (
        evaluate(bundle, backend, gallery, of, "test", ("clean",), known_zoo=(1, 1, 1), many=2)  # type: ignore[arg-type]
        for of in (whole, held_out)
    )
    assert of_held_out == {name: figures for name, figures in all_of_it.items() if name != "attribution_zoo"}
    (*_, by_many) = all_of_it["enrolment_zoo"]["clean"]  # type: ignore[index]
    # Two test generators are too few to enrol.
    assert by_many is None


def test_the_page_says_what_was_measured_anew_and_of_every_precision() -> None:
    sources = Sources.read()
    figures = {variant: {bar.key: 0.5 for bar in BARS[:8]} for variant in ("fp32", "int8")}
    figures["int8"]["detection_zoo_clean"] = 0.4
    precisions = {
        "figures": figures,
        "known_zoo": 7,
        "points_lost": {"int8": lost_by_row(figures["fp32"], figures["int8"])},
    }
    made_up = replace(sources, anew=sources.evaluation, precisions=precisions)
    anew, cost = "\n".join(_anew(made_up)), "\n".join(_cost(made_up))
    row = next(line for line in anew.splitlines() if line.startswith("| camera or generated, AUC, unseen zoo"))
    _, _, first, _, again, *_ = (cell.strip() for cell in row.split("|"))
    assert first == again
    assert "public generators, clean" not in anew
    assert "known generator named" not in anew
    assert "| int8 | 10.00 | camera or generated, AUC, unseen zoo generators, clean |" in cost
    assert "are 7 here" in cost
    assert "here, trained anew too" not in "\n".join(_cost(replace(made_up, precisions=precisions | {"known_zoo": 0})))
    assert not list(_anew(replace(sources, anew=None)))


def test_the_card_names_what_a_bundle_was_fitted_as() -> None:
    assert _fitted_of({}, "default-9") == "is this version's"
    assert _fitted_of({"fitted_of": "default-8"}, "default-9") == "is default-8's; only the fp16 file was made anew"
    fields = json.loads((open_bundle().folder / "bundle.json").read_text())
    assert "network_of" in fields or "fitted_of" not in fields
