"""Bundles: damaged, changed and outdated files are rejected with their name."""

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
from edgeparse import BundleError, Parser, gallery
from edgeparse.bundle import open_bundle
from edgeparse.gallery import Gallery, cohort_similarity, identify
from edgeparse.manifest import Calibration, Parameter
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


@pytest.mark.parametrize("schema", [0, 1, 3, "2", None])
def test_other_schema(bundle_copy: Path, schema: object) -> None:
    edit_manifest(bundle_copy, lambda fields: fields.update(schema=schema))
    with pytest.raises(BundleError, match=r"bundle\.json must have schema 2"):
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
        lambda fields: fields.update(tf32=["int4"]),
        lambda fields: fields.update(tf32="fp16"),
        lambda fields: fields["files"].update({"/etc/passwd": {"sha256": "0" * 64}}),
        lambda fields: fields.update(window=1),
        lambda fields: fields.update(window=-5),
        lambda fields: fields.update(window=10**6),
        lambda fields: fields.update(window=128.0),
        lambda fields: fields.update(window=True),
        lambda fields: fields.update(window=math.inf),
        lambda fields: fields["calibration"].update(bias=10**400),
        lambda fields: fields["calibration"].update(camera=0.9, generated=0.2),
        lambda fields: fields["calibration"].update(generated=1.1),
        lambda fields: fields.update(gallery=["x"]),
        lambda fields: fields.update(gallery="other.npz"),
        lambda fields: fields.update(metrics=[]),
        lambda fields: fields.update(outputs="generated"),
        lambda fields: fields.update(outputs=[]),
        lambda fields: fields["outputs"].remove("continuous"),
        lambda fields: fields["files"]["model.onnx"].update(bytes=-1),
        lambda fields: fields["files"]["model.onnx"].update(bytes=2**50),
        lambda fields: fields["files"]["model.onnx"].update(sha256="\x1b[2J"),
        lambda fields: fields["labels"]["family"].append(fields["labels"]["family"][0]),
        lambda fields: fields["labels"]["continuous"][0].update(high=math.inf),
        lambda fields: fields["labels"]["continuous"][0].update(low=-1),
        lambda fields: fields["labels"]["continuous"][0].update(low=70),
        lambda fields: fields["labels"]["losses"][0].update(threshold="1"),
        lambda fields: (fields["outputs"].append("attribution"), fields["labels"].update(attribution=["camera"])),
    ],
)
def test_invalid_manifests_are_rejected(bundle_copy: Path, change: Callable[[dict[str, Any]], object]) -> None:
    edit_manifest(bundle_copy, change)
    with pytest.raises(BundleError, match=r"bundle\.json"):
        open_bundle(bundle_copy)


HOSTILE = "\x1b]0;title\x07"


