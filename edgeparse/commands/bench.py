"""`edgeparse bench`: how long a report takes on this device."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeparse.commands.common import (
    EXIT_USAGE,
    backend_option,
    bundle_option,
    errors_end_the_run,
    examples,
    expand,
    fail,
    quiet_option,
    recursive_option,
    windows_option,
    writable,
    write,
)
from edgeparse.text import printable

if TYPE_CHECKING:
    from rich.table import Table

    from edgeparse.bench import Measurement

EXIT_DOUBTFUL = 1
# The picture that is made where none is named, in millions of pixels.
MADE = 1.0


@click.command()
@click.argument("paths", nargs=-1, metavar="[IMAGES]...", type=click.Path())
@recursive_option
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON (edgeparse/bench.schema.json).")
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Draw the latencies, and accuracy against latency over the bundle's precisions, to this PNG, SVG or PDF; needs matplotlib.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0),
    default=10.0,
    show_default=True,
    help="How long, for 100 reports at least.",
)
@click.option("--runs", type=click.IntRange(min=1), help="So many reports instead.")
@click.option(
    "--cold",
    type=click.IntRange(min=0),
    default=5,
    show_default=True,
    help="New processes to measure a first report in.",
)
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16", "int8"]),
    help="The precision to run, of those that the bundle has; by default the best for the backend.",
)
@click.option(
    "--threads", type=click.IntRange(min=1), help="Threads of one run; by default the cores that may be used."
)
@click.option("--strict", is_flag=True, help="Exit with status 1 where the figures should not be believed.")
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
    """Measure how long a report takes here: warm, stage by stage, and in a new process; without IMAGES, of a made one of a megapixel.

    A percentile is given where ten samples lie beyond it: the 90th from 100 reports on, the 99th from 1,000 on. Warnings say why figures
    should not be believed: other load, heat, or a wide spread.
    """
    from edgeparse.bench import measure, trades

    settings = {
        "bundle": None if bundle is None else str(bundle),
        "backend": backend,
        "windows": windows,
        "variant": precision,
        "threads": threads,
    }
    names = expand(paths, recursive, quiet)
    if plot is not None:
        _drawing_works(plot, names)
    with errors_end_the_run():
        with _pictures(names) as pictures:
            with _progress(quiet) as progress:
                result = measure(pictures, settings, seconds, runs, cold, progress)
            traded = trades(pictures, settings, result.setup["backend"]) if plot is not None else []
        if plot is not None:
            from edgeparse.plot import draw

            write(plot, draw(result, _form(plot), traded))
        if as_json:
            click.echo(json.dumps(result.to_json(), indent=2))
        else:
            from rich.console import Console

            console = Console()
            console.print(table(result))
            for line in notes(result):
                console.print(line, highlight=False, soft_wrap=True, markup=False)
    for warning in result.warnings:
        click.echo(f"not to be believed: {warning}", err=True)
    if strict and result.warnings:
        sys.exit(EXIT_DOUBTFUL)


@contextmanager
def _pictures(names: list[str]) -> Iterator[list[str]]:
    """The named pictures, or a made one that is removed afterwards."""
    if names:
        yield names
        return
    from edgeparse.bench import made_picture

    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "made.jpg"
        made.write_bytes(made_picture(MADE))
        yield [str(made)]


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


def _drawing_works(plot: Path, pictures: list[str]) -> None:
    """Better said before the measurement than after it."""
    try:
        from edgeparse.plot import formats
    except ImportError as error:
        fail(f'--plot needs another package ({error}); install it with pip install "matplotlib>=3.9"', EXIT_USAGE)
    if _form(plot) not in formats():
        raise click.UsageError(f"--plot writes {', '.join(sorted(formats()))}, not {plot.name}")
    writable(plot, [f".{form}" for form in formats()], pictures)


def _form(plot: Path) -> str:
    return plot.suffix.lower().lstrip(".")


def table(result: Measurement) -> Table:
    """The latencies, a line for each stage; what was not measured or rests on too few samples is a dash."""
    from rich.table import Table

    shown = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("ms", "samples", "p50", "p90", "p99", "max"):
        shown.add_column(column, justify="left" if column == "ms" else "right")
    rows = {"report": result.report} | {f"  {name.replace('_', ' ')}": value for name, value in result.stages.items()}
    for name, latency in rows.items():
        values = (latency.p50, latency.p90, latency.p99, latency.max)
        shown.add_row(name, str(latency.samples), *("-" if value is None else f"{value:.2f}" for value in values))
    return shown


def notes(result: Measurement) -> list[str]:
    """The other figures and what they hold for, a line each."""
    setup, machine = result.setup, result.machine
    lines = [f"{result.per_second:.1f} reports a second, one after another"]
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
        lines.append(f"{result.energy_j * 1e3:.1f} mJ of {result.energy_of} a report")
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
