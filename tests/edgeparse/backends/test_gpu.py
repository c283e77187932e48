"""What only a GPU can show. Skipped where CUDA finds none (see conftest), and for a library that is not installed or knows not this GPU.

First CUDA itself and ONNX Runtime's CUDA provider, which any NVIDIA GPU runs; then engines of TensorRT.

Where these run, keep what they print: python -m pytest -m gpu -v -rs > benchmarks/results/gpu-tests-MACHINE-DATE.txt
"""

from __future__ import annotations

import gc
import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from edgeparse import BackendError, Parser
from edgeparse.backends import onnxruntime
from edgeparse.backends.base import Backend
from edgeparse.backends.onnxruntime import OnnxRuntimeBackend
from edgeparse.backends.select import provider_settings
from edgeparse.backends.tensorrt import build, cuda, library
from edgeparse.backends.tensorrt.backend import TensorRTBackend
from edgeparse.backends.tensorrt.engine_cache import FOLDER_VARIABLE, EngineCache, EngineRecord
from edgeparse.bundle import open_bundle
from edgeparse.cli.main import main
from edgeparse.errors import EngineDamagedError
from engines import verify
from tests.conftest import sample_files, sample_windows

pytestmark = pytest.mark.gpu

OUTPUTS = [name for name in open_bundle().outputs if name != "fingerprint"]
CALLS = 10_000
# Device memory that others on the machine may take or give back meanwhile.
SLACK = 16 * 2**20


@pytest.fixture(params=list(library.LIBRARIES))
def name(request: pytest.FixtureRequest) -> str:
    chosen = library.get_library(request.param)
    try:
        library.import_library(chosen)
    except BackendError as error:
        pytest.skip(str(error))
    if chosen.capabilities and cuda.gpu().capability not in chosen.capabilities:
        pytest.skip(f"{chosen.name} knows no {cuda.gpu().capability}")
    return chosen.name


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EngineCache:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    return EngineCache()


def compiled(name: str, store: EngineCache, precision: str | None = None) -> EngineRecord:
    return build.build_engine(open_bundle(), build.BuildConfig(name, precision, (1, 8, 16)), store)[0]


def loaded(record: EngineRecord, store: EngineCache, graphs: bool = True) -> TensorRTBackend:
    return TensorRTBackend(record, store.read(record), store.runtime_cache(record), graphs)


def reference() -> OnnxRuntimeBackend:
    return OnnxRuntimeBackend(open_bundle().model("fp32"))


def test_the_gpu_is_named() -> None:
    found = cuda.gpu()
    assert found.name
    assert re.fullmatch(r"sm\d+", found.capability)
    assert 0 < cuda.free_memory() <= found.memory


def test_what_is_uploaded_comes_back() -> None:
    stream, buffer = cuda.Stream(), cuda.Buffer((16, 3, 5), np.float32)
    values = np.random.default_rng(0).normal(size=(7, 3, 5)).astype(np.float32)
    buffer.upload(values, stream)
    stream.wait()
    buffer.host[:] = 0
    got = buffer.download(7, stream)
    stream.wait()
    np.testing.assert_array_equal(got, values)


def test_what_is_spoilt_holds_no_number() -> None:
    stream, buffer = cuda.Stream(), cuda.Buffer((16, 5), np.float32)
    buffer.upload(np.zeros((16, 5), np.float32), stream)
    stream.wait()
    buffer.poison(stream)
    got = buffer.download(16, stream)
    stream.wait()
    assert np.isnan(got).all()


def copied_by_graph(count: int = 8) -> tuple[cuda.Stream, cuda.Buffer, object]:
    """A recording that copies a buffer's memory on the host to the device and back."""
    stream, buffer = cuda.Stream(), cuda.Buffer((count, 1000), np.float32)
    stream.begin_capture()
    buffer.upload(np.zeros((count, 1000), np.float32), stream)
    buffer.download(count, stream)
    return stream, buffer, stream.end_capture()


def test_a_graph_replays_on_new_values() -> None:
    stream, buffer, graph = copied_by_graph()
    for seed in range(3):
        values = np.random.default_rng(seed).normal(size=(8, 1000)).astype(np.float32)
        buffer.host[:] = values
        stream.launch(graph)
        stream.wait()
        np.testing.assert_array_equal(buffer.host, values)
        # It was on the device too, not only in the same host memory.
        buffer.host[:] = 0
        got = buffer.download(8, stream)
        stream.wait()
        np.testing.assert_array_equal(got, values)


