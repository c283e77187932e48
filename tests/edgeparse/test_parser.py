"""The parser on real images: golden answers, threads, batches, failures."""

from __future__ import annotations

import hashlib
import io
import json
import sys
import tomllib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgeparse import BackendError, BundleError, ImageError, Parser, images, postprocess, windows
from edgeparse.backends import onnxruntime, select
from edgeparse.backends.tensorrt import engine_cache
from edgeparse.backends.tensorrt.library import LIBRARIES
from edgeparse.bundle import open_bundle
from edgeparse.gallery import Gallery
from edgeparse.report import Choice, Interval
from tests.conftest import ROOT, SAMPLES, edit_manifest, noise, sample_files

GOLDEN = json.loads((Path(__file__).parent / "golden.json").read_text())


def test_golden_answers_were_made_with_this_bundle(parser: Parser) -> None:
    assert GOLDEN["bundle_sha256"] == parser.bundle.sha256, "run `python -m tests.make_golden` after a new bundle"
    assert sorted(GOLDEN["int8"]) == [path.name for path in sample_files()]


@pytest.mark.parametrize("name", sorted(GOLDEN["fp32"]))
def test_golden_fp32(name: str) -> None:
    """fp32 agrees on every CPU; INT8 kernels differ between instruction sets, so their bound is looser."""
    report = Parser(variant="fp32").parse(SAMPLES / name)
    assert report.probability_generated == pytest.approx(GOLDEN["fp32"][name]["probability_generated"], abs=2e-3)
    assert report.verdict == GOLDEN["fp32"][name]["verdict"]


@pytest.mark.parametrize("name", sorted(GOLDEN["int8"]))
def test_golden_int8(parser: Parser, name: str) -> None:
    report = parser.parse(SAMPLES / name)
    assert report.probability_generated == pytest.approx(GOLDEN["int8"][name]["probability_generated"], abs=0.08)


def test_report_agrees_with_itself(parser: Parser) -> None:
    for path in sample_files():
        report = parser.parse(path)
        calibration = parser.bundle.calibration
        assert report.status == "ok"
        assert report.probability_generated is not None
        assert report.verdict == postprocess.verdict(report.probability_generated, calibration)
        if report.verdict == "camera":
            assert report.generator is report.family is report.architecture is report.losses is None
            continue
        assert (report.family is not None) == parser.bundle.family_reported
        if report.family is not None:
            assert sum(report.family.probabilities.values()) == pytest.approx(1, abs=1e-4)
        assert report.architecture is not None
        for answer in report.architecture.values():
            if isinstance(answer, Interval):
                assert answer.low <= answer.value <= answer.high
            else:
                assert isinstance(answer, Choice)
                assert 0 <= answer.probability <= 1
        assert report.generator is not None
        scores = [candidate.score for candidate in report.generator.candidates]
        assert scores == sorted(scores, reverse=True)
        assert report.generator.known == (scores[0] >= calibration.known)


def test_every_source_gives_the_same_answer(parser: Parser) -> None:
    path = sample_files()[0]
    expected = parser.parse(path).probability_generated
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    for source in (str(path), path.read_bytes(), io.BytesIO(path.read_bytes()), Image.open(path), pixels):
        assert parser.parse(source).probability_generated == expected


def test_threads_give_the_answers_of_one(parser: Parser) -> None:
    sources = [noise(150 + 40 * i, 300, i) for i in range(8)]
    alone = [replace(parser.parse(source), timing_ms=None) for source in sources]
    with ThreadPoolExecutor(8) as pool:
        together = [replace(r, timing_ms=None) for r in pool.map(parser.parse, sources * 4)]
    assert together == alone * 4


def test_parse_many_goes_on_after_a_failure(parser: Parser) -> None:
    reports = list(parser.parse_many([noise(70, 70), b"junk", noise(80, 80)]))
    assert [report.status for report in reports] == ["ok", "error", "ok"]
    assert reports[1].error is not None
    assert reports[1].error.kind == "not_an_image"
    with pytest.raises(ImageError):
        parser.parse(b"junk")


def test_fingerprint(parser: Parser) -> None:
    fingerprint = parser.fingerprint(noise(300, 300))
    assert fingerprint.shape == (8, 3, 128, 128)
    assert fingerprint.dtype == np.float32
    assert fingerprint.std() > 0
    fingerprint[:] = 0  # the caller's own: a second run must not notice
    assert parser.fingerprint(noise(300, 300)).std() > 0


