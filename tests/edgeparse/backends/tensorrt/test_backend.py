"""The TensorRT backend on a simulated GPU: buffers, batches, threads, graphs and errors."""

from __future__ import annotations

import gc
import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorrt_rtx
from cuda.bindings import runtime as real_cuda

from edgeparse.backends.base import TRANSFERS, Timed
from edgeparse.backends.tensorrt import backend, cuda, library
from edgeparse.backends.tensorrt.backend import MAX_SLOTS, TensorRTBackend, buffer_specs, split_batches
from edgeparse.backends.tensorrt.engine_cache import EngineKey, EngineRecord, TensorSpec
from edgeparse.errors import (
    BackendError,
    DeviceMemoryError,
    DriverError,
    EngineDamagedError,
    LibraryMissingError,
    NoDeviceError,
)
from tests import fake_gpu

PLAN = b"plan"


def record(name: str = "tensorrt", batches: tuple[int, int, int] = (1, 2, 4)) -> EngineRecord:
    key = EngineKey("a" * 64, name, "10.3.0", ("sm86",), "Fake GPU", "linux-x86_64", "fp16", batches)
    return EngineRecord(key, hashlib.sha256(PLAN).hexdigest(), len(PLAN), fake_gpu.TENSORS, "default-1", 1.0)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """`cuda` and `engine` of the simulated GPU; every plan deserialises to this engine."""
    fake = fake_gpu.Cuda()
    engine = fake_gpu.Engine(fake, tensorrt_rtx, 4)
    logger = SimpleNamespace(errors=[])
    state = SimpleNamespace(cuda=fake, engine=engine, logger=logger, loads=True, dla=None)

    class Runtime:
        DLA_core = -1

        def __init__(self, _logger: object) -> None: ...

        def deserialize_cuda_engine(self, plan: bytes) -> Any:
            assert plan == PLAN
            state.dla = self.DLA_core
            return engine if state.loads else None

    trt = SimpleNamespace(
        Runtime=Runtime,
        TensorIOMode=tensorrt_rtx.TensorIOMode,
        DataType=tensorrt_rtx.DataType,
        CudaGraphStrategy=tensorrt_rtx.CudaGraphStrategy,
        ExecutionContextAllocationStrategy=tensorrt_rtx.ExecutionContextAllocationStrategy,
    )
    monkeypatch.setattr(cuda, "runtime", lambda: fake)
    monkeypatch.setattr(library, "import_library", lambda _library: trt)
    monkeypatch.setattr(library, "get_logger", lambda _library: logger)
    yield state
    gc.collect()
    assert fake.blocks == {}, "device memory was not freed"
    assert fake.streams == 0, "a stream was not destroyed"


def windows(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 4, 4, 3), np.uint8)


def right(given: np.ndarray, got: dict[str, np.ndarray]) -> None:
    assert set(got) == {"generated", "fingerprint"}
    np.testing.assert_array_equal(got["generated"][:, 0], given.sum((1, 2, 3)))
    np.testing.assert_array_equal(got["fingerprint"], given.transpose(0, 3, 1, 2))
    assert {value.dtype for value in got.values()} == {np.dtype(np.float32)}


BOTH = ["fingerprint", "generated"]


def test_the_gpu_that_is_none_has_only_what_the_real_libraries_have() -> None:
    for fake, real in (
        (fake_gpu.Cuda, real_cuda),
        (fake_gpu.Engine, tensorrt_rtx.ICudaEngine),
        (fake_gpu.Context, tensorrt_rtx.IExecutionContext),
        (SimpleNamespace(DLA_core=0), tensorrt_rtx.Runtime),
        (fake_gpu.RuntimeConfig, tensorrt_rtx.IRuntimeConfig),
        (fake_gpu.RuntimeCache, tensorrt_rtx.IRuntimeCache),
    ):
        own = {"compute"}
        for name in vars(fake):
            if not name.startswith("_") and name not in own:
                assert hasattr(real, name), f"{real} has no {name}"


@pytest.mark.parametrize("name", ["tensorrt", "tensorrt-rtx"])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 11])
def test_batches_of_every_size(gpu: SimpleNamespace, name: str, count: int) -> None:
    backend = TensorRTBackend(record(name), PLAN)
    assert backend.name == name
    assert backend.shapes == {"windows": (4, 4, 3), "generated": (1,), "fingerprint": (3, 4, 4)}
    for seed in range(3):
        given = windows(count, seed)
        right(given, backend.run(given, BOTH))
    assert set(backend.run(given, ["generated"])) == {"generated"}
    assert max(gpu.engine.computed) <= 4


