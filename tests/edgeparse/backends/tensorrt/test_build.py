"""The real compiler of TensorRT for RTX, which needs no GPU: every precision, every kind of GPU, and rejected models."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

from edgeparse import BackendError, Parser
from edgeparse.backends import select
from edgeparse.backends.tensorrt import backend, build, cuda, library
from edgeparse.backends.tensorrt.build import CompiledEngine, compile_engine
from edgeparse.backends.tensorrt.engine_cache import FOLDER_VARIABLE, EngineCache, EngineKey, parse_batches
from edgeparse.bundle import open_bundle
from edgeparse.cli.main import main
from edgeparse.errors import (
    BundleError,
    EngineDamagedError,
    EngineError,
    EngineUntrustedError,
    LibraryMissingError,
    NoDeviceError,
    UnsupportedModelError,
)
from tests.conftest import noise, sample_files

RTX = library.LIBRARIES["tensorrt-rtx"]
CAPABILITIES = ("sm75", "sm86", "sm89", "sm120")
Report = Callable[[str, CompiledEngine], None]


def key_for(model: bytes, precision: str = "fp32", capabilities: tuple[str, ...] = ("sm86",)) -> EngineKey:
    return EngineKey(
        onnx=hashlib.sha256(model).hexdigest(),
        library="tensorrt-rtx",
        version=library.import_library(RTX).__version__,
        capabilities=capabilities,
        gpu=None,
        system=library.platform_tag(),
        precision=precision,
        batches=(1, 8, 32),
    )


def small_model(operator: str = "Relu", **attributes: object) -> bytes:
    """uint8[N, 4, 4, 3] -> one operator -> float."""
    nodes = [
        helper.make_node("Cast", ["windows"], ["x"], to=TensorProto.FLOAT),
        helper.make_node(operator, ["x"], ["y"], "the_node", **attributes),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("windows", TensorProto.UINT8, ["N", 4, 4, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return model.SerializeToString()


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EngineCache:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "engines"))
    return EngineCache()


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8-tensorrt"])
def test_the_default_bundle_compiles(
    model_files: dict[str, Path], precision: str, capability: str, report_compiled: Report
) -> None:
    model = model_files[precision].read_bytes()
    done = compile_engine(model, key_for(model, precision, (capability,)))
    report_compiled(f"default {precision} {capability}", done)
    assert len(done.plan) > 1_000_000
    (given,) = (tensor for tensor in done.tensors if tensor.input)
    assert (given.name, given.dtype, given.shape) == ("windows", "uint8", (-1, 128, 128, 3))
    assert {tensor.name for tensor in done.tensors if not tensor.input} == set(open_bundle().outputs)
    assert {tensor.dtype for tensor in done.tensors if not tensor.input} == {"float"}


def test_one_plan_serves_several_gpus(model_files: dict[str, Path], report_compiled: Report) -> None:
    model = model_files["fp16"].read_bytes()
    done = compile_engine(model, key_for(model, "fp16", ("sm86", "sm89")))
    report_compiled("default fp16 sm86+sm89", done)
    assert len(done.plan) > 1_000_000


def test_progress_is_told_and_may_stop_it(model_files: dict[str, Path]) -> None:
    model = model_files["fp32"].read_bytes()
    told: list[tuple[str, int, int]] = []
    compile_engine(model, key_for(model), lambda *step: told.append(step))
    assert any("engine" in phase.lower() for phase, _, _ in told)
    assert all(1 <= step <= steps for _, step, steps in told)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compile_engine(model, key_for(model), stop)


@pytest.mark.parametrize("borne", [True, False])
def test_tf32_is_left_out_where_a_model_does_not_bear_it(monkeypatch: pytest.MonkeyPatch, borne: bool) -> None:
    trt = library.import_library(RTX)
    configs = []

    class Builder:
        def __init__(self, logger: object) -> None:
            self.real = trt.Builder(logger)

        def __getattr__(self, name: str) -> object:
            return getattr(self.real, name)

        def create_builder_config(self) -> object:
            configs.append(self.real.create_builder_config())
            return configs[-1]

    shown = SimpleNamespace(**{name: getattr(trt, name) for name in dir(trt)} | {"Builder": Builder})
    monkeypatch.setattr(library, "import_library", lambda _library: shown)
    model = small_model()
    assert compile_engine(model, replace(key_for(model), tf32=borne)).plan
    assert configs[0].get_flag(trt.BuilderFlag.TF32) == borne


def test_an_operator_that_tensorrt_lacks_is_named() -> None:
    model = small_model("Unique", sorted=1)
    with pytest.raises(UnsupportedModelError, match="Unique the_node"):
        compile_engine(model, key_for(model))


def test_what_is_not_onnx_is_refused() -> None:
    with pytest.raises(UnsupportedModelError, match="rejects the model"):
        compile_engine(b"not onnx", key_for(b"not onnx"))


def test_what_the_compiler_refuses_has_its_reason() -> None:
    """FP32 matrix products fail on Turing, which is why `gemm_to_conv` exists."""
    weights = numpy_helper.from_array(np.ones((3, 3), np.float32), "w")
    nodes = [
        helper.make_node("Cast", ["windows"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["x", "w"], ["y"], "product"),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("windows", TensorProto.UINT8, ["N", 4, 4, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4, 4, 3])],
        [weights],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    model = made.SerializeToString()
    assert compile_engine(model, key_for(model)).plan
    with pytest.raises(UnsupportedModelError, match=r"sm75.*GEMM"):
        compile_engine(model, key_for(model, capabilities=("sm75",)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"batches": (0, 1, 1)}, "in ascending order"),
        ({"batches": (1, 9, 8)}, "in ascending order"),
        ({"capabilities": ()}, "at least one compute capability"),
        ({"capabilities": ("sm86", "sm90")}, "got sm90"),
        ({"dla": 0}, "does not support DLA cores"),
        ({"library": "tensorrt"}, "only for the GPU it runs on"),
        ({"library": "tensorrt", "gpu": "Orin", "dla": 0}, "one batch size"),
        ({"library": "tensorrt", "gpu": "Orin", "dla": 0, "batches": (8, 8, 8)}, "fp16 or int8"),
    ],
)
def test_what_cannot_be_is_refused_before_the_library_is_asked(
    monkeypatch: pytest.MonkeyPatch, change: dict[str, object], words: str
) -> None:
    key = replace(key_for(b""), **change)  # type: ignore[arg-type]
    monkeypatch.setattr(library, "import_library", lambda _library: pytest.fail("the library was loaded"))
    with pytest.raises(EngineError, match=words):
        compile_engine(b"", key)


def test_an_unknown_library() -> None:
    with pytest.raises(BackendError, match="library must be one of tensorrt, tensorrt-rtx"):
        library.get_library("openvino")


def test_a_missing_library_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tensorrt", None)
    with pytest.raises(LibraryMissingError, match="JetPack"):
        library.import_library(library.LIBRARIES["tensorrt"])


def test_the_registrys_placeholder_is_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tensorrt", type(os)("tensorrt"))
    with pytest.raises(LibraryMissingError, match="has no Builder"):
        library.import_library(library.LIBRARIES["tensorrt"])


def test_an_old_library_is_refused() -> None:
    with pytest.raises(LibraryMissingError, match=r"must be at least 99\.1"):
        library.import_library(replace(RTX, minimum=(99, 1)))


@pytest.mark.parametrize(("text", "expected"), [("10.3.0.30", (10, 3, 0, 30)), ("11.4.1rc1", (11, 4)), ("x", ())])
def test_version_numbers(text: str, expected: tuple[int, ...]) -> None:
    assert library.parse_version(text) == expected


def test_an_engine_is_compiled_once(store: EngineCache) -> None:
    order = build.BuildConfig("tensorrt-rtx", "fp32", capabilities=("sm86", "sm89"), batches=(1, 2, 4))
    first, compiled = build.build_engine(open_bundle(), order, store)
    again, compiled_again = build.build_engine(open_bundle(), order, store)
    assert (compiled, compiled_again) == (True, False)
    assert first == again
    assert first.key.onnx in build.model_hashes(open_bundle())
    assert store.read(first)
    assert build.has_engine(open_bundle(), "tensorrt-rtx", store)
    assert not build.has_engine(open_bundle(), "tensorrt", store)


def test_a_damaged_engine_is_compiled_anew(store: EngineCache) -> None:
    order = build.BuildConfig("tensorrt-rtx", "fp32", capabilities=("sm86",))
    record, _ = build.build_engine(open_bundle(), order, store)
    (store.folder / record.file).write_bytes(b"x")
    with pytest.raises(EngineDamagedError, match="compile it again"):
        store.read(record)
    again, compiled = build.build_engine(open_bundle(), order, store)
    assert compiled
    assert again.key == record.key
    assert store.read(again)


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
def test_an_engine_that_everybody_may_change_is_not_compiled_over(store: EngineCache) -> None:
    order = build.BuildConfig("tensorrt-rtx", "fp32", capabilities=("sm86",), batches=(1, 1, 1))
    record, _ = build.build_engine(open_bundle(), order, store)
    (store.folder / record.file).chmod(0o666)
    with pytest.raises(EngineUntrustedError, match="chmod o-w"):
        build.build_engine(open_bundle(), order, store)


def test_a_bundle_without_the_precision_says_what_it_has(store: EngineCache) -> None:
    with pytest.raises(BundleError, match="no int4 model for TensorRT; choose from fp32"):
        build.build_engine(open_bundle(), build.BuildConfig("tensorrt-rtx", "int4", capabilities=("sm86",)), store)


@pytest.mark.parametrize("text", ["", "a", "9" * 5000, "0", "2,1,3", "1,2", "1,2,3,4"])
def test_batches_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="batch sizes must be"):
        parse_batches(text)


def test_batches() -> None:
    assert parse_batches("4") == (4, 4, 4)
    assert parse_batches("1,8,32") == (1, 8, 32)


def run(*arguments: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    return done.exit_code, done.stdout, done.stderr


def test_build_on_the_command_line(store: EngineCache) -> None:
    command = ("build", "--backend", "tensorrt-rtx", "--precision", "fp32", "--compute-capability", "sm86,sm120")
    status, out, err = run(*command, "--batch", "1,4,8")
    assert status == 0, err
    assert Path(out.strip()).parent == store.folder
    assert Path(out.strip()).exists()
    assert "compiled in" in err
    status, again, err = run(*command, "--batch", "1,4,8")
    assert (status, again) == (0, out)
    assert "already in the cache" in err


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--batch", "8,1"], 2, "batch sizes must be"),
        (["--precision", "fp8"], 2, "fp8"),
        (["--backend", "cpu"], 2, "tensorrt"),
        (["--backend", "tensorrt-rtx", "--compute-capability", "sm90"], 3, "got sm90"),
        (["--backend", "tensorrt", "--compute-capability", "sm86"], 3, "do not pass a compute capability"),
        (["--backend", "tensorrt-rtx", "--compute-capability", "sm86", "--dla", "0"], 3, "does not support DLA cores"),
        (["--bundle", "nowhere"], 3, "bundle.json"),
    ],
)
def test_build_says_what_is_wrong(store: EngineCache, arguments: list[str], status: int, words: str) -> None:
    got, out, err = run("build", *arguments)
    assert got == status, err
    assert words in err
    assert out == ""
    assert not store.records()


def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def gpu() -> None:
        raise NoDeviceError("this machine has no NVIDIA driver on this machine")

    monkeypatch.setattr(cuda, "gpu", gpu)


def test_auto_passes_over_engines_and_says_how_to_compile_one(
    store: EngineCache, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _no_gpu(monkeypatch)
    monkeypatch.setattr(build, "build_engine", lambda *_: pytest.fail("auto compiled something"))
    caplog.set_level("INFO", "edgeparse")
    assert Parser().backend == "onnxruntime-cpu"
    assert "run `edgeparse build --backend tensorrt-rtx`" in caplog.text
    assert not store.records()


def test_a_folder_of_engines_that_cannot_be_read_stops_only_engines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / ("x" * 300)))
    assert Parser().backend == "onnxruntime-cpu"
    status, out, _ = run("doctor")
    assert status == 0
    assert "--  engines: " in out


def test_auto_with_an_engine_but_no_gpu(
    store: EngineCache, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    build.build_engine(open_bundle(), build.BuildConfig("tensorrt-rtx", "fp32", capabilities=("sm86",)), store)
    _no_gpu(monkeypatch)
    caplog.set_level("INFO", "edgeparse")
    parser = Parser()
    assert parser.backend == "onnxruntime-cpu"
    assert "auto skips tensorrt-rtx: this machine has no NVIDIA driver" in caplog.text
    assert parser.parse(noise(130, 130)).status == "ok"


@pytest.mark.parametrize("name", ["tensorrt-rtx", "onnxruntime-tensorrt", "onnxruntime-tensorrt-rtx"])
def test_a_gpu_backend_that_was_asked_for_does_not_fall_back(
    store: EngineCache, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    _no_gpu(monkeypatch)
    status, out, err = run("check", "--backend", name, sample_files()[0])
    assert status == 3
    assert out == ""
    assert "NVIDIA driver" in err or "ExecutionProvider" in err


def test_another_gpu_is_told_what_the_engines_are_for(store: EngineCache, monkeypatch: pytest.MonkeyPatch) -> None:
    build.build_engine(open_bundle(), build.BuildConfig("tensorrt-rtx", "fp32", capabilities=("sm86",)), store)
    monkeypatch.setattr(cuda, "gpu", lambda: cuda.Gpu("A GPU", "sm120", 2**33))
    with pytest.raises(EngineError, match="compiled for sm86, but this GPU is sm120"):
        backend.load_engine(open_bundle(), "tensorrt-rtx", store)
    (finding,) = (f for f in select.survey_backends(open_bundle()) if f.name == "tensorrt-rtx")
    assert not finding.usable
    assert finding.reason is not None
    assert "this GPU is sm120" in finding.reason


def test_doctor_explains(store: EngineCache, monkeypatch: pytest.MonkeyPatch) -> None:
    _no_gpu(monkeypatch)
    build.build_engine(open_bundle(), build.BuildConfig("tensorrt-rtx", "fp32", capabilities=("sm86",)), store)
    status, out, _ = run("doctor")
    assert status == 0
    assert "--  gpu: this machine has no NVIDIA driver" in out
    assert f"ok  tensorrt-rtx: {library.import_library(RTX).__version__}" in out
    assert "ok  tensorrt-rtx parser: accepts the whole" in out
    assert f"engines: 1 in {store.folder}" in out
    assert "--  backend tensorrt-rtx: this machine has no NVIDIA driver" in out


def test_doctor_finds_a_model_that_tensorrt_refuses(
    store: EngineCache, monkeypatch: pytest.MonkeyPatch, bundle_copy: Path
) -> None:
    refused = small_model("Unique", sorted=1)
    monkeypatch.setattr(type(open_bundle()), "model", lambda *_: refused)
    status, out, _ = run("doctor", "--bundle", bundle_copy)
    assert status == 0  # ONNX Runtime on the CPU takes it
    assert "--  tensorrt-rtx parser: the ONNX parser of tensorrt-rtx rejects the model: Unique the_node" in out


def test_every_tensor_of_the_network_is_planned_for(model_files: dict[str, Path]) -> None:
    from edgeparse.backends.tensorrt.backend import buffer_specs

    logger = library.get_logger(RTX)
    network, _parser = build.parse_onnx(
        model_files["fp32"].read_bytes(), RTX, library.import_library(RTX).Builder(logger)
    )
    planned = buffer_specs(build.tensor_specs(network), 32)
    assert planned["windows"].nbytes == 32 * 128 * 128 * 3
    assert planned["fingerprint"].nbytes == 32 * 128 * 128 * 3 * 4
    assert set(planned) == {"windows", *open_bundle().outputs}