@pytest.mark.parametrize(
    "change",
    [
        lambda fields: fields.update(name=HOSTILE),
        lambda fields: fields.update(version="1\n2"),
        lambda fields: fields["labels"]["family"].__setitem__(0, HOSTILE),
        lambda fields: fields["labels"]["continuous"][0].update(name=HOSTILE),
        lambda fields: fields["labels"]["continuous"][0].update(unit=HOSTILE),
        lambda fields: fields["labels"]["discrete"][0].update(name=HOSTILE),
        lambda fields: fields["labels"]["discrete"][0]["values"].append(HOSTILE),
        lambda fields: fields["labels"]["losses"][0].update(name=HOSTILE),
        lambda fields: fields["labels"].update(attribution=["camera", HOSTILE]),
        lambda fields: fields["variants"].update({HOSTILE: "model.onnx"}),
        lambda fields: fields["files"].update({HOSTILE: fields["files"]["model.onnx"]}),
        lambda fields: fields["outputs"].append(HOSTILE),
        lambda fields: fields.update(framing=HOSTILE),
        lambda fields: fields.update(schema=HOSTILE),
        lambda fields: fields["calibration"].update({HOSTILE: 1.0}),
    ],
)
def test_no_name_of_a_manifest_controls_a_terminal(
    bundle_copy: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    edit_manifest(bundle_copy, change)
    with pytest.raises(BundleError, match=r"bundle\.json") as caught:
        open_bundle(bundle_copy)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("text", ["", "[1]", "{", "null", "[" * 100_000, '{"a":' * 100_000])
def test_manifest_that_is_no_manifest(bundle_copy: Path, text: str) -> None:
    (bundle_copy / "bundle.json").write_text(text)
    with pytest.raises(BundleError, match=r"bundle\.json"):
        open_bundle(bundle_copy)


def test_no_more_is_read_than_the_manifest_states(bundle_copy: Path) -> None:
    with (bundle_copy / "model.onnx").open("ab") as file:
        file.write(b"x")
    bundle = open_bundle(bundle_copy)
    with pytest.raises(BundleError, match=r"must have \d+ bytes .* got more"):
        bundle.read("model.onnx")
    edit_manifest(bundle_copy, lambda fields: fields["files"]["gallery.npz"].pop("bytes"))
    assert open_bundle(bundle_copy).read("gallery.npz")


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs a device that never ends")
@pytest.mark.parametrize("file", ["model.onnx", "bundle.json"])
def test_a_device_is_rejected(bundle_copy: Path, file: str) -> None:
    (bundle_copy / file).unlink()
    (bundle_copy / file).symlink_to("/dev/zero")
    with pytest.raises(BundleError, match=f"{file} cannot be read.*it is not a regular file"):
        open_bundle(bundle_copy).read(file)


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
    with pytest.raises(BundleError, match=r"shape \[1, D\]"):
        Gallery.load(path.read_bytes())


def archived(**arrays: object) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **{"names": np.array(["a", "b"]), "vectors": np.eye(2, 4, dtype=np.float32), **arrays})
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"vectors": np.full((2, 4), np.nan)}, "unit length"),
        ({"vectors": np.ones((2, 4))}, "unit length"),
        ({"cohort": np.full((3, 4), np.inf)}, "unit length"),
        ({"vectors": np.eye(2, 4, dtype=np.int64)}, "int64"),
        ({"names": np.array([["a"], ["b"]])}, "names must be texts"),
        ({"names": np.arange(2)}, "names must be texts"),
        ({"names": np.array(["a", "a"])}, "distinct"),
        ({"names": np.array(["a", HOSTILE])}, "printable"),
        ({"names": np.array(["a", " "])}, "printable"),
    ],
)
def test_invalid_galleries_are_rejected(arrays: dict[str, object], words: str) -> None:
    assert Gallery.load(archived()).names == ("a", "b")
    with pytest.raises(BundleError, match=words) as caught:
        Gallery.load(archived(**arrays))
    assert str(caught.value).isprintable()


def declaring(count: int) -> bytes:
    """A small archive whose header claims `count` vectors."""
    buffer, names, header = io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.save(names, np.array(["a"]))
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (count, 128)})
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("names.npy", names.getvalue())
        archive.writestr("vectors.npy", header.getvalue())
    return buffer.getvalue()


def packed(offset: int, value: int) -> bytes:
    """A gallery with two bytes changed in both headers of its first file (offset 6: flags, 8: method)."""
    data = bytearray(archived())
    for signature, shift in ((b"PK\x03\x04", 0), (b"PK\x01\x02", 2)):
        data[data.index(signature) + offset + shift : data.index(signature) + offset + shift + 2] = value.to_bytes(
            2, "little"
        )
    return bytes(data)


@pytest.mark.parametrize("data", [declaring(2**33), packed(6, 1), packed(8, 99), b"", b"PK", archived()[:300]])
def test_archives_that_cannot_be_unpacked(data: bytes) -> None:
    with pytest.raises(BundleError, match="must be an archive of names and vectors"):
        Gallery.load(data)


