"""A machine's results, made up."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks import cpu, results
from benchmarks.competitors import Competitor
from edgeparse.bench.latency import summarize

OURS = Competitor("edgeparse", "onnxruntime", "int8")
MACHINE = {
    "cpu": "A Processor",
    "instructions": ["avx2"],
    "cores": 2,
    "gpu": None,
    "system": "Linux 6",
    "versions": {"numpy": "2"},
}


def ms(*values: float) -> dict[str, Any]:
    return summarize(values).to_json()


def point(**fields: Any) -> dict[str, Any]:
    stages = {"report": ms(30), "decode": ms(24), "windows": ms(1), "network": ms(4), "postprocess": ms(1)}
    return {"ms": stages, "peak_memory_mb": 120.0, **fields}


def ratio(network: str, runtime: str, precision: str, parts: str, median: float) -> dict[str, Any]:
    who = Competitor(network, runtime, precision).to_json()
    return who | {"parts": parts, "median": median, "low": median - 1, "high": median + 1}


@pytest.fixture
def stored() -> dict[str, Any]:
    """A machine's file, made up."""
    common = {"date": "2026-01-02T03:04:05+00:00", "commit": "0123456789ab", "machine": MACHINE, "warnings": []}
    published = {part: ms(250) for part in ("parsing", "deepfake", "attribution", *cpu.TOGETHER)}
    known = {"detection_zoo_auc": 0.811, "detection_public_auc": 0.628}
    return {
        "schema": results.SCHEMA,
        "name": "a-machine",
        "sections": {
            "cpu": common
            | {
                "bundle": "default-1",
                "threads": 2,
                "rounds": 30,
                "reference": OURS.to_json(),
                "competitors": [
                    OURS.to_json() | {"ms": {"all": ms(2.5)}, "accuracy": known},
                    Competitor("published", "pytorch", "fp32").to_json() | {"ms": published, "accuracy": None},
                ],
                "failed": [Competitor("edgeparse", "openvino", "bf16").to_json() | {"error": "no BF16"}],
                "ratios": [
                    ratio("published", "pytorch", "fp32", "parsing + deepfake", 101.25),
                    ratio("published", "pytorch", "fp32", "all three", 140.0),
                    ratio("published", "onnxruntime", "fp32", "parsing + deepfake", 65.0),
                    ratio("published", "onnxruntime", "int8", "parsing + deepfake", 30.0),
                    ratio("edgeparse", "openvino", "fp32", "all", 2.0),
                    ratio("edgeparse", "openvino", "int8", "all", 0.97),
                ],
            },
            "report": common
            | {
                "setup": {
                    "bundle": "default-1",
                    "backend": "onnxruntime-cpu",
                    "precision": "int8",
                    "threads": 2,
                    "pictures": [{"width": 1155, "height": 866, "format": "JPEG", "windows": 8}],
                },
                "report_ms": ms(30.5),
                "stages_ms": point()["ms"],
                "cold_start": {
                    "phases_ms": {"start": 30.0, "total": 400.0},
                    "command_ms": 460.0,
                    "peak_memory_mb": 97.0,
                },
                "energy_j_per_report": None,
            },
            "graph_passes": common
            | {
                "bundle": "default-1",
                "threads": 2,
                "rounds": 30,
                "files": [
                    {
                        "without": name,
                        "runtime": "onnxruntime",
                        "ms": 2.5,
                        "times": {"low": 1, "median": times, "high": 1.1},
                    }
                    for name, times in ((None, 1.0), ("merge_heads", 1.05))
                ],
            },
            "scaling": common
            | {
                "sizes": [point(megapixels=1.0), point(megapixels=12.0), point(megapixels=48.0)],
                "windows": [point(windows=1), point(windows=8)],
                "threads": [point(threads=1), point(threads=2)],
                "batches": [{"batch": 1, "ms": {"network": ms(2)}, "per_second": 500.0}],
                "processes": [{"processes": 1, "per_second": 20.0}, {"processes": 2, "per_second": 39.0}],
            },
            "memory": common
            | {"pictures": 20000, "settled": 500, "growth_mb": 0.4, "resident_mb": [[500, 90.0], [20000, 90.4]]},
            "mlperf_load": common
            | {
                "performance": [
                    {
                        "scenario": "SingleStream",
                        "backend": "onnxruntime-cpu",
                        "precision": "int8",
                        "asked": {"seconds": 10.0},
                        "found": {"result_validity": "VALID", "result_90.00_percentile_latency_ns": 2750000},
                        "warnings": ["other processes kept 1.0 cores busy"],
                    }
                ],
                "accuracy": [{"scenario": "SingleStream", "windows": 40, "largest_difference": 0.0}],
            },
        },
    }
