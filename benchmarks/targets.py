"""The runtime's speed and memory targets, and whether a machine's results meet them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.competitors import ON_GPU, OURS
from benchmarks.scaling import shares, speed_up
from training.evaluate.targets import MAX_POINTS_LOST

Sections = dict[str, Any]
Figure = Callable[[Sections], float]


@dataclass(frozen=True)
class Target:
    """One target.

    Attributes:
        short: The name in results/trials.csv.
        what: What is measured.
        limit: The figure to reach.
        unit: The figure's unit.
        measured_in: Sections that hold the figure; the first that exists counts.
        value: Reads the figure; raises KeyError, TypeError or ValueError if it was not measured.
        least: Whether `limit` is a minimum.
        with_openvino: The figure if our network runs in OpenVINO, which is not the default backend.
    """

    short: str
    what: str
    limit: float
    unit: str
    measured_in: tuple[str, ...]
    value: Figure
    least: bool = False
    with_openvino: Figure | None = None

    @property
    def text(self) -> str:
        """The limit as shown in tables."""
        return f"{'≥' if self.least else '≤'} {_number(self.limit)}{self.unit}"

    def met(self, value: float) -> bool:
        """Tell whether a figure meets the target."""
        return value >= self.limit if self.least else value <= self.limit

    def shown(self, value: float) -> str:
        """Format a figure for tables."""
        return f"{_number(value)}{self.unit}"


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _ratio(network: str, runtime: str, precision: str | None = None) -> Figure:
    """Read the smallest median ratio among matching competitors; for published networks, that of parsing + deepfake.

    Our network in OpenVINO counts only at precisions that lose at most `MAX_POINTS_LOST` points. Its bf16 precision is not in
    the bundle, so it counts only if its accuracy was measured.
    """

    def read(sections: Sections) -> float:
        measured = sections["cpu"].get("openvino_points_lost", {}) if runtime == "openvino" else {}
        lost = {"bf16": math.inf} | measured if network == OURS else {}
        return min(
            float(entry["median"])
            for entry in sections["cpu"]["ratios"]
            if (entry["network"], entry["runtime"]) == (network, runtime)
            and precision in (None, entry["precision"])
            and lost.get(entry["precision"], 0.0) <= MAX_POINTS_LOST
            and entry["parts"] in ("all", "parsing + deepfake")
        )

    return read


def _over_openvino(figure: Figure) -> Figure:
    """Divide a ratio by that of our network in OpenVINO at the bundle's own precision."""

    def quotient(sections: Sections) -> float:
        return figure(sections) / _ratio(OURS, "openvino", sections["cpu"]["reference"]["precision"])(sections)

    return quotient


def _ratio_target(short: str, what: str, limit: float, figure: Figure) -> Target:
    return Target(short, what, limit, "x", ("cpu",), figure, least=True, with_openvino=_over_openvino(figure))


def _overhead(sections: Sections) -> float:
    report, stages = sections["report"]["report_ms"], sections["report"]["stages_ms"]
    rest: float = report["p50"] - stages["decode"]["p50"] - stages["network"]["p50"]
    return max(rest, float(stages["windows"]["p50"] + stages["postprocess"]["p50"]))


def _size(sections: Sections, megapixels: float) -> dict[str, Any]:
    return _first(point for point in sections["scaling"]["sizes"] if point["megapixels"] == megapixels)


def _first(entries: Iterator[dict[str, Any]]) -> dict[str, Any]:
    for entry in entries:
        return entry
    raise KeyError("not measured")


def _efficiency(sections: Sections) -> float:
    points = sections["scaling"]["processes"]
    return speed_up(points) / float(points[-1]["processes"])


def _one_window_on_gpu(sections: Sections) -> float:
    """Read our default runtime on a measured GPU, or else our fastest GPU runtime in the CPU section."""
    if (found := sections.get("gpu")) is not None:
        entry = _first(entry for entry in found["competitors"] if found["reference"].items() <= entry.items())
        return float(entry["ms"]["host"]["1"])
    return min(
        float(entry["ms"]["all"]["p50"])
        for entry in sections["cpu"]["competitors"]
        if entry["network"] == OURS and entry["runtime"] in ON_GPU
    )