def test_an_engine_of_one_batch_size_is_filled_up(gpu: SimpleNamespace) -> None:
    backend = TensorRTBackend(record(batches=(4, 4, 4)), PLAN)
    for count in (1, 3, 4, 6):
        given = windows(count)
        right(given, backend.run(given, BOTH))
    assert set(gpu.engine.computed) == {4}


def test_results_are_the_callers_own(gpu: SimpleNamespace) -> None:
    backend = TensorRTBackend(record(), PLAN)
    first = backend.run(windows(2), BOTH)
    kept = {name: value.copy() for name, value in first.items()}
    backend.run(windows(2, seed=1), BOTH)
    for name, value in first.items():
        np.testing.assert_array_equal(value, kept[name])
        value[:] = 0  # writable, too


def test_many_threads_share_a_few_contexts(gpu: SimpleNamespace) -> None:
    backend = TensorRTBackend(record(), PLAN)
    given = [windows(1 + seed % 7, seed) for seed in range(200)]
    with ThreadPoolExecutor(8) as pool:
        for each, got in zip(given, pool.map(lambda w: backend.run(w, BOTH), given), strict=True):
            right(each, got)
    # Of each lane, one for each of the three recorded sizes and one for the others.
    assert 1 <= gpu.engine.contexts <= MAX_SLOTS * 4


def test_memory_is_allocated_once(gpu: SimpleNamespace) -> None:
    backend = TensorRTBackend(record(), PLAN)
    before = set(gpu.cuda.blocks)
    for seed in range(500):
        backend.run(windows(1 + seed % 6, seed), BOTH)
    assert set(gpu.cuda.blocks) == before
    # Of each tensor one on the device and one on the host; and one that all contexts compute in.
    assert len(before) == 2 * len(fake_gpu.TENSORS) + 1
    assert gpu.engine.contexts == 4


def test_graphs_are_captured_for_the_engines_own_batch_sizes(gpu: SimpleNamespace) -> None:
    backend = TensorRTBackend(record(), PLAN)
    for count in (1, 2, 3, 4):
        for seed in range(3):
            given = windows(count, seed)
            right(given, backend.run(given, BOTH))
    launched = gpu.cuda.launched
    backend.run(windows(3), BOTH)
    assert gpu.cuda.launched == launched
    backend.run(windows(4), BOTH)
    assert gpu.cuda.launched == launched + 1


def test_a_recorded_size_keeps_its_context(gpu: SimpleNamespace) -> None:
    """TensorRT invalidates a graph when its context gets another shape; the simulated GPU then refuses to launch it."""
    backend = TensorRTBackend(record(), PLAN)
    for seed, count in enumerate((1, 4, 3, 1, 2, 3, 4, 1, 7)):
        given = windows(count, seed)
        right(given, backend.run(given, BOTH))
    assert gpu.cuda.launched > 3


def test_a_graph_that_does_nothing_is_not_used(gpu: SimpleNamespace, caplog: pytest.LogCaptureFixture) -> None:
    gpu.cuda.forgets = True
    backend = TensorRTBackend(record(), PLAN)
    assert "returned other values" in caplog.text
    launched = gpu.cuda.launched
    right(windows(1), backend.run(windows(1), BOTH))
    assert gpu.cuda.launched == launched


def test_without_memory_for_a_graphs_context_runs_go_on(gpu: SimpleNamespace, caplog: pytest.LogCaptureFixture) -> None:
    gpu.engine.most_contexts = 1
    backend = TensorRTBackend(record(), PLAN)
    for count in (1, 4, 1):
        right(windows(count), backend.run(windows(count), BOTH))
    assert gpu.cuda.launched == 0
    assert "no CUDA graph for 4 windows" in caplog.text


def test_a_timed_run_tells_its_stages_and_computes_the_same(gpu: SimpleNamespace) -> None:
    backend = TensorRTBackend(record(), PLAN)
    assert isinstance(backend, Timed)
    for count in (1, 4, 11):
        given = windows(count)
        made, spent = backend.timed(given, BOTH)
        right(given, made)
        assert tuple(spent) == TRANSFERS
        assert all(milliseconds > 0 for milliseconds in spent.values())


def test_graphs_can_be_left_out(gpu: SimpleNamespace) -> None:
    backend = TensorRTBackend(record(), PLAN, graphs=False)
    for _ in range(3):
        backend.run(windows(1), BOTH)
    assert gpu.cuda.launched == 0


