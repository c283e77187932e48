"""All measurements that the documents show."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from edgeparse.bundle import Bundle, default_folder, open_bundle
from training.evaluate.results import RESULTS, is_measured_on, read_result
from training.evaluate.summary_metrics import zoo_points_lost
from training.evaluate.targets import Evidence, int8_points_lost
from training.report import picture_sets

ROOT = Path(__file__).parent.parent.parent
# Name of our network in benchmarks/results.
OURS = "edgeparse"
Result = dict[str, Any]


@dataclass(frozen=True)
class Measured:
    """Results of the repository for one bundle. A result that was never measured is None.

    Attributes:
        bundle: the bundle.
        manifest: its manifest.
        evaluation: all tasks on test sources (`training.evaluate.tasks`).
        testset: metrics on the test set of the repository.
        before: the same of default-18.
        leakage: what file formats alone tell.
        source_curve: networks that were trained on fewer sources.
        sets: rows of `sources.csv`.
        multiply_accumulates: of one window.
        window_ms: median milliseconds of one window on a CPU.
        left_out: detection of default-18 on the validation fold, until the shipped bundle has an evaluation.
    """

    bundle: Bundle
    manifest: Result
    evaluation: Result | None
    testset: Result | None
    before: Result | None
    leakage: Result | None
    source_curve: Result | None
    sets: list[picture_sets.Row]
    multiply_accumulates: int
    window_ms: float | None
    left_out: Result | None = None

    @staticmethod
    def read(folder: Path | None = None) -> Measured:
        """Read the results for a bundle, by default the shipped one.

        Raises:
            ValueError: a result was measured on a bundle that predicts differently.
        """
        bundle = open_bundle(folder or default_folder())
        results = {name: read_result(name) for name in ("default", "testset")}
        for name, result in results.items():
            identities = [] if result is None else result.get("measured", [result])
            if not all(is_measured_on(identity, bundle) for identity in identities):
                raise ValueError(
                    f"{RESULTS / name}.json must be measured on a bundle that predicts like {bundle.label}; "
                    "measure it again or remove it"
                )
        return Measured(
            bundle,
            json.loads((bundle.folder / "bundle.json").read_text()),
            **{"evaluation": results["default"], "testset": results["testset"]},
            before=read_result("testset_default_18"),
            leakage=read_result("leakage"),
            source_curve=read_result("source_curve"),
            sets=picture_sets.read_sets(),
            multiply_accumulates=multiply_accumulates(bundle.model("fp32")),
            left_out=read_result("left_out_default") if results["default"] is None else None,
            window_ms=window_ms((ROOT / "benchmarks" / "results").glob("*.json"), bundle.sha256),
        )

    def evidence(self) -> Evidence:
        """Return what was measured, for the targets."""
        found: Evidence = {
            "evaluation": self.evaluation,
            "int8_points_lost": int8_points_lost(self.bundle.metrics["variants"]),
            "multiply_accumulates": self.multiply_accumulates,
            "window_ms": self.window_ms,
        }
        if self.testset is not None and self.before is not None:
            variant = self.bundle.default_variant
            found["zoo_points_lost"] = zoo_points_lost(
                self.before["figures"][variant], self.testset["figures"][variant]
            )
        return found


def reported_attributes(bundle: Bundle) -> list[str]:
    """Return the names of the attributes that a bundle's reports list."""
    found = ["family"] if bundle.family_reported else []
    found += [parameter.name for parameter in bundle.continuous if parameter.reported]
    found += [parameter.name for parameter in bundle.discrete if parameter.reported]
    return found + [loss.name for loss in bundle.losses if loss.reported]


def multiply_accumulates(model: bytes) -> int:
    """Count the multiply-accumulates of an ONNX model's convolutions for one window.

    The exporter writes fully connected layers as convolutions.
    """
    graph = onnx.shape_inference.infer_shapes(onnx.load_from_string(model)).graph
    weights = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    shapes = {
        value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*graph.value_info, *graph.output)
    }
    total = 0
    for node in graph.node:
        if node.op_type == "Conv":
            outputs, inputs, *kernel = weights[node.input[1]]
            _, _, height, width = shapes[node.output[0]]
            total += outputs * inputs * kernel[0] * kernel[1] * height * width
    return total


def window_ms(files: Iterable[Path], sha256: str) -> float | None:
    """Return the median milliseconds of one window with ONNX Runtime's best precision.

    The slowest machine that measured this bundle counts. Returns None if no machine did.
    """
    found = []
    for path in sorted(files):
        cpu = json.loads(path.read_text())["sections"].get("cpu", {})
        times = [
            entry["ms"]["all"]["p50"]
            for entry in cpu.get("competitors", [])
            if (entry["network"], entry["runtime"]) == (OURS, "onnxruntime")
        ]
        if times and cpu["bundle_sha256"] == sha256:
            found.append(min(times))
    return max(found, default=None)
