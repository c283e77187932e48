"""Benchmarks of a GPU, on a fake one: counted work, competitors, and the document."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

from benchmarks import gpu, gpu_runtimes, render, results, roofline, timing
from benchmarks.__main__ import DOCUMENT, main
from benchmarks.competitors import Competitor
from benchmarks.worker import LATE, Worker, WorkerError
from edgeparse.backends.tensorrt import cuda
from edgeparse.bundle import open_bundle
from edgeparse.errors import NoDeviceError

COMPILED = Competitor("edgeparse", "torch.compile-cuda", "bf16")
EAGER = Competitor("edgeparse", "pytorch-cuda", "fp32")


def small() -> onnx.ModelProto:
    """Return a small network: cast, transpose, two 3x3 convolutions with ReLU and a residual, and a 32x5 product."""
    rng = np.random.default_rng(0)
    weights = {"w1": (2, 3, 3, 3), "b1": (2,), "w2": (2, 2, 3, 3), "m": (32, 5)}
    nodes = [
        helper.make_node("Cast", ["windows"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["x"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c2", "r1"], ["a2"]),
        helper.make_node("Relu", ["a2"], ["r2"]),
        helper.make_node("Flatten", ["r2"], ["flat"]),
        helper.make_node("MatMul", ["flat", "m"], ["answers"]),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("windows", TensorProto.UINT8, ["N", 4, 4, 3])],
        [helper.make_tensor_value_info("answers", TensorProto.FLOAT, ["N", 5])],
        [numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name) for name, shape in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])


def test_small_network_matches_a_count_by_hand() -> None:
    work = roofline.count(small())
    assert work.flops == 2 * (2 * 16 * 27 + 2 * 16 * 18 + 32 * 5)
    assert work.weight_bytes == 4 * (54 + 2 + 36 + 160)
    assert work.least_bytes == 48 + 4 * 5
    cast, transpose = 48 + 4 * 48, 2 * 4 * 48
    first, second = 4 * (48 + 32), 4 * (32 + 32 + 32)
    assert work.moved_bytes == cast + transpose + first + second + 4 * (32 + 5)


def test_output_that_is_read_twice_is_not_fused() -> None:
    model = small()
    model.graph.output.append(helper.make_tensor_value_info("c1", TensorProto.FLOAT, ["N", 2, 4, 4]))
    # The convolution's output is wanted itself: the ReLU behind it reads it again.
    assert roofline.count(model).moved_bytes == roofline.count(small()).moved_bytes + 2 * 4 * 32


def test_our_network_is_counted_in_both_precisions() -> None:
    half, full = (roofline.count(onnx.load_from_string(open_bundle().model(name))) for name in ("fp16", "fp32"))
    assert half.flops == full.flops > 0
    assert half.least_bytes == full.least_bytes >= 128 * 128 * 3 * 5
    assert half.weight_bytes < full.weight_bytes
    assert half.moved_bytes < full.moved_bytes


def test_roofline_says_what_binds() -> None:
    work = roofline.Work(flops=1000, weight_bytes=0, least_bytes=1, moved_bytes=100)
    # At 10^12 operations and bytes a second 10^6 windows take 1 ms to compute, and with 100 bytes each 0.1 ms to move.
    found = roofline.against_ceilings(work, 10**6, 4.0, 1.0, 1.0)
    assert found["moved"]["binds"] == "matrix"
    assert found["moved"]["share_of_matrix_peak"] == pytest.approx(0.25)
    assert found["moved"]["share_of_bandwidth"] == pytest.approx(0.025)
    assert found["moved"]["floor_ms"] == pytest.approx(1.0)
    slow = roofline.against_ceilings(work, 10**6, 4.0, 100.0, 1.0)
    assert (slow["least"]["binds"], slow["moved"]["binds"]) == ("matrix", "memory")


class Process:
    """A fake worker: times by competitor, some of which fail."""

    def __init__(self, order: dict[str, Any], _patience: float) -> None:
        self.patience: float | None = None
        self.order, self.turns = order, 0
        if order.get("runtime") == COMPILED.runtime and order["precision"] == COMPILED.precision:
            raise WorkerError("BackendCompilerFailed: no compiler")

    def run(self, _seconds: float, least: int) -> dict[str, list[float]]:
        self.turns += 1
        if self.order["kind"] == "ceilings":
            return {"fp16": [1.5], "bf16": [1.6], "copy": [2.9]}
        if self.order["precision"] == "fp32" and self.order["runtime"] == EAGER.runtime and self.turns == 2:
            raise WorkerError("the process ended with status -11")
        factor = 1.0 if self.order["runtime"] == gpu.REFERENCE.runtime else 3.0
        return {
            f"{what} {size}": [factor * size * 0.01] for size in self.order["batches"] for what in ("device", "host")
        }

    def close(self) -> None:
        pass


@pytest.fixture
def one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "Worker", Process)
    monkeypatch.setattr(gpu.cuda, "gpu", lambda: cuda.Gpu("NVIDIA Made-Up 80GB", "sm90", 80 * 2**30))


def test_competitors_take_turns_and_failures_are_named(one_gpu: None) -> None:
    kept: list[dict[str, Any]] = []
    found = gpu.measure(gpu.matching(()), open_bundle(), rounds=3, keep=lambda now: kept.append(copy.deepcopy(now)))
    assert [(entry["runtime"], entry["error"]) for entry in found["failed"]] == [
        ("torch.compile-cuda", "BackendCompilerFailed: no compiler"),
        ("pytorch-cuda", "the process ended with status -11"),
        ("pytorch-cuda", "the process ended with status -11"),
    ]
    entries = {Competitor(e["network"], e["runtime"], e["precision"]): e for e in found["competitors"]}
    assert len(entries) == len(list(gpu.competitors())) - 1
    assert entries[EAGER]["turns"] == 1
    assert entries[EAGER]["times_reference"]["device 8"] == pytest.approx(3)
    assert entries[gpu.REFERENCE]["windows_per_second"]["256"] == pytest.approx(1e5)
    assert found["ceilings"]["tflops"]["fp16"] == pytest.approx(2 * 8192**3 / 1.5e-3 / 1e12)
    assert found["rounds"] == 3
    # Results are kept from the first turn on.
    assert len(kept[0]["competitors"]) <= 1
    assert len(kept) > len(entries)
    assert json.loads(json.dumps(found)) == found


def test_targets_are_met_or_not(one_gpu: None) -> None:
    found = gpu.measure([gpu.REFERENCE], open_bundle(), rounds=1)
    judged = [(target["limit"], target["unit"], target["met"]) for target in found["targets"]]
    assert judged == [(0.5, "ms", True), (0.6, "share", True), (0.3, "share", False)]
    assert gpu.measure([EAGER], open_bundle(), rounds=1)["targets"] == []


def test_command_stores_results_and_document_shows_them(one_gpu: None, tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["gpu", "--results", str(tmp_path), "--rounds", "2"])
    assert done.exit_code == 0, done.output
    assert "GPU: one window on the device: 0.01 ms, ≤ 0.5 ms: met" in done.output
    stored = results.load(tmp_path / "nvidia-made-up-80gb.json")
    text = render.render_document([stored], open_bundle())
    for figures in (
        "NVIDIA Made-Up 80GB (sm90, 80 GiB)",
        "| GPU: one window, transfers included | ≤ 0.5 ms | 0.01 ms |",
        "| GPU: one window on the device | ≤ 0.5 ms | 0.01 ms |",
        "fewest bytes: share of the matrix peak, which binds | ≥ 30 % | **",
        "Not measured: edgeparse / torch.compile-cuda / bf16",
        "| edgeparse | onnxruntime-cuda graphs | fp16 | 0.01 |",
    ):
        assert figures in text, figures


def test_document_without_ceilings(one_gpu: None) -> None:
    found = gpu.measure([EAGER], open_bundle(), batches=(1,), rounds=1)
    for name in ("ceilings", "roofline"):
        del found[name]
    found["failed"] = [COMPILED.to_json() | {"error": LATE}, EAGER.to_json() | {"error": LATE}]
    text = "\n".join(render._gpu([{"name": "a-machine", "sections": {"gpu": found}}]))
    assert "| edgeparse | pytorch-cuda | fp32 | 0.03 | 0.03 | 33333 |" in text
    # EAGER failed only after it had been measured.
    assert "Not measured: edgeparse / torch.compile-cuda / bf16 (" in text


def test_document_has_the_measured_gpu() -> None:
    text = DOCUMENT.read_text()
    # These results name no unit.
    for figures in ("| GPU: one window on the device | ≤ 0.5 ms |", "| **0.574 ms** |", "| **23.3 %** |"):
        assert figures in text, figures


def test_without_a_gpu_the_command_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def none() -> None:
        raise NoDeviceError("the driver sees no NVIDIA GPU")

    monkeypatch.setattr(gpu.cuda, "gpu", none)
    done = CliRunner().invoke(main, ["gpu", "--results", str(tmp_path)])
    assert done.exit_code == 1
    assert "there is no GPU to measure: the driver sees no NVIDIA GPU" in done.output
    assert not list(tmp_path.iterdir())


def test_only_matching_competitors() -> None:
    assert gpu.matching(["edgeparse / pytorch-cuda / fp32"]) == [EAGER]
    assert gpu.REFERENCE in gpu.matching(())
    assert len(set(gpu.matching(()))) == len(gpu.matching(()))
    done = CliRunner().invoke(main, ["gpu", "--only", "nobody"])
    assert done.exit_code != 0


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_pytorch_runs_in_batches(monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
    monkeypatch.setattr(gpu_runtimes, "AWAKE", 0)
    monkeypatch.setattr(timing, "WARM", 0)
    monkeypatch.setattr(timing, "SECONDS", 0)
    run = gpu_runtimes.open_competitor(Competitor("edgeparse", "pytorch-cuda", precision), (1, 2), None, "cpu")
    found = run()
    assert list(found) == ["device 1", "host 1", "device 2", "host 2"]
    assert all(value > 0 for value in found.values())


def test_ceilings_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.gpu_torch import ceilings

    found = ceilings("cpu", side=16, copied=1024)()
    assert set(found) == {"fp16", "bf16", "copy"}


def test_process_without_an_answer_is_killed() -> None:
    with pytest.raises(WorkerError, match=LATE):
        Worker({"kind": "ceilings"}, patience=0.05)
