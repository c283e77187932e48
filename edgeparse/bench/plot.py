"""Plot a measurement. Needs matplotlib, which the extra `bench` installs."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from edgeparse.bench.measure import AccuracyLatency, Measurement


def formats() -> frozenset[str]:
    """Return the file formats that can be written."""
    return frozenset({"png", "svg", "pdf"}) & set(FigureCanvasAgg.get_supported_filetypes())


def draw(result: Measurement, form: str, precisions: Sequence[AccuracyLatency] = ()) -> bytes:
    """Plot the distribution of latencies, the latencies over time, and the stages.

    Args:
        result: the measurement.
        form: one of `formats`.
        precisions: if the bundle has accuracy figures, a fourth panel shows accuracy against latency.

    Returns:
        The image file.
    """
    known = [each for each in precisions if each.accuracy]
    panels = 4 if known else 3
    figure = Figure(figsize=(4 * panels, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    distribution, timeline, stages, *rest = figure.subplots(1, panels)
    ordered = sorted(result.samples)
    distribution.step(ordered, [(i + 1) / len(ordered) for i in range(len(ordered))], where="post")
    for name in ("p50", "p90", "p99"):
        value = getattr(result.report, name)
        if value is not None:
            distribution.axvline(value, linestyle=":", color="grey")
            distribution.annotate(name, (value, 0.02), rotation=90, fontsize="small")
    distribution.set(xlabel="ms per report", ylabel="share of reports", ylim=(0, 1))
    timeline.plot(result.samples, linestyle="none", marker=".", markersize=2)
    timeline.set(xlabel="report", ylabel="ms", ylim=(0, None))
    names = list(result.stages)
    stages.barh(names, [result.stages[name].p50 for name in names])
    stages.invert_yaxis()
    stages.set(xlabel="ms, median")
    for axes in rest:
        _draw_accuracy(axes, known)
    setup = result.setup
    figure.suptitle(
        f"edgeparse on {result.machine['cpu']}: {setup['backend']}, {setup['precision']}, {setup['threads']} threads, "
        f"bundle {setup['bundle']}",
        fontsize="medium",
    )
    buffer = io.BytesIO()
    figure.savefig(buffer, format=form)
    return buffer.getvalue()


def _draw_accuracy(axes: Axes, precisions: Sequence[AccuracyLatency]) -> None:
    """Plot accuracy against latency: one colour per figure, one hollow marker per precision, because markers may overlap."""
    for colour, name in enumerate(sorted({name for each in precisions for name in each.accuracy})):
        for marker, each in zip("osD", precisions, strict=False):
            if name in each.accuracy:
                axes.plot(
                    each.ms,
                    each.accuracy[name],
                    f"C{colour}{marker}",
                    fillstyle="none",
                    label=f"{each.precision}, {name}",
                )
    axes.legend(fontsize="small")
    slowest = max(each.ms for each in precisions)
    axes.set(xlabel="ms per report, median", ylabel="AUC, camera or generated, validation", xlim=(0, 1.1 * slowest))