def test_dropped_buffers_are_given_back() -> None:
    cuda.Buffer((1,), np.uint8)
    gc.collect()
    before = cuda.free_memory()
    size = 256 * 2**20
    buffer = cuda.Buffer((size,), np.uint8)
    assert before - cuda.free_memory() >= size - SLACK
    del buffer
    gc.collect()
    assert before - cuda.free_memory() < SLACK


def test_eight_threads_have_streams_of_their_own() -> None:
    def work(seed: int) -> None:
        stream, buffer = cuda.Stream(), cuda.Buffer((64, 4096), np.int32)
        draw = np.random.default_rng(seed)
        for _ in range(50):
            values = draw.integers(0, 2**31 - 1, (64, 4096), np.int32)
            buffer.upload(values, stream)
            got = buffer.download(64, stream)
            stream.wait()
            np.testing.assert_array_equal(got, values)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))


def test_threads_record_beside_each_other() -> None:
    def work(seed: int) -> None:
        stream, buffer, graph = copied_by_graph()
        for number in range(20):
            buffer.host[:] = seed * 100 + number
            stream.launch(graph)
            stream.wait()
            assert (buffer.host == seed * 100 + number).all()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))


@pytest.fixture
def on_cuda() -> None:
    """Only where ONNX Runtime was built for CUDA."""
    if (reason := onnxruntime.available()["cuda"]) is not None:
        pytest.skip(reason)


@pytest.fixture(params=[True, False], ids=["graphs", "plain"])
def graphs(request: pytest.FixtureRequest, on_cuda: None) -> bool:
    return bool(request.param)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_onnxruntime_on_the_gpu_answers_as_on_the_cpu(precision: str, graphs: bool) -> None:
    settings = provider_settings("cuda", open_bundle(), precision)
    backend = OnnxRuntimeBackend(open_bundle().model(precision), "cuda", graphs=graphs, settings=settings)
    differences = verify.compare(backend, reference(), sample_windows(), open_bundle().outputs)
    print(precision, differences)
    assert not verify.exceeding_tolerance(differences, precision), differences
    # Otherwise this compares nothing of the graphs.
    assert backend.recorded(len(sample_windows())) == graphs


def assert_near(got: np.ndarray, expected: np.ndarray) -> None:
    """What fp16 explains, which adds up in another order for another batch size; answers of other windows are much further away."""
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=0, atol=0.03 * max(1.0, float(np.abs(expected).max())))


def together_and_alone(backend: Backend, times: int) -> list[tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]:
    """What eight threads get at once for sixteen batches of several sizes, each so many times, and what one thread got before."""
    given = [sample_windows()[i : i + 1 + i % 9] for i in range(16)]
    alone = [backend.run(windows, OUTPUTS) for windows in given]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda windows: backend.run(windows, OUTPUTS), given * times))
    return list(zip(together, alone * times, strict=True))


def test_onnxruntimes_graphs_compute_the_same(on_cuda: None) -> None:
    model = open_bundle().model("fp16")
    recorded, plain = (OnnxRuntimeBackend(model, "cuda", graphs=wanted) for wanted in (True, False))
    given = sample_windows()
    given = given[np.arange(300) % len(given)]
    for count in (1, 8, 5, 32, 300, 5, 1):
        for start in (0, 7):
            shown = np.roll(given, start, axis=0)[:count]
            got, expected = recorded.run(shown, OUTPUTS), plain.run(shown, OUTPUTS)
            for name in OUTPUTS:
                assert_near(got[name], expected[name])
    assert [recorded.recorded(count) for count in (1, 8, 32, 256)] == [True] * 4


def test_eight_threads_get_onnxruntimes_answers_of_one(graphs: bool) -> None:
    backend = OnnxRuntimeBackend(open_bundle().model("fp16"), "cuda", graphs=graphs)
    for got, alone in together_and_alone(backend, 2):
        for name in OUTPUTS:
            assert_near(got[name], alone[name])
    assert backend.graphs == graphs


