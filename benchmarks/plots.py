"""Plot a machine's results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, ScalarFormatter

from benchmarks.scaling import LARGE, TYPICAL, shares

# Margin of the AUC axis, so that negligible differences look negligible.
AUC_MARGIN = 0.05


def draw(stored: dict[str, Any], folder: Path) -> list[Path]:
    """Write a plot for each section that has one, next to the JSON; return the files."""
    plots = {"cpu": plot_cpu, "scaling": plot_scaling}
    return [
        _save(plot(stored["sections"][section]), folder / f"{stored['name']}-{section}.svg")
        for section, plot in plots.items()
        if section in stored["sections"]
    ]


def plot_cpu(found: dict[str, Any]) -> Figure:
    """Plot every competitor's latency, and accuracy against latency if it is known."""
    figure = _figure(12, 0.28 * len(found["competitors"]) + 1.5)
    latencies, accuracies = figure.subplots(1, 2, width_ratios=(2, 1))
    entries = sorted(found["competitors"], key=lambda entry: entry["ms"][_whole(entry)]["p50"])
    names = [f"{entry['network']} / {entry['runtime']} / {entry['precision']}" for entry in entries]
    latencies.barh(names, [entry["ms"][_whole(entry)]["p50"] for entry in entries])
    latencies.invert_yaxis()
    latencies.set(xscale="log", xlabel="median ms for one window and every output")
    known = [entry for entry in entries if (entry["accuracy"] or {}).get("detection_zoo_auc") is not None]
    for i, entry in enumerate(known):
        at = (entry["ms"]["all"]["p50"], entry["accuracy"]["detection_zoo_auc"])
        accuracies.plot(*at, marker="o")
        # Alternate the labels above and below, so that neighbours do not overlap.
        side = 1 if i % 2 == 0 else -1
        accuracies.annotate(
            f"{entry['runtime']} {entry['precision']}",
            at,
            (0, 6 * side),
            textcoords="offset points",
            fontsize="small",
            rotation=60 * side,
            verticalalignment="bottom" if side > 0 else "top",
        )
    accuracies.margins(x=0.2)
    accuracies.set(xscale="log", xlabel="ms", ylabel="detection AUC, zoo validation generators")
    accuracies.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    accuracies.xaxis.set_major_formatter(ScalarFormatter())
    accuracies.xaxis.set_minor_formatter(NullFormatter())
    low, high = accuracies.get_ylim()
    accuracies.set_ylim(low - AUC_MARGIN, high + AUC_MARGIN)
    return figure


def plot_scaling(found: dict[str, Any]) -> Figure:
    """Plot how cost grows with size, windows, batch size, threads and processes."""
    figure = _figure(15, 6)
    ((sizes, parts, windows), (batches, threads, processes)) = figure.subplots(2, 3)
    pixels = [point["megapixels"] for point in found["sizes"]]
    for part in ("report", "decode", "network"):
        sizes.plot(pixels, [point["ms"][part]["p50"] for point in found["sizes"]], marker=".", label=part)
    sizes.set(xscale="log", yscale="log", xlabel="megapixels", ylabel="ms")
    sizes.legend(fontsize="small")
    split = [shares(point) for point in found["sizes"]]
    parts.stackplot(pixels, [[share[name] for share in split] for name in split[0]], labels=list(split[0]))
    parts.set(xscale="log", ylim=(0, 1), xlabel="megapixels", ylabel="share of the time")
    parts.legend(fontsize="small")
    _plot_latency(windows, found["windows"], "windows", f"windows of {LARGE:g} megapixels")
    _plot_latency(threads, found["threads"], "threads", f"threads, {TYPICAL:g} megapixel")
    _plot_rate(batches, found["batches"], "batch", "batch size", "windows a second")
    _plot_rate(processes, found["processes"], "processes", f"processes, {TYPICAL:g} megapixel", "reports a second")
    return figure


def _whole(entry: dict[str, Any]) -> str:
    return "all" if "all" in entry["ms"] else "parsing + deepfake"


def _plot_latency(axes: Axes, points: list[dict[str, Any]], name: str, label: str) -> None:
    axes.plot([point[name] for point in points], [point["ms"]["report"]["p50"] for point in points], marker=".")
    axes.set(xlabel=label, ylabel="ms per report")
    _start_at_zero(axes)


def _plot_rate(axes: Axes, points: list[dict[str, Any]], name: str, label: str, unit: str) -> None:
    axes.plot([point[name] for point in points], [point["per_second"] for point in points], marker=".")
    axes.set(xlabel=label, ylabel=unit)
    _start_at_zero(axes)


def _start_at_zero(axes: Axes) -> None:
    """Start the y axis at zero and put whole numbers on the x axis."""
    axes.set_ylim(0, 1.1 * axes.get_ylim()[1])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(figure)
    return figure


def _save(figure: Figure, file: Path) -> Path:
    # No date and a fixed salt, so that the same results always give the same file.
    with rc_context({"svg.hashsalt": "edgeparse"}):
        figure.savefig(file, metadata={"Date": None})
    return file
