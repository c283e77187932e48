"""A machine's results as pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, ScalarFormatter

from benchmarks.growth import MANY, USUAL, shares

# Of an axis of areas under the ROC curve.
LEAST_SPAN = 0.05


def draw(stored: dict[str, Any], folder: Path) -> list[Path]:
    """Write a picture for each section that has one, beside the JSON."""
    pictures = {"peers": peers, "growth": growth}
    return [
        _save(picture(stored["sections"][section]), folder / f"{stored['name']}-{section}.svg")
        for section, picture in pictures.items()
        if section in stored["sections"]
    ]


def peers(found: dict[str, Any]) -> Figure:
    """Everyone's latency; and accuracy against latency, where the accuracy is known."""
    figure = _figure(12, 0.28 * len(found["contenders"]) + 1.5)
    latencies, accuracies = figure.subplots(1, 2, width_ratios=(2, 1))
    entries = sorted(found["contenders"], key=lambda entry: entry["ms"][_whole(entry)]["p50"])
    names = [f"{entry['network']} / {entry['runtime']} / {entry['precision']}" for entry in entries]
    latencies.barh(names, [entry["ms"][_whole(entry)]["p50"] for entry in entries])
    latencies.invert_yaxis()
    latencies.set(xscale="log", xlabel="ms for a window and every output, median")
    known = [entry for entry in entries if (entry["accuracy"] or {}).get("detection_zoo_auc") is not None]
    for i, entry in enumerate(known):
        at = (entry["ms"]["all"]["p50"], entry["accuracy"]["detection_zoo_auc"])
        accuracies.plot(*at, marker="o")
        # Neighbours' names, above and below by turns, do not cover each other.
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
    accuracies.set(xscale="log", xlabel="ms", ylabel="AUC of detection, zoo, validation, mixed")
    accuracies.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    accuracies.xaxis.set_major_formatter(ScalarFormatter())
    accuracies.xaxis.set_minor_formatter(NullFormatter())
    # Precisions that differ by nothing to speak of are not drawn apart.
    low, high = accuracies.get_ylim()
    accuracies.set_ylim(low - LEAST_SPAN, high + LEAST_SPAN)
    return figure


def growth(found: dict[str, Any]) -> Figure:
    """Five ways in which cost grows."""
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
    _course(windows, found["windows"], "windows", f"windows of {MANY:g} megapixels")
    _course(threads, found["threads"], "threads", f"threads, {USUAL:g} megapixel")
    _rate(batches, found["batches"], "batch", "batch", "windows a second")
    _rate(processes, found["processes"], "processes", f"processes, {USUAL:g} megapixel", "reports a second")
    return figure


def _whole(entry: dict[str, Any]) -> str:
    return "all" if "all" in entry["ms"] else "parsing + deepfake"


def _course(axes: Axes, points: list[dict[str, Any]], name: str, label: str) -> None:
    axes.plot([point[name] for point in points], [point["ms"]["report"]["p50"] for point in points], marker=".")
    axes.set(xlabel=label, ylabel="ms a report")
    _from_nothing(axes)


def _rate(axes: Axes, points: list[dict[str, Any]], name: str, label: str, unit: str) -> None:
    axes.plot([point[name] for point in points], [point["per_second"] for point in points], marker=".")
    axes.set(xlabel=label, ylabel=unit)
    _from_nothing(axes)


def _from_nothing(axes: Axes) -> None:
    """With zero at the bottom and room at the top; windows, threads and the like are whole."""
    axes.set_ylim(0, 1.1 * axes.get_ylim()[1])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(figure)
    return figure


def _save(figure: Figure, file: Path) -> Path:
    # Without a date and with a fixed salt for its names, drawing the same twice gives the same file.
    with rc_context({"svg.hashsalt": "edgeparse"}):
        figure.savefig(file, metadata={"Date": None})
    return file
