"""What the runtime is to reach, and whether a machine's results do."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.contenders import ON_GPU, OURS
from benchmarks.growth import shares, speed_up
from training.evaluate.targets import MAX_POINTS_LOST

Sections = dict[str, Any]


@dataclass(frozen=True)
class Bar:
    """`value` finds the figure in a machine's sections, or raises KeyError or ValueError where it was not measured; it is in the first of
    `measured_in` that there is. `short` is what the list of what was tried calls the bar.

    `with_openvino` finds what it is where ours runs through OpenVINO, which is a backend too, but not the one that is taken by default.
    """

    short: str
    what: str
    limit: float
    unit: str
    measured_in: tuple[str, ...]
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

    def section(self, sections: Sections) -> dict[str, Any] | None:
        """The one that the figure is in."""
        return next((sections[name] for name in self.measured_in if name in sections), None)


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
            and lost.get(entry["precision"], 0.0) <= MAX_POINTS_LOST
            and entry["parts"] in ("all", "parsing + deepfake")
        )

    return find


def _over_openvino(find: Callable[[Sections], float]) -> Callable[[Sections], float]:
    """The same ratio to ours in OpenVINO at the bundle's own precision: a quotient of two medians."""

    def quotient(sections: Sections) -> float:
        return find(sections) / _ratio(OURS, "openvino", sections["peers"]["reference"]["precision"])(sections)

    return quotient


def _ratio_bar(short: str, what: str, limit: float, find: Callable[[Sections], float]) -> Bar:
    return Bar(short, what, limit, "x", ("peers",), find, least=True, with_openvino=_over_openvino(find))


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
        "published, PyTorch",
        "report of one window: the published parsing and deepfake networks in PyTorch take so many times as long",
        100,
        _ratio("published", "pytorch"),
    ),
    _ratio_bar(
        "published, ONNX Runtime",
        "the same, published networks in ONNX Runtime, fp32",
        70,
        _ratio("published", "onnxruntime", "fp32"),
    ),
    _ratio_bar("ours, PyTorch", "the same, our network in PyTorch", 3, _ratio(OURS, "pytorch")),
    _ratio_bar(
        "ours, OpenVINO",
        f"the same, our network in OpenVINO at the fastest precision that loses at most {MAX_POINTS_LOST} points",
        1,
        _ratio(OURS, "openvino"),
    ),
    Bar(
        "a megapixel",
        "JPEG of 1 megapixel, 8 windows, file to report, warm",
        45,
        " ms",
        ("report",),
        lambda s: float(s["report"]["report_ms"]["p50"]),
    ),
    Bar(
        "all but decoding and the network",
        "of which all but decoding and the network",
        2,
        " ms",
        ("report",),
        _besides,
    ),
    Bar(
        "decoding's share",
        "JPEG of 12 megapixels, 8 windows: decoding's share",
        70,
        " %",
        ("growth",),
        lambda s: 100 * shares(_size(s, 12))["decode"],
        least=True,
    ),
    Bar(
        "cold start",
        "cold start: `edgeparse check`, whole",
        450,
        " ms",
        ("report",),
        lambda s: float(s["report"]["cold_start"]["command_ms"]),
    ),
    Bar(
        "memory",
        "peak memory of a process with one report",
        150,
        " MB",
        ("report",),
        lambda s: float(s["report"]["cold_start"]["peak_memory_mb"]),
    ),
    Bar(
        "memory, 48 megapixels",
        "the same, picture of 48 megapixels",
        400,
        " MB",
        ("growth",),
        lambda s: float(_size(s, 48)["peak_memory_mb"]),
    ),
    Bar(
        "bulk",
        "bulk: speed-up of a process a core, for each core",
        0.95,
        "x",
        ("growth",),
        _efficiency,
        least=True,
    ),
    Bar(
        "growth of memory",
        "growth of memory after the first pictures",
        2,
        " MB",
        ("soak",),
        lambda s: float(s["soak"]["growth_mb"]),
    ),
    Bar("GPU, one window", "GPU: one window, transfers included", 0.5, " ms", ("gpu", "peers"), _on_gpu),
)
# What `benchmarks.gpu` judges by itself, by its units: how they are shown, and whether more is better.
_ON_GPU = {"ms": (1, " ms", False), "share": (100, " %", True)}


def _judged_on_gpu(sections: Sections) -> Iterator[Bar]:
    for judged in sections.get("gpu", {}).get("bars", ()):
        what = str(judged["what"])
        # Results of 2026-11-26 have no units: only milliseconds say so in the words.
        unit = judged.get("unit") or ("ms" if what.endswith(", ms") else "share")
        scale, shown, least = _ON_GPU[unit]
        what = f"GPU: {what.removesuffix(', ms')}"
        yield Bar(what, what, scale * judged["limit"], shown, ("gpu",), _known(scale * judged["value"]), least)


def _known(value: float) -> Callable[[Sections], float]:
    return lambda _sections: value


def judge(sections: Sections) -> Iterator[tuple[Bar, float | None, float | None]]:
    """Each bar with its figure, and with the one in OpenVINO; None where that was not measured, or is no other. Last those that were
    judged where a GPU was measured."""
    for bar in (*BARS, *_judged_on_gpu(sections)):
        yield bar, _found(bar.value, sections), bar.with_openvino and _found(bar.with_openvino, sections)


def _found(find: Callable[[Sections], float], sections: Sections) -> float | None:
    try:
        return find(sections)
    except (KeyError, ValueError, TypeError):
        return None
