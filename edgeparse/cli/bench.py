"""`edgeparse bench`: how long a report takes on this machine."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeparse.cli.console import EXIT_USAGE, exit_on_error, fail
from edgeparse.cli.inputs import check_output_path, collect_inputs, write_file
from edgeparse.cli.options import (
    backend_option,
    bundle_option,
    examples,
    quiet_option,
    recursive_option,
    windows_option,
)
from edgeparse.render.phrases import printable

if TYPE_CHECKING:
    from rich.table import Table

    from edgeparse.bench.measure import Measurement

EXIT_UNRELIABLE = 1
# Size of the synthetic image if none is named.
MEGAPIXELS = 1.0


@click.command()
@click.argument("paths", nargs=-1, metavar="[IMAGES]...", type=click.Path())
@recursive_option
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON (edgeparse/bench.schema.json).")
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Plot latencies, and accuracy against latency per precision, to this PNG, SVG or PDF file; needs matplotlib.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0),
    default=10.0,
    show_default=True,
    help="Minimum duration in seconds (at least 100 runs).",
)
@click.option("--runs", type=click.IntRange(min=1), help="Number of runs, instead of a duration.")
@click.option(
    "--cold",
    type=click.IntRange(min=0),
    default=5,
    show_default=True,
    help="Number of new processes that measure the first report.",
)
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16", "int8"]),
    help="Precision to run; by default the best for the backend.",
)
@click.option("--threads", type=click.IntRange(min=1), help="Threads per run; by default all cores that may be used.")
@click.option("--strict", is_flag=True, help="Exit with status 1 if the figures are not reliable.")
@quiet_option
@backend_option
@bundle_option
@windows_option
@examples(
    "edgeparse bench",
    "edgeparse bench photo.jpg --json > bench.json",
    "edgeparse bench -r pictures --seconds 60 --plot latency.png",
    "edgeparse bench --precision fp32 --threads 1 --windows 1",
)
def bench(
    paths: tuple[str, ...],
    recursive: bool,
    as_json: bool,
    plot: Path | None,
    seconds: float,
    runs: int | None,
    cold: int,
    precision: str | None,
    threads: int | None,
    strict: bool,
    quiet: bool,
    backend: str,
    bundle: Path | None,
    windows: int,
) -> None:
    """Measure how long a report takes.

    Measures warm reports, their stages, and the first report of a new process. Without IMAGES, uses a synthetic megapixel image.

    A percentile is shown only if ten samples lie beyond it: the 90th from 100 runs, the 99th from 1,000. Warnings explain why figures
    are not reliable: other load, heat, or a wide spread.
    """
    from edgeparse.bench.measure import accuracy_latency, measure

    settings = {
        "bundle": None if bundle is None else str(bundle),
        "backend": backend,
        "windows": windows,
        "variant": precision,
        "threads": threads,
    }
    names = collect_inputs(paths, recursive, quiet)
    if plot is not None:
        _check_plot(plot, names)
    with exit_on_error():
        with _pictures(names) as pictures:
            with _progress(quiet) as progress:
                result = measure(pictures, settings, seconds, runs, cold, progress)
            precisions = accuracy_latency(pictures, settings, result.setup["backend"]) if plot is not None else []
        if plot is not None:
            from edgeparse.bench.plot import draw

            write_file(plot, draw(result, _format(plot), precisions))
        if as_json:
            click.echo(json.dumps(result.to_json(), indent=2))
        else:
            from rich.console import Console

            console = Console()
            console.print(latency_table(result))
            for line in notes(result):
                console.print(line, highlight=False, soft_wrap=True, markup=False)
    for warning in result.warnings:
        click.echo(f"not reliable: {warning}", err=True)
    if strict and result.warnings:
        sys.exit(EXIT_UNRELIABLE)


@contextmanager
def _pictures(names: list[str]) -> Iterator[list[str]]:
    """Yield the named images, or a temporary synthetic one."""
    if names:
        yield names
        return
    from edgeparse.bench.measure import synthetic_picture

    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "synthetic.jpg"
        picture.write_bytes(synthetic_picture(MEGAPIXELS))
        yield [str(picture)]


@contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[float], None] | None]:
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("measuring", total=1.0)
        yield lambda share: bar.update(task, completed=min(1.0, share))


def _check_plot(plot: Path, pictures: list[str]) -> None:
    """Check before the measurement that the plot can be drawn and written."""
    try:
        from edgeparse.bench.plot import formats
    except ImportError as error:
        fail(f'--plot needs another package ({error}); run pip install "matplotlib>=3.9"', EXIT_USAGE)
    if _format(plot) not in formats():
        raise click.UsageError(f"--plot must end in {', '.join(sorted(formats()))}, got {plot.name}")
    check_output_path(plot, [f".{form}" for form in formats()], pictures)


def _format(plot: Path) -> str:
    return plot.suffix.lower().lstrip(".")


def latency_table(result: Measurement) -> Table:
    """Return the latencies, one line per stage. A dash stands for what was not measured or has too few samples."""
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("ms", "samples", "p50", "p90", "p99", "max"):
        table.add_column(column, justify="left" if column == "ms" else "right")
    rows = {"report": result.report} | {f"  {name.replace('_', ' ')}": value for name, value in result.stages.items()}
    for name, latency in rows.items():
        values = (latency.p50, latency.p90, latency.p99, latency.max)
        table.add_row(name, str(latency.samples), *("-" if value is None else f"{value:.2f}" for value in values))
    return table


def notes(result: Measurement) -> list[str]:
    """Return the other figures, and the conditions they were measured under, one line each."""
    setup, machine = result.setup, result.machine
    lines = [f"{result.per_second:.1f} reports per second, sequentially"]
    if (cold := result.cold) is not None:
        phases = ", ".join(f"{name} {value:.0f}" for name, value in cold.phases_ms.items() if name != "total")
        lines.append(
            f"first report of a new process: {cold.phases_ms['total']:.0f} ms ({phases}); "
            f"`edgeparse check` {cold.command_ms:.0f} ms; medians of {cold.runs} processes"
        )
    peaks = {"of a new process": cold.peak_memory_mb if cold else None, "of this one": result.peak_memory_mb}
    known = [f"{value:.0f} MB {name}" for name, value in peaks.items() if value is not None]
    if known:
        lines.append(f"peak memory {', '.join(known)}")
    if result.energy_j is not None:
        lines.append(f"{result.energy_j * 1e3:.1f} mJ per report, measured on {result.energy_of}")
    picture = setup["pictures"][0]
    several = f" and {len(setup['pictures']) - 1} more" if len(setup["pictures"]) > 1 else ""
    clock = f" at {machine['clock_mhz']:.0f} MHz" if machine["clock_mhz"] else ""
    lines.append(
        f"{picture['width']}x{picture['height']} {picture['format']}{several}, at most {setup['windows']} windows; "
        f"{setup['backend']}, {setup['precision']}, {setup['threads']} threads; bundle {setup['bundle']}, {setup['bundle_sha256'][:16]}"
    )
    gpu = f"; {machine['gpu']['name']}" if machine["gpu"] else ""
    versions = ", ".join(f"{name} {value}" for name, value in machine["versions"].items())
    lines.append(f"{machine['cpu']}, {machine['cores']} cores{clock}{gpu}; {machine['system']}; {versions}")
    return [printable(line) for line in lines]