def test_a_gallery_that_unpacks_to_much_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery, "MAX_BYTES", 100)
    monkeypatch.setattr(np, "load", lambda *_args, **_options: pytest.fail("it was unpacked"))
    with pytest.raises(BundleError, match="must unpack to"):
        Gallery.load(archived())


def test_gallery_ranks_by_similarity() -> None:
    gallery = Gallery(("up", "right"), np.eye(2, dtype=np.float32))
    matches = gallery.nearest(np.array([0.8, 0.6], np.float32), 5)
    assert matches == [("up", pytest.approx(0.8)), ("right", pytest.approx(0.6))]


def test_the_candidate_furthest_above_its_threshold_is_named() -> None:
    gallery = Gallery(("own", "mine"), np.eye(2, dtype=np.float32))
    calibration = Calibration(1.0, 0.0, 0.5, 0.5, known=0.9, enrolled=0.5)
    vector = np.array([0.8, 0.6], np.float32)
    answer = identify(vector, gallery, {"mine"}, calibration, 5)
    assert answer is not None
    assert (answer.name, answer.known, answer.score) == ("mine", True, pytest.approx(0.6))
    assert [(c.name, c.threshold) for c in answer.candidates] == [("mine", 0.5), ("own", 0.9)]
    answer = identify(vector, gallery, (), calibration, 1)
    assert answer is not None
    assert (answer.name, answer.known, answer.score) == (None, False, pytest.approx(0.8))
    assert len(answer.candidates) == 1
    assert identify(vector, Gallery.empty(), (), calibration, 5) is None


def test_gallery_keeps_its_cohort(tmp_path: Path) -> None:
    vectors = np.eye(8, dtype=np.float32)
    path = tmp_path / "gallery.npz"
    with path.open("wb") as file:
        Gallery(("up", "right"), vectors[:2], vectors[2:]).save(file)
    read = Gallery.load(path.read_bytes())
    assert np.array_equal(read.cohort, vectors[2:])
    # Enrolled generators do not change the cohort, whether or not the bundle has generators of its own.
    for below in (read, Gallery((), vectors[:0], vectors[2:])):
        assert Gallery(("mine",), vectors[7:]).over(below).cohort is below.cohort
    for wrong in (np.zeros((2, 5)), np.zeros((2, 2, 4)), np.float32(1)):
        np.savez(path, names=np.array(["a"]), vectors=np.zeros((1, 4)), cohort=wrong)
        with pytest.raises(BundleError, match="cohort"):
            Gallery.load(path.read_bytes())


def test_cohort_similarity_is_the_mean_of_the_nearest_three() -> None:
    cohort = np.array([[1, 0], [0.8, 0.6], [0, 1], [-1, 0]], np.float32)
    assert cohort_similarity(cohort, np.array([1, 0], np.float32)) == pytest.approx(0.6)
    assert np.allclose(cohort_similarity(cohort, np.array([[1, 0], [0, 1]], np.float32)), [0.6, 1.6 / 3])
    assert np.array_equal(cohort_similarity(cohort[:0], cohort), np.zeros(4))
    assert cohort_similarity(cohort[:1], cohort[1]) == pytest.approx(0.8)


def test_the_threshold_of_an_enrolled_generator_rises_with_the_cohort_similarity() -> None:
    calibration = Calibration(1.0, 0.0, 0.5, 0.5, known=0.9, enrolled=0.3, cohort_weight=0.5)
    assert calibration.threshold(enrolled=True, cohort_similarity=0.4) == pytest.approx(0.5)
    assert calibration.threshold(enrolled=False, cohort_similarity=0.4) == 0.9
    # A bundle without a threshold for enrolled generators.
    assert Calibration(1.0, 0.0, 0.5, 0.5, known=0.9).threshold(enrolled=True, cohort_similarity=0.4) == 0.9


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
