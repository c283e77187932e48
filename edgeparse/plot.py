"""A measurement as a picture. Needs matplotlib, which the extra `bench` brings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from edgeparse.bench import Measurement


def formats() -> frozenset[str]:
    """The endings of files that can be written."""
    return frozenset({"png", "svg", "pdf"}) & set(FigureCanvasAgg.get_supported_filetypes())


def draw(result: Measurement, file: Path) -> None:
    """Write how latencies are distributed, how they went over time, and which stage took how long."""
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    spread, course, stages = figure.subplots(1, 3)
    ordered = sorted(result.samples)
    spread.step(ordered, [(i + 1) / len(ordered) for i in range(len(ordered))], where="post")
    for name in ("p50", "p90", "p99"):
        value = getattr(result.report, name)
        if value is not None:
            spread.axvline(value, linestyle=":", color="grey")
            spread.annotate(name, (value, 0.02), rotation=90, fontsize="small")
    spread.set(xlabel="ms a report", ylabel="share of reports", ylim=(0, 1))
    course.plot(result.samples, linestyle="none", marker=".", markersize=2)
    course.set(xlabel="report", ylabel="ms", ylim=(0, None))
    names = list(result.stages)
    stages.barh(names, [result.stages[name].p50 for name in names])
    stages.invert_yaxis()
    stages.set(xlabel="ms, median")
    setup = result.setup
    figure.suptitle(
        f"edgeparse on {result.machine['cpu']}: {setup['backend']}, {setup['precision']}, {setup['threads']} threads, "
        f"bundle {setup['bundle']}",
        fontsize="medium",
    )
    figure.savefig(file)
