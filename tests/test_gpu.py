"""What only a GPU can show. Skipped where CUDA finds none (see conftest), and for a library that is not installed or knows not this GPU.

Where these run, keep what they print: python -m pytest -m gpu -v -rs > benchmarks/results/gpu-tests-MACHINE-DATE.txt
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from edgeparse import BackendError, Parser, build
from edgeparse.backends import cuda, flavours, onnxruntime
from edgeparse.backends.onnxruntime import OnnxRuntimeBackend
from edgeparse.backends.plans import FOLDER_VARIABLE, Record, Store
from edgeparse.backends.tensorrt import TensorRTBackend
from edgeparse.bundle import open_bundle
from edgeparse.errors import EngineDamagedError
from engines import verify
from tests.conftest import sample_files, sample_windows

pytestmark = pytest.mark.gpu

OUTPUTS = [name for name in open_bundle().outputs if name != "fingerprint"]
CALLS = 10_000
# Device memory that others on the machine may take or give back meanwhile.
SLACK = 16 * 2**20


@pytest.fixture(params=list(flavours.FLAVOURS))
def flavour(request: pytest.FixtureRequest) -> str:
    chosen = flavours.flavour(request.param)
    try:
        flavours.library(chosen)
    except BackendError as error:
        pytest.skip(str(error))
    if chosen.capabilities and cuda.gpu().capability not in chosen.capabilities:
        pytest.skip(f"{chosen.name} knows no {cuda.gpu().capability}")
    return chosen.name


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    return Store()


def compiled(flavour: str, store: Store, precision: str | None = None) -> Record:
    return build.build(open_bundle(), build.Order(flavour, precision, (1, 8, 16)), store)[0]


def loaded(record: Record, store: Store, graphs: bool = True) -> TensorRTBackend:
    return TensorRTBackend(record, store.read(record), store.runtime_cache(record), graphs)


def reference() -> OnnxRuntimeBackend:
    return OnnxRuntimeBackend(open_bundle().model("fp32"))


def test_onnxruntime_on_the_gpu_answers_as_on_the_cpu() -> None:
    reason = onnxruntime.available()["cuda"]
    if reason is not None:
        pytest.skip(reason)
    backend = OnnxRuntimeBackend(open_bundle().model("fp32"), "cuda")
    differences = verify.compare(backend, reference(), sample_windows(), open_bundle().outputs)
    assert not verify.too_far(differences, "fp32"), differences


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_an_engine_answers_as_onnxruntime(flavour: str, precision: str, store: Store) -> None:
    if precision != "int8" and precision not in open_bundle().variants:
        pytest.skip(f"the bundle has no {precision}")
    if precision == "int8" and "int8-tensorrt" not in open_bundle().variants:
        pytest.skip("the bundle has no int8 for TensorRT")
    backend = loaded(compiled(flavour, store, precision), store)
    differences = verify.compare(backend, reference(), sample_windows(), open_bundle().outputs)
    print(flavour, precision, differences)
    assert not verify.too_far(differences, precision), differences


def test_auto_takes_the_engine_and_reports(flavour: str, store: Store) -> None:
    compiled(flavour, store)
    parser = Parser()
    assert parser.backend in flavours.FLAVOURS
    cpu = Parser(backend="cpu", variant="fp32")
    for path in sample_files():
        assert parser.parse(path).probability_generated == pytest.approx(
            cpu.parse(path).probability_generated, abs=0.02
        )


def test_graphs_compute_the_same(flavour: str, store: Store) -> None:
    record = compiled(flavour, store)
    with_graphs, without = loaded(record, store), loaded(record, store, graphs=False)
    for count in (1, 8, 16, 5):
        given = sample_windows()[:count]
        for _ in range(3):
            got, expected = with_graphs.run(given, OUTPUTS), without.run(given, OUTPUTS)
            for name in OUTPUTS:
                np.testing.assert_allclose(got[name], expected[name], rtol=1e-3, atol=1e-3)


def test_eight_threads_get_the_answers_of_one(flavour: str, store: Store) -> None:
    backend = loaded(compiled(flavour, store), store)
    given = [sample_windows()[i : i + 1 + i % 9] for i in range(16)]
    alone = [backend.run(windows, OUTPUTS) for windows in given]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda windows: backend.run(windows, OUTPUTS), given * 8))
    for i, got in enumerate(together):
        for name in OUTPUTS:
            np.testing.assert_allclose(got[name], alone[i % len(given)][name], rtol=1e-3, atol=1e-3)


def test_device_memory_stays_flat(flavour: str, store: Store) -> None:
    backend = loaded(compiled(flavour, store), store)
    given = sample_windows()
    for count in (1, 8, 16, 3):
        backend.run(given[:count], OUTPUTS)
    before = cuda.free_memory()
    for call in range(CALLS):
        backend.run(given[: (1, 8, 16, 3)[call % 4]], OUTPUTS)
    assert before - cuda.free_memory() < SLACK


def test_a_plan_that_is_none_is_refused(flavour: str, store: Store) -> None:
    record = compiled(flavour, store)
    with pytest.raises(EngineDamagedError):
        TensorRTBackend(record, store.read(record)[:1000])
