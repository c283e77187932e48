"""A measurement as a picture. Needs matplotlib, which the extra `bench` brings."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from edgeparse.bench import Measurement, Trade


def formats() -> frozenset[str]:
    """The endings of files that can be written."""
    return frozenset({"png", "svg", "pdf"}) & set(FigureCanvasAgg.get_supported_filetypes())


def draw(result: Measurement, form: str, trades: Sequence[Trade] = ()) -> bytes:
    """How latencies are distributed, how they went over time, and which stage took how long; with `trades` that the bundle has figures
    of, also accuracy against latency. `form` is one of `formats`."""
    told = [trade for trade in trades if trade.accuracy]
    panels = 4 if told else 3
    figure = Figure(figsize=(4 * panels, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    spread, course, stages, *rest = figure.subplots(1, panels)
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
    for axes in rest:
        _trade(axes, told)
    setup = result.setup
    figure.suptitle(
        f"edgeparse on {result.machine['cpu']}: {setup['backend']}, {setup['precision']}, {setup['threads']} threads, "
        f"bundle {setup['bundle']}",
        fontsize="medium",
    )
    buffer = io.BytesIO()
    figure.savefig(buffer, format=form)
    return buffer.getvalue()


def _trade(axes: Axes, trades: Sequence[Trade]) -> None:
    """Accuracy against latency: a colour for what it is of, a marker for each precision, open, as they may lie on each other."""
    for colour, name in enumerate(sorted({name for trade in trades for name in trade.accuracy})):
        for marker, trade in zip("osD", trades, strict=False):
            if name in trade.accuracy:
                axes.plot(
                    trade.ms,
                    trade.accuracy[name],
                    f"C{colour}{marker}",
                    fillstyle="none",
                    label=f"{trade.precision}, {name}",
                )
    axes.legend(fontsize="small")
    slowest = max(trade.ms for trade in trades)
    axes.set(xlabel="ms a report, median", ylabel="AUC, camera or generated, validation", xlim=(0, 1.1 * slowest))