def test_more_windows_are_looked_at_where_asked() -> None:
    assert Parser(windows=2).parse(noise(600, 600)).windows == 2
    assert Parser(windows=30).parse(noise(600, 600)).windows == 30
    for count in (0, -1, 65, 10**6):
        with pytest.raises(ValueError, match=f"windows must be between 1 and 64, got {count}"):
            Parser(windows=count)
    with pytest.raises(TypeError):
        Parser(windows=8.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Parser(threads=2.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="threads must be at least 1, got -1"):
        Parser(threads=-1)


def test_what_is_smaller_than_half_a_window_is_refused(parser: Parser) -> None:
    assert parser.parse(noise(64, 64)).windows == 1
    for height, width in ((1, 1), (63, 64), (300, 8)):
        for ask in (parser.parse, parser.inspect, parser.fingerprint, parser.embed):
            with pytest.raises(ImageError, match=f"at least 64 pixels on each side, got {width}x{height}") as told:
                ask(noise(height, width))
            assert told.value.kind == "unsupported"


def test_a_picture_that_is_shrunk_as_a_whole_may_be_small(parser: Parser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parser, "_bundle", replace(parser.bundle, framing="resize"))
    assert parser.parse(noise(1, 1)).windows == 1


def test_too_little_memory_for_a_picture_is_no_reason_to_lose_the_others(
    parser: Parser, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(picture: images.Picture, *others: object) -> windows.Windows:
        if picture.width == 200:
            raise MemoryError
        return kept(picture, *others)  # type: ignore[arg-type]

    kept = windows.cut
    monkeypatch.setattr(windows, "cut", cut)
    first, second = parser.parse_many([noise(100, 200), noise(100, 100)])
    assert (first.status, second.status) == ("error", "ok")
    assert first.error is not None
    assert first.error.kind == "too_large"

    def pixels(_: images.Picture) -> np.ndarray:
        raise MemoryError

    monkeypatch.setattr(images.Picture, "pixels", property(pixels))
    with pytest.raises(ImageError, match="more memory than is available") as told:
        parser.inspect(noise(100, 300))
    assert told.value.kind == "too_large"


def test_reports_are_frozen(parser: Parser) -> None:
    report = parser.parse(noise(64, 64))
    with pytest.raises(FrozenInstanceError):
        report.verdict = "camera"  # type: ignore[misc]


def test_unknown_backend() -> None:
    with pytest.raises(BackendError, match="backend must be one of"):
        Parser(backend="abacus")


@pytest.mark.skipif(onnxruntime.available()["cuda"] is None, reason="CUDA is here")
def test_asking_for_a_gpu_where_there_is_none_is_an_error() -> None:
    with pytest.raises(BackendError, match="CUDAExecutionProvider"):
        Parser(backend="cuda")


def test_a_session_that_fell_back_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "available", lambda: {"cpu": None, "cuda": None})
    with pytest.raises(BackendError, match=r"fell back|cannot load"):
        onnxruntime.OnnxRuntimeBackend(open_bundle().model("fp32"), "cuda")


def test_onnx_runtimes_engines_are_kept_apart_by_their_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its key consists of names and graph structure, which a retrained network shares."""
    monkeypatch.setenv(engine_cache.FOLDER_VARIABLE, str(tmp_path))
    monkeypatch.setattr(onnxruntime, "available", lambda: dict.fromkeys(onnxruntime.PROVIDERS))
    given: list[dict[str, str]] = []

    class Library:
        SessionOptions = SimpleNamespace

        @staticmethod
        def InferenceSession(_model: bytes, _options: object, providers: list[tuple[str, dict[str, str]]]) -> None:
            given.append(providers[0][1])
            raise RuntimeError("enough was seen")

    monkeypatch.setattr(onnxruntime, "_library", lambda: Library)
    for name in ("onnxruntime-tensorrt", "onnxruntime-tensorrt-rtx"):
        for model in (b"one", b"other"):
            with pytest.raises(BackendError, match="enough was seen"):
                onnxruntime.OnnxRuntimeBackend(model, name)
            folder = tmp_path / "onnxruntime" / hashlib.sha256(model).hexdigest()
            options = onnxruntime.PROVIDERS[name].folder
            assert {given[-1][option] for option in options} == {str(folder)}
    folder.chmod(0o777)
    with pytest.raises(BackendError, match="programs"):
        onnxruntime.OnnxRuntimeBackend(b"other", "onnxruntime-tensorrt")


def test_no_library_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    assert onnxruntime.version() is None
    with pytest.raises(BackendError, match='pip install "onnxruntime>='):
        select.create("auto", open_bundle())


def test_messages_name_the_dependencies_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    """`edgeparse` on PyPI is another project."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert extras["cpu"] == [onnxruntime.CPU_PACKAGE]
    assert extras["gpu"] == [onnxruntime.GPU_PACKAGE]
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(BackendError) as caught:
        select.create("openvino", open_bundle())
    for said, extra in ((str(caught.value), "openvino"), (LIBRARIES["tensorrt-rtx"].install, "tensorrt-rtx")):
        assert all(f'"{package}"' in said for package in extras[extra])
    for path in Path(onnxruntime.__file__).parent.glob("*.py"):
        assert "edgeparse[" not in path.read_text()


def test_a_library_without_cuda_names_the_one_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    library = SimpleNamespace(get_available_providers=lambda: ["CPUExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "_library", lambda: library)
    for device, words in (
        ("cuda", "pip uninstall -y onnxruntime .*onnxruntime-gpu"),
        ("onnxruntime-tensorrt-rtx", "a build"),
    ):
        with pytest.raises(BackendError, match=f"requested, but .* only CPUExecutionProvider; .*{words}"):
            select.create(device, open_bundle())


def test_broken_model_is_a_backend_error() -> None:
    with pytest.raises(BackendError, match="cannot load"):
        onnxruntime.OnnxRuntimeBackend(b"not onnx")
    backend = onnxruntime.OnnxRuntimeBackend(open_bundle().model("fp32"), threads=1)
    with pytest.raises(BackendError, match="failed on 1 windows"):
        backend.run(np.zeros((1, 64, 64, 3), np.uint8), ["nonsense"])


def test_calibration_is_stable_at_the_ends(parser: Parser) -> None:
    calibration = parser.bundle.calibration
    assert postprocess.calibrated(-1e6, calibration) == pytest.approx(0)
    assert postprocess.calibrated(1e6, calibration) == pytest.approx(1)


def test_look_gives_the_report_and_what_it_rests_on(parser: Parser) -> None:
    picture = noise(300, 400)
    look, report = parser.inspect(picture), parser.parse(picture)
    assert replace(look.report, timing_ms=None) == replace(report, timing_ms=None)
    assert np.array_equal(look.pixels, picture)
    assert len(look.corners) == len(look.scores) == len(look.fingerprint) == report.windows
    assert look.fingerprint.shape[1:] == (3, 128, 128)
    assert np.array_equal(look.fingerprint, parser.fingerprint(picture))
    assert all(0 <= score <= 1 for score in look.scores)
    assert np.linalg.norm(look.embedding) == pytest.approx(1, abs=1e-5)
    assert np.array_equal(parser.embed(picture)[1], look.embedding)


class Said:
    """A backend that returns fixed outputs, per window or the same for all."""

    name = "said"

    def __init__(self, **outputs: list[list[float]]) -> None:
        self.outputs = {name: np.array(values, np.float32) for name, values in outputs.items()}

    def run(self, windows: np.ndarray, outputs: list[str]) -> dict[str, np.ndarray]:
        shown = {"fingerprint": np.zeros((1, 3, 128, 128), np.float32)} | self.outputs
        return {name: np.resize(shown[name], (len(windows), *shown[name].shape[1:])) for name in outputs}


def saying(folder: Path, monkeypatch: pytest.MonkeyPatch, classes: tuple[str, ...] = (), **outputs: Any) -> Parser:
    """Return a parser whose network has only these outputs."""

    def change(fields: dict[str, Any]) -> None:
        fields["outputs"] = list(dict.fromkeys(["fingerprint", *outputs]))
        fields["labels"]["attribution"] = list(classes)

    monkeypatch.setattr("edgeparse.parser.create", lambda *_: Said(**outputs))
    return Parser(edit_manifest(folder, change))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda fields: fields["labels"]["family"].pop(),
            r"family of bundle .* shape \[N, 6\] .* got \[N, 7\]",
        ),
        (lambda fields: fields["labels"]["losses"].pop(), "losses of bundle"),
        (lambda fields: fields["labels"]["continuous"].pop(), "continuous of bundle"),
        (lambda fields: fields["labels"]["discrete"][0]["values"].pop(), "normalization of bundle"),
        (lambda fields: fields.update(window=64), r"windows of bundle .* got \[N, 128, 128, 3\]|fingerprint of bundle"),
        (lambda fields: fields["outputs"].append("age"), "must have age, got only"),
    ],
)
@pytest.mark.parametrize("backend", ["cpu", "openvino"])
def test_labels_that_do_not_fit_the_model_are_reported_on_opening(
    bundle_copy: Path, change: Callable[[dict[str, Any]], object], words: str, backend: str
) -> None:
    with pytest.raises(BundleError, match=words):
        Parser(edit_manifest(bundle_copy, change), backend=backend, variant="fp32")


