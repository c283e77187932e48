"""CUDA graphs with a simulated ONNX Runtime: recording, padding and failures."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgeparse import BackendError
from edgeparse.backends import onnxruntime, ort_cuda_graphs, select
from edgeparse.backends.onnxruntime import OnnxRuntimeBackend
from edgeparse.bundle import open_bundle

SIDE = 40
SHAPES = {"generated": ["N", 1], "family": ["N", 7], "fingerprint": ["N", 3, SIDE, SIDE]}
RNG = np.random.default_rng(0)


class Value:
    """An OrtValue whose device is main memory."""

    def __init__(self, shape: Any, dtype: Any) -> None:
        self.memory = np.full(shape, 77, dtype)

    @staticmethod
    def ortvalue_from_shape_and_type(shape: Any, dtype: Any, _device: str, _number: int) -> Value:
        return Value(shape, dtype)

    def update_inplace(self, values: np.ndarray) -> None:
        self.memory[...] = values

    def data_ptr(self) -> int:
        return self.memory.ctypes.data

    def numpy(self) -> np.ndarray:
        return self.memory.copy()


class Binding:
    def __init__(self) -> None:
        self.outputs: dict[str, np.ndarray] = {}

    def bind_ortvalue_input(self, name: str, value: Value) -> None:
        assert name == "windows"
        self.given = value.memory

    def bind_output(self, name: str, _device: str, _number: int, dtype: Any, shape: Any, address: int) -> None:
        array = {"version": 3, "shape": tuple(shape), "typestr": np.dtype(dtype).str, "data": (address, False)}
        self.outputs[name] = np.asarray(SimpleNamespace(__array_interface__=array))

    def bind_ortvalue_output(self, name: str, value: Value) -> None:
        self.outputs[name] = value.memory


class Options:
    number = 0

    def add_run_config_entry(self, key: str, value: str) -> None:
        assert key == "gpu_graph_id"
        self.number = int(value)


def computed(windows: np.ndarray, name: str) -> np.ndarray:
    shape = (len(windows), *SHAPES[name][1:])
    means = windows.reshape(len(windows), -1).mean(1)
    return np.broadcast_to(means.reshape(-1, *[1] * (len(shape) - 1)), shape).astype(np.float32)


class Session:
    """`fails` is the number of a graph that cannot be recorded, `wrong` of one that computes something else, `idle` of one that does
    nothing once it is recorded, `stuck` of one that answers for the windows that it was recorded with."""

    fails = wrong = idle = stuck = None

    def __init__(self, library: Any, settings: dict[str, str]) -> None:
        self.library, self.settings = library, settings
        self.numbers: list[int] = []
        self.recorded: dict[int, np.ndarray] = {}
        self.threads: set[int] = set()

    def get_providers(self) -> list[str]:
        return ["CUDAExecutionProvider"]

    def disable_fallback(self) -> None:
        pass

    def get_inputs(self) -> list[Any]:
        return [SimpleNamespace(name="windows", type="tensor(uint8)", shape=["N", SIDE, SIDE, 3])]

    def get_outputs(self) -> list[Any]:
        return [SimpleNamespace(name=name, type="tensor(float)", shape=shape) for name, shape in SHAPES.items()]

    def io_binding(self) -> Binding:
        return Binding()

    def run(self, names: list[str], given: dict[str, np.ndarray]) -> list[np.ndarray]:
        self.numbers.append(0)
        return [computed(given["windows"], name) for name in names]

    def run_with_iobinding(self, binding: Binding, options: Options) -> None:
        self.numbers.append(options.number)
        self.threads.add(threading.get_ident())
        if options.number == self.fails:
            raise RuntimeError("cudaErrorStreamCaptureUnsupported")
        if options.number == self.idle and options.number in self.recorded:
            return
        first = self.recorded.setdefault(options.number, binding.given.copy())
        given = first if options.number == self.stuck else binding.given
        for name, values in binding.outputs.items():
            values[...] = computed(given, name) + (options.number == self.wrong)


class Library:
    __version__ = "1.31"
    OrtValue, RunOptions, SessionOptions = Value, Options, SimpleNamespace

    def __init__(self) -> None:
        self.sessions: list[Session] = []

    def get_available_providers(self) -> list[str]:
        return ["CUDAExecutionProvider"]

    def preload_dlls(self) -> None:
        print("Failed to load libcudnn.so.9")

    def InferenceSession(self, _model: bytes, _options: Any, providers: list[Any]) -> Session:
        ((_, settings),) = providers
        self.sessions.append(Session(self, settings))
        return self.sessions[-1]


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    made = Library()
    monkeypatch.setattr(onnxruntime, "_library", lambda: made)
    for fault in ("fails", "wrong", "idle", "stuck"):
        monkeypatch.setattr(Session, fault, None)
    return made


def pictures(count: int) -> np.ndarray:
    return RNG.integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)


def check(backend: OnnxRuntimeBackend, count: int, names: tuple[str, ...] = tuple(SHAPES)) -> None:
    given = pictures(count)
    got = backend.run(given, names)
    assert set(got) == set(names)
    for name in names:
        assert got[name].flags.owndata or got[name].base is not None
        np.testing.assert_allclose(got[name], computed(given, name))


def test_batches_are_filled_up_and_split() -> None:
    assert [ort_cuda_graphs.size_for(count) for count in (1, 2, 3, 9, 256, 300)] == [1, 2, 4, 16, 256, 256]
    assert [len(part) for part in ort_cuda_graphs.split(np.zeros((300, 1, 1, 3), np.uint8))] == [256, 44]


def test_answers_are_those_of_the_windows(library: Library, capsys: pytest.CaptureFixture[str]) -> None:
    backend = OnnxRuntimeBackend(b"", "cuda")
    for count in (1, 3, 4, 3, 8, 300, 2):
        check(backend, count)
        check(backend, count, ("family",))
        check(backend, count, ("fingerprint",))
    assert backend.graphs
    (session,) = library.sessions
    assert session.settings["enable_cuda_graph"] == "1"
    # Each size is run once without a graph, to compare with.
    assert session.numbers.count(-1) == len({1, 2, 4, 8, 64, 256})
    assert capsys.readouterr().out == ""


def test_a_call_later_does_not_change_what_was_given(library: Library) -> None:
    backend = OnnxRuntimeBackend(b"", "cuda")
    given = pictures(4)
    kept = backend.run(given, list(SHAPES))
    backend.run(pictures(4), list(SHAPES))
    for name, values in kept.items():
        np.testing.assert_allclose(values, computed(given, name))


def test_what_cannot_be_recorded_runs_plainly(library: Library, caplog: pytest.LogCaptureFixture) -> None:
    Session.fails = 4
    backend = OnnxRuntimeBackend(b"", "cuda", settings={"prefer_nhwc": "1"})
    check(backend, 1)
    check(backend, 3)
    check(backend, 1)
    assert not backend.graphs
    assert "cudaErrorStreamCaptureUnsupported" in caplog.text
    assert [session.settings.get("enable_cuda_graph") for session in library.sessions] == ["1", None]
    assert library.sessions[1].settings["prefer_nhwc"] == "1"


@pytest.mark.parametrize("borne", [True, False])
def test_a_file_that_bears_it_may_use_tf32(library: Library, borne: bool) -> None:
    bundle = replace(open_bundle(), tf32=frozenset(["fp16"] if borne else []))
    for variant in ("fp16", "fp32"):
        select.create("cuda", bundle, variant)
    assert [session.settings["use_tf32"] for session in library.sessions] == ["1" if borne else "0", "0"]


@pytest.mark.parametrize("fault", ["wrong", "idle", "stuck"])
def test_a_graph_that_computes_something_else_is_not_used(
    library: Library, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    setattr(Session, fault, 4)
    backend = OnnxRuntimeBackend(b"", "cuda")
    check(backend, 3)
    check(backend, 4)
    check(backend, 8)
    assert backend.graphs
    assert [backend.recorded(count) for count in (3, 8, 32)] == [False, True, False]
    assert "the CUDA graph for 4 windows returned other values" in caplog.text


def test_without_graphs_on_request(library: Library) -> None:
    backend = OnnxRuntimeBackend(b"", "cuda", graphs=False)
    check(backend, 3)
    assert not backend.graphs
    assert "enable_cuda_graph" not in library.sessions[0].settings


def test_windows_of_another_shape_and_unknown_outputs_are_refused(library: Library) -> None:
    backend = OnnxRuntimeBackend(b"", "cuda")
    for windows in (pictures(2)[:, 1:], pictures(1).astype(np.float32), pictures(1)[:0]):
        with pytest.raises(BackendError, match="windows must be uint8"):
            backend.run(windows, ["family"])
    with pytest.raises(BackendError, match="no output other"):
        backend.run(pictures(1), ["other"])
    assert backend.graphs


def test_many_threads_get_their_own_answers(library: Library) -> None:
    backend = OnnxRuntimeBackend(b"", "cuda")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda count: check(backend, 1 + count % 9), range(100)))


def test_short_lived_threads_record_each_size_once(library: Library) -> None:
    backend = OnnxRuntimeBackend(b"", "cuda")
    for number in range(30):
        thread = threading.Thread(target=check, args=(backend, (3, 8)[number % 2]))
        thread.start()
        thread.join()
    backend.on_device(pictures(8))()
    (session,) = library.sessions
    assert session.numbers.count(-1) == len({1, 4, 8})
    # ONNX Runtime keeps a graph for the thread that recorded it.
    assert len(session.threads) == 1
    assert threading.get_ident() not in session.threads


def test_what_fails_there_reaches_whoever_waits() -> None:
    worker = ort_cuda_graphs.Worker()
    with pytest.raises(ZeroDivisionError):
        worker.call(lambda: 1 // 0)
    assert worker.call(threading.get_ident) != threading.get_ident()


def test_the_thread_ends_with_the_backend(library: Library) -> None:
    before = set(threading.enumerate())
    backend = OnnxRuntimeBackend(b"", "cuda")
    check(backend, 3)
    (thread,) = set(threading.enumerate()) - before
    session = weakref.ref(library.sessions.pop())
    del backend
    assert not thread.is_alive()
    assert session() is None


def in_a_process(code: str) -> list[str]:
    """Return the output of a program that has a worker; it must not hang."""
    begin = "import os, sys, threading\nfrom edgeparse.backends.ort_cuda_graphs import Worker\nworker = Worker()\n"
    command = [sys.executable, "-W", "ignore", "-c", begin + code]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.splitlines()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_is_refused_and_ends() -> None:
    code = """
if os.fork():
    sys.exit(os.wait()[1])
try:
    worker.call(int)
except Exception as error:
    print(error)
"""
    (message,) = in_a_process(code)
    assert "do not survive a fork" in message


def test_threads_that_outlive_the_main_one_are_answered() -> None:
    code = """
def work():
    threading.main_thread().join()
    print(worker.call(lambda: 7))
threading.Thread(target=work).start()
"""
    assert in_a_process(code) == ["7"]


@pytest.mark.parametrize("recorded", [True, False])
def test_what_is_measured_stays_on_the_device(library: Library, recorded: bool) -> None:
    backend = OnnxRuntimeBackend(b"", "cuda", graphs=recorded)
    compute = backend.on_device(pictures(8))
    compute()
    assert library.sessions[0].numbers[-1] == (8 if recorded else -1)
