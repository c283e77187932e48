"""What the runtime is to reach, and whether a machine's results do."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.contenders import ON_GPU, OURS
from benchmarks.growth import shares, speed_up
from training.bars import POINTS_LOST

Sections = dict[str, Any]


@dataclass(frozen=True)
class Bar:
    """`value` finds the figure in a machine's sections, or raises KeyError or ValueError where it was not measured.

    `with_openvino` finds what it is where ours runs through OpenVINO, which is a backend too, but not the one that is taken by default.
    """

    what: str
    limit: float
    unit: str
    value: Callable[[Sections], float]
    least: bool = False
    with_openvino: Callable[[Sections], float] | None = None

    @property
    def text(self) -> str:
        """The limit, as in tables."""
        return f"{'≥' if self.least else '≤'} {_number(self.limit)}{self.unit}"

    def reached(self, value: float) -> bool:
        """Whether a figure is on the right side."""
        return value >= self.limit if self.least else value <= self.limit

    def shown(self, value: float) -> str:
        """A figure, as in tables."""
        return f"{_number(value)}{self.unit}"


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _ratio(network: str, runtime: str, precision: str | None = None) -> Callable[[Sections], float]:
    """The smallest median ratio among those contenders; of the published networks, of parsing and deepfake together. A precision of ours
    that is in no file of the bundle counts only where it was measured that it loses no more than is allowed."""

    def find(sections: Sections) -> float:
        measured = sections["peers"].get("openvino_points_lost", {}) if runtime == "openvino" else {}
        lost = {"bf16": math.inf} | measured if network == OURS else {}
        return min(
            entry["median"]
            for entry in sections["peers"]["ratios"]
            if (entry["network"], entry["runtime"]) == (network, runtime)
            and precision in (None, entry["precision"])
            and lost.get(entry["precision"], 0.0) <= POINTS_LOST
            and entry["parts"] in ("all", "parsing + deepfake")
        )

    return find


def _over_openvino(find: Callable[[Sections], float]) -> Callable[[Sections], float]:
    """The same ratio to ours in OpenVINO at the bundle's own precision: a quotient of two medians."""

    def quotient(sections: Sections) -> float:
        return find(sections) / _ratio(OURS, "openvino", sections["peers"]["reference"]["precision"])(sections)

    return quotient


def _ratio_bar(what: str, limit: float, find: Callable[[Sections], float]) -> Bar:
    return Bar(what, limit, "x", find, least=True, with_openvino=_over_openvino(find))


def _besides(sections: Sections) -> float:
    report, stages = sections["report"]["report_ms"], sections["report"]["stages_ms"]
    rest: float = report["p50"] - stages["decode"]["p50"] - stages["network"]["p50"]
    return max(rest, stages["windows"]["p50"] + stages["readout"]["p50"])


def _size(sections: Sections, megapixels: float) -> dict[str, Any]:
    return _one(point for point in sections["growth"]["sizes"] if point["megapixels"] == megapixels)


def _one(found: Iterator[dict[str, Any]]) -> dict[str, Any]:
    for point in found:
        return point
    raise KeyError("this point was not measured")


def _efficiency(sections: Sections) -> float:
    points = sections["growth"]["processes"]
    return speed_up(points) / float(points[-1]["processes"])


def _on_gpu(sections: Sections) -> float:
    """Ours by default where the GPU was measured by itself, else the fastest of ours beside others."""
    if (found := sections.get("gpu")) is not None:
        entry = _one(entry for entry in found["contenders"] if found["reference"].items() <= entry.items())
        return float(entry["ms"]["host"]["1"])
    return min(
        entry["ms"]["all"]["p50"]
        for entry in sections["peers"]["contenders"]
        if entry["network"] == OURS and entry["runtime"] in ON_GPU
    )


BARS = (
    _ratio_bar(
        "report of one window: the published parsing and deepfake networks in PyTorch take so many times as long",
        100,
        _ratio("published", "pytorch"),
    ),
    _ratio_bar("the same, published networks in ONNX Runtime, fp32", 70, _ratio("published", "onnxruntime", "fp32")),
    _ratio_bar("the same, our network in PyTorch", 3, _ratio(OURS, "pytorch")),
    _ratio_bar(
        f"the same, our network in OpenVINO at the fastest precision that loses at most {POINTS_LOST} points",
        1,
        _ratio(OURS, "openvino"),
    ),
    Bar(
        "JPEG of 1 megapixel, 8 windows, file to report, warm",
        45,
        " ms",
        lambda s: float(s["report"]["report_ms"]["p50"]),
    ),
    Bar("of which all but decoding and the network", 2, " ms", _besides),
    Bar(
        "JPEG of 12 megapixels, 8 windows: decoding's share",
        70,
        " %",
        lambda s: 100 * shares(_size(s, 12))["decode"],
        least=True,
    ),
    Bar("cold start: `edgeparse check`, whole", 450, " ms", lambda s: float(s["report"]["cold_start"]["command_ms"])),
    Bar(
        "peak memory of a process with one report",
        150,
        " MB",
        lambda s: float(s["report"]["cold_start"]["peak_memory_mb"]),
    ),
    Bar("the same, picture of 48 megapixels", 400, " MB", lambda s: float(_size(s, 48)["peak_memory_mb"])),
    Bar("bulk: speed-up of a process a core, for each core", 0.95, "x", _efficiency, least=True),
    Bar("growth of memory after the first pictures", 2, " MB", lambda s: float(s["soak"]["growth_mb"])),
    Bar("GPU: one window, transfers included", 0.5, " ms", _on_gpu),
)


def judge(sections: Sections) -> Iterator[tuple[Bar, float | None, float | None]]:
    """Each bar with its figure, and with the one in OpenVINO; None where that was not measured, or is no other."""
    for bar in BARS:
        yield bar, _found(bar.value, sections), bar.with_openvino and _found(bar.with_openvino, sections)


def _found(find: Callable[[Sections], float], sections: Sections) -> float | None:
    try:
        return find(sections)
    except (KeyError, ValueError, TypeError):
        return None