def test_a_bundle_that_has_nothing_but_fingerprints_answers_with_them(bundle_copy: Path) -> None:
    parser = Parser(edit_manifest(bundle_copy, lambda fields: fields.update(outputs=["fingerprint"])))
    look = parser.inspect(noise(128, 128))
    assert parser.parse(noise(128, 128)).verdict is look.report.verdict is None
    assert np.array_equal(look.fingerprint, parser.fingerprint(noise(128, 128)))


def test_a_gallery_of_another_dimension_is_reported_on_opening(bundle_copy: Path) -> None:
    with (bundle_copy / "gallery.npz").open("wb") as file:
        Gallery(("a",), np.eye(1, 64, dtype=np.float32)).save(file)
    data = (bundle_copy / "gallery.npz").read_bytes()
    entry = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    edit_manifest(bundle_copy, lambda fields: fields["files"].update({"gallery.npz": entry}))
    with pytest.raises(BundleError, match=r"embedding of bundle .* must have the shape \[N, 64\] .* got \[N, 128\]"):
        Parser(bundle_copy)


def test_look_scores_windows_by_the_classes_of_attribution(bundle_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bundle with a calibration and a closed set of generators, and no output `generated`."""
    said = [[9.0, 0.0, 1.0], [0.0, 9.0, 1.0]]
    look = saying(bundle_copy, monkeypatch, ("one", "camera", "two"), attribution=said).inspect(noise(128, 192))
    calibration = open_bundle().calibration
    assert calibration is not None
    assert look.scores == tuple(postprocess.calibrated(value, calibration) for value in (9.0, -8.0))
    assert look.report.probability_generated == pytest.approx(postprocess.calibrated(4.5 - 4.5, calibration))
    assert look.embedding is None


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_is_an_error_and_no_answer(
    bundle_copy: Path, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    parser = saying(bundle_copy, monkeypatch, generated=[[value]], embedding=[[1.0, 0.0]])
    with pytest.raises(BackendError, match=r"said returned NaN or Inf for generated;.*fp32"):
        parser.parse(noise(128, 128))


def test_a_fingerprint_that_is_no_number_is_an_error(bundle_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parser = saying(bundle_copy, monkeypatch, generated=[[0.0]], fingerprint=np.full((1, 3, 128, 128), np.nan).tolist())
    for look in (parser.fingerprint, parser.inspect):
        with pytest.raises(BackendError, match="NaN or Inf for fingerprint"):
            look(noise(128, 128))


def test_a_look_keeps_the_frame_that_it_was_of(parser: Parser) -> None:
    frame = noise(140, 150)
    look = parser.inspect(frame)
    frame[:] = 0
    assert np.array_equal(look.pixels, noise(140, 150))


def test_without_candidates_the_generator_is_still_answered(parser: Parser) -> None:
    picture = SAMPLES / "generated-zoo-autoencoder.jpg"
    usual, none = parser.parse(picture), parser.parse(picture, candidates=0)
    assert usual.generator is not None
    assert none.generator is not None
    assert (none.generator.name, none.generator.score) == (usual.generator.name, usual.generator.score)
    assert none.generator.candidates == ()


def test_warm_up_changes_no_answer(parser: Parser) -> None:
    before = parser.parse(noise(200, 200)).probability_generated
    parser.warm_up()
    assert parser.parse(noise(200, 200)).probability_generated == before
