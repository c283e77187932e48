"""All measurements that the documents show."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from edgeparse.bundle import Bundle, default_folder, open_bundle
from training.data.folds import FOLDS
from training.evaluate.results import RESULTS, is_measured_on, read_result
from training.evaluate.targets import Evidence

ROOT = Path(__file__).parent.parent.parent
# Name of our network in benchmarks/results.
OURS = "edgeparse"
Result = dict[str, Any]


@dataclass(frozen=True)
class Sources:
    """Results of the repository for one bundle. A result that was never measured is None.

    Attributes:
        bundle: the bundle.
        manifest: its manifest.
        evaluation: all tasks in all conditions.
        edits: detection on edited pictures.
        retrained_zoo: the evaluation on a zoo that was trained again on another kind of CPU.
        precisions: every precision on test pictures.
        sizes: detection on small pictures.
        retrained: comparing test generators with the same ones trained again.
        testset: metrics on the test set of the repository.
        study: networks that were trained alike except for one change.
        spectral_lines: detection with spectral lines only.
        multiply_accumulates: of one window.
        window_ms: median milliseconds of one window on a CPU.
    """

    bundle: Bundle
    manifest: Result
    evaluation: Result
    edits: Result
    retrained_zoo: Result | None
    precisions: Result | None
    sizes: Result | None
    retrained: Result | None
    testset: Result | None
    study: Result | None
    spectral_lines: Result | None
    multiply_accumulates: int
    window_ms: float | None

    @staticmethod
    def read(folder: Path | None = None) -> Sources:
        """Read the results for a bundle, by default the shipped one.

        Raises:
            ValueError: a result was measured on a bundle that predicts differently.
        """
        bundle = open_bundle(folder or default_folder())
        names = ("default", "edits", "retrained_zoo", "precisions", "sizes", "retrained_generators", "testset")
        results = {name: read_result(name) for name in names}
        for name, result in results.items():
            measured = [] if result is None else result.get("measured", [result])
            if not all(is_measured_on(identity, bundle) for identity in measured):
                raise ValueError(
                    f"{RESULTS / name}.json must be measured on a bundle that predicts like {bundle.label}; "
                    "measure it again or remove it"
                )
        if results["default"] is None or results["edits"] is None:
            raise ValueError(f"default.json and edits.json must be in {RESULTS}; run `python -m training evaluate`")
        return Sources(
            bundle,
            json.loads((bundle.folder / "bundle.json").read_text()),
            results["default"],
            results["edits"],
            results["retrained_zoo"],
            results["precisions"],
            results["sizes"],
            results["retrained_generators"],
            results["testset"],
            read_result("ablations"),
            read_result("spectral_lines"),
            multiply_accumulates(bundle.model("fp32")),
            window_ms((ROOT / "benchmarks" / "results").glob("*.json"), bundle.sha256),
        )

    def evidence(self) -> Evidence:
        """Return what was measured, for the targets."""
        found: Evidence = {
            "evaluation": self.evaluation,
            "unseen_photos": sorted(FOLDS[0].photos),
            "variants": self.bundle.metrics["variants"],
            "multiply_accumulates": self.multiply_accumulates,
        }
        measured = {"window_ms": self.window_ms, "study": self.study, "precisions": self.precisions}
        return found | {name: value for name, value in measured.items() if value is not None}


def reported_attributes(bundle: Bundle) -> list[str]:
    """Return the names of the attributes that a bundle's reports list."""
    reported = ["family"] if bundle.family_reported else []
    reported += [parameter.name for parameter in bundle.continuous if parameter.reported]
    reported += [parameter.name for parameter in bundle.discrete if parameter.reported]
    return reported + [loss.name for loss in bundle.losses if loss.reported]


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
