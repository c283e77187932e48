"""Bundles: what is damaged, changed or made for another version is refused with the file's name."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeparse
from edgeparse import BundleError, Parser
from edgeparse.bundle import Calibration, Parameter, open_bundle
from edgeparse.gallery import Gallery, identify, usual
from tests.conftest import edit_manifest


def test_default_bundle_is_whole() -> None:
    bundle = open_bundle()
    assert bundle.window == 128
    for file in bundle.hashes:
        assert bundle.read(file)
    assert len(bundle.continuous) == 9
    assert len(bundle.losses) == 10


def test_the_package_fits_in_a_wheel_of_12_megabytes() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as wheel:
        for path in Path(edgeparse.__file__).parent.rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                wheel.write(path)
    assert len(buffer.getvalue()) <= 12_000_000


@pytest.mark.parametrize("file", ["model.onnx", "model.int8.onnx", "gallery.npz"])
def test_changed_file_is_refused_by_name(bundle_copy: Path, file: str) -> None:
    path = bundle_copy / file
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    bundle = open_bundle(bundle_copy)
    with pytest.raises(BundleError, match=file):
        bundle.read(file)


def test_parser_refuses_a_changed_model(bundle_copy: Path) -> None:
    (bundle_copy / "model.int8.onnx").write_bytes(b"not a model")
    with pytest.raises(BundleError, match=r"model\.int8\.onnx"):
        Parser(bundle_copy)


@pytest.mark.parametrize("file", ["model.int8.onnx", "gallery.npz", "bundle.json"])
def test_missing_file_is_named(bundle_copy: Path, file: str) -> None:
    (bundle_copy / file).unlink()
    with pytest.raises(BundleError, match=file):
        Parser(bundle_copy)


@pytest.mark.parametrize("schema", [0, 2, "1", None])
def test_other_schema(bundle_copy: Path, schema: object) -> None:
    edit_manifest(bundle_copy, lambda fields: fields.update(schema=schema))
    with pytest.raises(BundleError, match=r"bundle\.json has schema"):
        open_bundle(bundle_copy)


@pytest.mark.parametrize(
    "change",
    [
        lambda fields: fields.pop("labels"),
        lambda fields: fields["calibration"].pop("scale"),
        lambda fields: fields.update(files=[]),
        lambda fields: fields.update(framing="crop"),
        lambda fields: fields.pop("outputs"),
        lambda fields: fields["outputs"].append("attribution"),
        lambda fields: (fields["outputs"].append("attribution"), fields["labels"].update(attribution=["a", "b"])),
        lambda fields: fields["labels"]["continuous"][0].update(surprise=1),
        lambda fields: fields["files"].update({"../escape": {"sha256": "0"}}),
        lambda fields: fields["variants"].update(fp8="model.fp8.onnx"),
        lambda fields: fields["calibration"].update(same={"scale": 1.0}),
        lambda fields: fields["calibration"].update(same={"scale": 0.0, "bias": 0.0, "threshold": 0.5}),
        lambda fields: fields["calibration"].update(same={"scale": 1.0, "bias": 0.0, "threshold": 1.0}),
        lambda fields: fields["calibration"].update(same={"scale": 1.0, "bias": 0.0, "threshold": 0}),
        lambda fields: fields["calibration"].update(bias=math.nan),
        lambda fields: fields["calibration"].update(bias="0"),
        lambda fields: fields.update(default_variant="int4"),
        lambda fields: fields["files"].update({"/etc/passwd": {"sha256": "0"}}),
    ],
)
def test_manifest_that_lacks_something(bundle_copy: Path, change: Callable[[dict[str, Any]], object]) -> None:
    edit_manifest(bundle_copy, change)
    with pytest.raises(BundleError, match=r"bundle\.json"):
        open_bundle(bundle_copy)


@pytest.mark.parametrize("text", ["", "[1]", "{", "null"])
def test_manifest_that_is_no_manifest(bundle_copy: Path, text: str) -> None:
    (bundle_copy / "bundle.json").write_text(text)
    with pytest.raises(BundleError, match=r"bundle\.json"):
        open_bundle(bundle_copy)


def test_unlisted_file_and_variant() -> None:
    bundle = open_bundle()
    with pytest.raises(BundleError, match="not listed"):
        bundle.read("other.onnx")
    with pytest.raises(BundleError, match="no int4 model"):
        bundle.model("int4")


def test_gallery_without_pickle(tmp_path: Path) -> None:
    path = tmp_path / "gallery.npz"
    np.savez(path, names=np.array([{"a": 1}], dtype=object), vectors=np.zeros((1, 4)))
    with pytest.raises(BundleError):
        Gallery.load(path.read_bytes())
    np.savez(path, names=np.array(["a"]), vectors=np.zeros((2, 4)))
    with pytest.raises(BundleError, match="1 names"):
        Gallery.load(path.read_bytes())


def test_gallery_ranks_by_similarity() -> None:
    gallery = Gallery(("up", "right"), np.eye(2, dtype=np.float32))
    matches = gallery.nearest(np.array([0.8, 0.6], np.float32), 5)
    assert matches == [("up", pytest.approx(0.8)), ("right", pytest.approx(0.6))]


def test_that_generator_is_named_that_comes_nearest_to_what_it_needs() -> None:
    gallery = Gallery(("own", "mine"), np.eye(2, dtype=np.float32))
    calibration = Calibration(1.0, 0.0, 0.5, 0.5, known=0.9, enrolled=0.5)
    vector = np.array([0.8, 0.6], np.float32)
    answer = identify(vector, gallery, {"mine"}, calibration, 5)
    assert answer is not None
    assert (answer.name, answer.known, answer.score) == ("mine", True, pytest.approx(0.6))
    assert [(c.name, c.needed) for c in answer.candidates] == [("mine", 0.5), ("own", 0.9)]
    answer = identify(vector, gallery, (), calibration, 1)
    assert answer is not None
    assert (answer.name, answer.known, answer.score) == (None, False, pytest.approx(0.8))
    assert len(answer.candidates) == 1
    assert identify(vector, Gallery.empty(), (), calibration, 5) is None


def test_gallery_keeps_its_background(tmp_path: Path) -> None:
    vectors = np.eye(8, dtype=np.float32)
    path = tmp_path / "gallery.npz"
    with path.open("wb") as file:
        Gallery(("up", "right"), vectors[:2], vectors[2:]).save(file)
    read = Gallery.load(path.read_bytes())
    assert np.array_equal(read.background, vectors[2:])
    # An enrolled name changes nothing of what is usual, whether or not the bundle names any.
    for below in (read, Gallery((), vectors[:0], vectors[2:])):
        assert Gallery(("mine",), vectors[7:]).over(below).background is below.background
    for wrong in (np.zeros((2, 5)), np.zeros((2, 2, 4)), np.float32(1)):
        np.savez(path, names=np.array(["a"]), vectors=np.zeros((1, 4)), background=wrong)
        with pytest.raises(BundleError, match="background"):
            Gallery.load(path.read_bytes())


def test_usual_is_how_near_the_nearest_three_come() -> None:
    background = np.array([[1, 0], [0.8, 0.6], [0, 1], [-1, 0]], np.float32)
    assert usual(background, np.array([1, 0], np.float32)) == pytest.approx(0.6)
    assert np.allclose(usual(background, np.array([[1, 0], [0, 1]], np.float32)), [0.6, 1.6 / 3])
    assert np.array_equal(usual(background[:0], background), np.zeros(4))
    assert usual(background[:1], background[1]) == pytest.approx(0.8)


def test_an_enrolled_generator_has_to_be_nearer_where_all_are_near() -> None:
    calibration = Calibration(1.0, 0.0, 0.5, 0.5, known=0.9, enrolled=0.3, enrolled_share=0.5)
    assert calibration.needed(enrolled=True, usual=0.4) == pytest.approx(0.5)
    assert calibration.needed(enrolled=False, usual=0.4) == 0.9
    # A bundle from before there was a choice.
    assert Calibration(1.0, 0.0, 0.5, 0.5, known=0.9).needed(enrolled=True, usual=0.4) == 0.9


def test_parameter_scales() -> None:
    linear = Parameter("layers", 1, 65, False, "layers", 0.1, True)
    assert linear.value(0.5) == 33
    assert linear.value(-1) == 1
    log = Parameter("parameters", 1e3, 1e7, True, "values", 0.1, True)
    assert log.value(0) == pytest.approx(1e3)
    assert log.value(2) == pytest.approx(1e7)
    assert math.log(log.value(0.5)) == pytest.approx((math.log(1e3) + math.log(1e7)) / 2, rel=1e-3)
    for parameter in (linear, log):
        assert parameter.scaled(parameter.value(0.3)) == pytest.approx(0.3, abs=0.01)
        assert (parameter.scaled(-9 if parameter is linear else 0), parameter.scaled(1e9)) == (0, 1)