@pytest.mark.parametrize("call", ["cudaStreamBeginCapture", "cudaStreamEndCapture", "cudaGraphInstantiate"])
def test_what_cannot_be_captured_runs_without(
    gpu: SimpleNamespace, caplog: pytest.LogCaptureFixture, call: str
) -> None:
    gpu.cuda.fails[call] = real_cuda.cudaError_t.cudaErrorStreamCaptureUnsupported
    backend = TensorRTBackend(record(), PLAN)
    for seed in range(3):
        gpu.cuda.recording = None
        given = windows(1, seed)
        right(given, backend.run(given, BOTH))
    assert gpu.cuda.launched == 0
    assert caplog.text.count("no CUDA graph for 1 windows") == 1


def test_a_graph_that_computes_something_else_is_not_used(
    gpu: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    gpu.engine.drifts = 1.0
    backend = TensorRTBackend(record(), PLAN)
    assert "returned other values" in caplog.text
    launched = gpu.cuda.launched
    backend.run(windows(1), BOTH)
    assert gpu.cuda.launched == launched


def test_the_kernels_of_tensorrt_for_rtx_are_kept(gpu: SimpleNamespace, tmp_path: Path) -> None:
    cache = tmp_path / "engine.runtime"
    TensorRTBackend(record("tensorrt-rtx"), PLAN, cache)
    assert cache.read_bytes() == b"kernels"
    cache.write_bytes(b"kernels of yesterday")
    TensorRTBackend(record("tensorrt-rtx"), PLAN, cache)
    assert cache.read_bytes() == b"kernels of yesterday"
    cache.write_bytes(b"of another GPU")
    TensorRTBackend(record("tensorrt-rtx"), PLAN, cache)
    assert cache.read_bytes() == b"kernels"
    (tmp_path / "file").write_bytes(b"")
    TensorRTBackend(record("tensorrt-rtx"), PLAN, tmp_path / "file" / "engine.runtime")
    TensorRTBackend(record("tensorrt"), PLAN, tmp_path / "none.runtime")
    assert not (tmp_path / "none.runtime").exists()


@pytest.mark.skipif(os.name != "posix", reason="owners and permissions are POSIX's")
@pytest.mark.parametrize("closed", ["file", "folder"])
def test_kernels_that_others_may_have_written_are_not_read(gpu: SimpleNamespace, tmp_path: Path, closed: str) -> None:
    cache = tmp_path / "engine.runtime"
    cache.write_bytes(b"kernels of a stranger")
    (cache if closed == "file" else tmp_path).chmod(0o777)
    TensorRTBackend(record("tensorrt-rtx"), PLAN, cache)
    assert cache.read_bytes() == b"kernels"


def test_kernels_that_cannot_be_read_cost_only_their_time(gpu: SimpleNamespace, tmp_path: Path) -> None:
    (tmp_path / "engine.runtime").mkdir()
    TensorRTBackend(record("tensorrt-rtx"), PLAN, tmp_path / "engine.runtime")


def test_every_thread_runs_on_the_gpu_that_the_engine_was_loaded_on(gpu: SimpleNamespace) -> None:
    gpu.cuda.cudaSetDevice(1)
    backend = TensorRTBackend(record(), PLAN)

    def work(seed: int) -> int:
        right(windows(3, seed), backend.run(windows(3, seed), BOTH))
        return gpu.cuda.cudaGetDevice()[1]

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(work, range(20))) == {0}, "a caller's own GPU was changed"
    assert gpu.engine.devices == {1}


def test_an_engine_for_a_dla_core_is_loaded_on_it(gpu: SimpleNamespace) -> None:
    made = record(batches=(4, 4, 4))
    TensorRTBackend(made, PLAN)
    assert gpu.dla == -1
    TensorRTBackend(replace(made, key=replace(made.key, dla=1)), PLAN)
    assert gpu.dla == 1


def test_an_engine_that_tensorrt_cannot_read(gpu: SimpleNamespace) -> None:
    gpu.loads = False
    gpu.logger.errors = []
    with pytest.raises(EngineDamagedError, match="no reason given; delete it and compile it again"):
        TensorRTBackend(record(), PLAN)


def test_an_engine_with_other_tensors_than_its_record(gpu: SimpleNamespace) -> None:
    with pytest.raises(EngineDamagedError, match=r"inputs and outputs of .* differ"):
        TensorRTBackend(replace(record(), tensors=fake_gpu.TENSORS[:2]), PLAN)


@pytest.mark.parametrize("call", ["cudaMalloc", "cudaMallocHost"])
def test_too_little_memory_for_buffers(gpu: SimpleNamespace, call: str) -> None:
    gpu.cuda.fails[call] = real_cuda.cudaError_t.cudaErrorMemoryAllocation
    with pytest.raises(DeviceMemoryError, match="smaller batches"):
        TensorRTBackend(record(), PLAN)