TARGETS = (
    _ratio_target(
        "published, PyTorch",
        "one window: time of the published parsing and deepfake networks in PyTorch, relative to ours",
        100,
        _ratio("published", "pytorch"),
    ),
    _ratio_target(
        "published, ONNX Runtime",
        "the same, published networks in ONNX Runtime, fp32",
        70,
        _ratio("published", "onnxruntime", "fp32"),
    ),
    _ratio_target("ours, PyTorch", "the same, our network in PyTorch", 3, _ratio(OURS, "pytorch")),
    _ratio_target(
        "ours, OpenVINO",
        f"the same, our network in OpenVINO at the fastest precision that loses at most {MAX_POINTS_LOST} points",
        1,
        _ratio(OURS, "openvino"),
    ),
    Target(
        "a megapixel",
        "JPEG of 1 megapixel, 8 windows, file to report, warm",
        45,
        " ms",
        ("report",),
        lambda s: float(s["report"]["report_ms"]["p50"]),
    ),
    Target(
        "all but decoding and the network",
        "the same, without decoding and the network",
        2,
        " ms",
        ("report",),
        _overhead,
    ),
    Target(
        "decoding's share",
        "JPEG of 12 megapixels, 8 windows: share of decoding",
        70,
        " %",
        ("scaling",),
        lambda s: 100 * shares(_size(s, 12))["decode"],
        least=True,
    ),
    Target(
        "cold start",
        "cold start: the whole `edgeparse check` command",
        450,
        " ms",
        ("report",),
        lambda s: float(s["report"]["cold_start"]["command_ms"]),
    ),
    Target(
        "memory",
        "peak memory of a process with one report",
        150,
        " MB",
        ("report",),
        lambda s: float(s["report"]["cold_start"]["peak_memory_mb"]),
    ),
    Target(
        "memory, 48 megapixels",
        "the same, picture of 48 megapixels",
        400,
        " MB",
        ("scaling",),
        lambda s: float(_size(s, 48)["peak_memory_mb"]),
    ),
    Target(
        "bulk",
        "bulk: speed-up per core with one process per core",
        0.95,
        "x",
        ("scaling",),
        _efficiency,
        least=True,
    ),
    Target(
        "growth of memory",
        "growth of memory after the first pictures",
        2,
        " MB",
        ("memory",),
        lambda s: float(s["memory"]["growth_mb"]),
    ),
    Target("GPU, one window", "GPU: one window, transfers included", 0.5, " ms", ("gpu", "cpu"), _one_window_on_gpu),
)
# How figures of `benchmarks.gpu` are shown, by unit: scale, suffix, and whether the limit is a minimum.
_GPU_UNITS = {"ms": (1, " ms", False), "share": (100, " %", True)}


def _gpu_targets(sections: Sections) -> Iterator[Target]:
    """Yield the targets that were judged where the GPU was measured."""
    for judged in sections.get("gpu", {}).get("targets", ()):
        what = str(judged["what"])
        # Results of 2026-11-26 have no units; their milliseconds end in ", ms".
        unit = judged.get("unit") or ("ms" if what.endswith(", ms") else "share")
        scale, suffix, least = _GPU_UNITS[unit]
        what = f"GPU: {what.removesuffix(', ms')}"
        value = scale * judged["value"]
        yield Target(what, what, scale * judged["limit"], suffix, ("gpu",), _constant(value), least)


def _constant(value: float) -> Figure:
    return lambda _sections: value


def judge(sections: Sections) -> Iterator[tuple[Target, float | None, float | None]]:
    """Yield each target with its figure and the figure with OpenVINO; None if not measured or not applicable."""
    for target in (*TARGETS, *_gpu_targets(sections)):
        yield target, _read(target.value, sections), target.with_openvino and _read(target.with_openvino, sections)


def _read(figure: Figure, sections: Sections) -> float | None:
    try:
        return figure(sections)
    except (KeyError, ValueError, TypeError):
        return None