def test_device_memory_stays_flat_with_onnxruntime(on_cuda: None) -> None:
    backend = OnnxRuntimeBackend(open_bundle().model("fp16"), "cuda")
    given = sample_windows()
    counts = (1, 8, 16, 3)
    for count in counts * 2:
        backend.run(given[:count], OUTPUTS)
    before = cuda.free_memory()
    for call in range(CALLS // 5):
        backend.run(given[: counts[call % 4]], OUTPUTS)
    assert before - cuda.free_memory() < SLACK


def test_threads_that_end_take_their_memory_along(on_cuda: None) -> None:
    backend = OnnxRuntimeBackend(open_bundle().model("fp16"), "cuda")
    given = sample_windows()[:8]

    def in_new_threads(count: int) -> None:
        for _ in range(count):
            with ThreadPoolExecutor(1) as pool:
                pool.submit(backend.run, given, OUTPUTS).result()

    in_new_threads(10)
    before = cuda.free_memory()
    in_new_threads(30)
    assert before - cuda.free_memory() < 2 * SLACK


def checked(backend: str) -> list[dict[str, object]]:
    done = CliRunner().invoke(main, ["check", "--json", "--backend", backend, *map(str, sample_files())])
    assert done.exit_code == 0, done.output
    answers: list[dict[str, object]] = json.loads(done.stdout)
    return answers


def test_check_gives_the_verdicts_of_the_cpu(on_cuda: None) -> None:
    for got, expected in zip(checked("cuda"), checked("cpu"), strict=True):
        assert got["source"] == expected["source"]
        assert got["backend"] == "onnxruntime-cuda"
        assert got["verdict"] == expected["verdict"], (got, expected)


def test_doctor_says_that_cuda_runs(on_cuda: None) -> None:
    done = CliRunner().invoke(main, ["doctor"])
    print(done.output)
    assert done.exit_code == 0, done.output
    assert cuda.gpu().name in done.output


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_an_engine_answers_as_onnxruntime(name: str, precision: str, store: EngineCache) -> None:
    if precision != "int8" and precision not in open_bundle().variants:
        pytest.skip(f"the bundle has no {precision}")
    if precision == "int8" and "int8-tensorrt" not in open_bundle().variants:
        pytest.skip("the bundle has no int8 for TensorRT")
    backend = loaded(compiled(name, store, precision), store)
    differences = verify.compare(backend, reference(), sample_windows(), open_bundle().outputs)
    print(name, precision, differences)
    assert not verify.exceeding_tolerance(differences, precision), differences


def test_auto_takes_the_engine_and_reports(name: str, store: EngineCache) -> None:
    compiled(name, store)
    parser = Parser()
    assert parser.backend in library.LIBRARIES
    cpu = Parser(backend="cpu", variant="fp32")
    for path in sample_files():
        assert parser.parse(path).probability_generated == pytest.approx(
            cpu.parse(path).probability_generated, abs=0.02
        )


def test_graphs_compute_the_same(name: str, store: EngineCache) -> None:
    record = compiled(name, store)
    with_graphs, without = loaded(record, store), loaded(record, store, graphs=False)
    for count in (1, 8, 16, 5):
        given = sample_windows()[:count]
        for _ in range(3):
            got, expected = with_graphs.run(given, OUTPUTS), without.run(given, OUTPUTS)
            for name in OUTPUTS:
                np.testing.assert_allclose(got[name], expected[name], rtol=1e-3, atol=1e-3)


def test_eight_threads_get_the_answers_of_one(name: str, store: EngineCache) -> None:
    backend = loaded(compiled(name, store), store)
    for got, alone in together_and_alone(backend, 8):
        for name in OUTPUTS:
            np.testing.assert_allclose(got[name], alone[name], rtol=1e-3, atol=1e-3)


def test_device_memory_stays_flat(name: str, store: EngineCache) -> None:
    backend = loaded(compiled(name, store), store)
    given = sample_windows()
    for count in (1, 8, 16, 3):
        backend.run(given[:count], OUTPUTS)
    before = cuda.free_memory()
    for call in range(CALLS):
        backend.run(given[: (1, 8, 16, 3)[call % 4]], OUTPUTS)
    assert before - cuda.free_memory() < SLACK


def test_a_plan_that_is_none_is_refused(name: str, store: EngineCache) -> None:
    record = compiled(name, store)
    with pytest.raises(EngineDamagedError):
        TensorRTBackend(record, store.read(record)[:1000])