def test_too_little_memory_for_a_context(gpu: SimpleNamespace) -> None:
    gpu.engine.most_contexts = 0
    with pytest.raises(DeviceMemoryError, match="needs 1 MiB of GPU memory, but only 1024 MiB are free"):
        TensorRTBackend(record(), PLAN)


def test_threads_wait_where_memory_is_enough_for_one(gpu: SimpleNamespace, caplog: pytest.LogCaptureFixture) -> None:
    gpu.engine.most_contexts = 1
    backend = TensorRTBackend(record(), PLAN)
    given = [windows(3, seed) for seed in range(60)]
    with ThreadPoolExecutor(8) as pool:
        for each, got in zip(given, pool.map(lambda w: backend.run(w, BOTH), given), strict=True):
            right(each, got)


def test_a_run_that_fails_is_an_error_and_the_next_is_not(gpu: SimpleNamespace) -> None:
    backend = TensorRTBackend(record(), PLAN, graphs=False)
    gpu.engine.fails = True
    with pytest.raises(BackendError, match="could not run the engine"):
        backend.run(windows(2), BOTH)
    gpu.engine.fails = False
    gpu.cuda.fails["cudaStreamSynchronize"] = real_cuda.cudaError_t.cudaErrorIllegalAddress
    with pytest.raises(BackendError, match="cudaErrorIllegalAddress"):
        backend.run(windows(2), BOTH)
    gpu.cuda.fails.clear()
    right(windows(2), backend.run(windows(2), BOTH))


@pytest.mark.parametrize(
    ("given", "outputs", "words"),
    [
        (windows(1)[:, :3], BOTH, r"must be uint8\[N, 4, 4, 3\], got uint8\[1, 3, 4, 3\]"),
        (windows(1).astype(np.float32), BOTH, "got float32"),
        (windows(0), BOTH, r"got uint8\[0,"),
        (windows(1), ["family"], "no output family"),
        (windows(1), ["windows"], "no output windows"),
    ],
)
def test_what_does_not_fit_never_reaches_the_gpu(
    gpu: SimpleNamespace, given: np.ndarray, outputs: list[str], words: str
) -> None:
    backend = TensorRTBackend(record(), PLAN)
    computed = len(gpu.engine.computed)
    with pytest.raises(BackendError, match=words):
        backend.run(given, outputs)
    assert len(gpu.engine.computed) == computed


@pytest.mark.parametrize(
    "tensor",
    [
        TensorSpec("x", False, "float", (4, 1)),
        TensorSpec("x", False, "float", (-1, -1)),
        TensorSpec("x", False, "float", ()),
        TensorSpec("x", False, "bool", (-1, 1)),
    ],
)
def test_tensors_that_no_buffer_is_planned_for(tensor: TensorSpec) -> None:
    with pytest.raises(BackendError, match="tensor x must have"):
        buffer_specs([tensor], 4)


def test_split() -> None:
    assert [len(part) for part in split_batches(windows(9), 1, 4)] == [4, 4, 1]
    assert [len(part) for part in split_batches(windows(9), 4, 4)] == [4, 4, 4]
    np.testing.assert_array_equal(split_batches(windows(1), 3, 4)[0][2], windows(1)[0])


def test_the_gpu_and_why_there_is_none(gpu: SimpleNamespace) -> None:
    assert cuda.gpu() == cuda.Gpu("Fake GPU", "sm86", 2**33)
    assert cuda.free_memory() == 2**30
    errors = real_cuda.cudaError_t
    for status, kind, words in (
        (errors.cudaErrorNoDevice, NoDeviceError, "nvidia-smi"),
        (errors.cudaErrorInsufficientDriver, DriverError, r"must support CUDA 13\.1, got 12\.2; update the driver"),
        (errors.cudaErrorUnknown, BackendError, "cudaErrorUnknown"),
    ):
        gpu.cuda.fails["cudaGetDeviceCount"] = status
        with pytest.raises(kind, match=words):
            cuda.gpu()


def test_no_driver_at_all(gpu: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu.cuda.fails["cudaGetDeviceCount"] = real_cuda.cudaError_t.cudaErrorInsufficientDriver
    monkeypatch.setattr(gpu.cuda, "cudaDriverGetVersion", lambda: (fake_gpu.OK, 0))
    with pytest.raises(NoDeviceError, match="no NVIDIA driver"):
        cuda.gpu()


def test_no_bindings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "cuda.bindings", None)
    with pytest.raises(LibraryMissingError, match="cuda-python"):
        cuda.runtime()


def test_the_number_of_slots_is_small() -> None:
    assert 1 <= backend.MAX_SLOTS <= 8
