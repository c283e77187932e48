"""Which results hold for a bundle, and what a precision loses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeparse.backends.select import create
from edgeparse.bundle import open_bundle
from edgeparse.gallery import Gallery
from tests.conftest import edit_manifest
from tests.synthetic_collection import synthetic_collection
from training.data.dataset import Collection
from training.evaluate.precisions import points_lost_by_target, precision_rows
from training.evaluate.results import bundle_identity, is_measured_on
from training.evaluate.tasks import evaluate


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
def test_results_hold_for_bundles_that_predict_the_same(
    bundle_copy: Path, change: Callable[[dict[str, Any]], object], holds: bool
) -> None:
    found = bundle_identity(open_bundle(bundle_copy), "int8")
    edit_manifest(bundle_copy, change)
    assert is_measured_on(found, open_bundle(bundle_copy)) == holds
    assert not is_measured_on(found | {"variant": "int4"}, open_bundle(bundle_copy))


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
    lost = points_lost_by_target(before, now)
    assert lost == pytest.approx(
        {"detection_zoo_clean": 1, "worst_cameras_called_generated": 3, "interval_coverage": -3}
    )
    assert points_lost_by_target(now, before) == pytest.approx({name: -value for name, value in lost.items()})
    assert next(row[1:] for row in precision_rows({"fp32": before, "int8": now})) == ("0.970", "0.960")


@pytest.mark.slow
def test_a_zoo_without_training_pictures_is_enough_for_unseen_generators() -> None:
    bundle, whole = open_bundle(), synthetic_collection()
    assert bundle.gallery is not None
    sources = whole.sources
    held_out = Collection(
        sources,
        [s for s in whole.samples if not (sources[s.source].zoo and s.made and sources[s.source].split == "train")],
    )
    gallery, backend = Gallery.load(bundle.read(bundle.gallery)), create("cpu", bundle)
    complete, without_training = (
        evaluate(bundle, backend, gallery, collection, "test", ("clean",), known_zoo=(1, 1, 1), many=2)
        for collection in (whole, held_out)
    )
    assert without_training == {name: found for name, found in complete.items() if name != "attribution_zoo"}
    enrolment: Any = complete["enrolment_zoo"]
    # Two test generators are too few to enrol.
    assert enrolment["clean"][-1] is None
