"""Which results hold for a bundle, and how they are stored."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeparse.bundle import open_bundle
from tests.conftest import edit_manifest
from training.evaluate.results import bundle_identity, is_measured_on, write_result


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


def test_results_round_to_six_digits(tmp_path: Path) -> None:
    write_result(tmp_path / "a.json", {"a": [1 / 3, 12, None], "b": {"c": 1234567.8}})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [0.333333, 12, None], "b": {"c": 1234570.0}}
