"""`python -m benchmarks`: measure a machine and render BENCHMARKS.md from the results."""

from __future__ import annotations

import fnmatch
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from benchmarks import results
from edgeparse.bundle import Bundle, open_bundle
from edgeparse.cli.options import backend_option, bundle_option
from edgeparse.system import usable_cores

ROOT = Path(__file__).parent.parent
DOCUMENT = ROOT / "BENCHMARKS.md"
SCENARIOS = ("SingleStream", "MultiStream", "Server", "Offline")

F = TypeVar("F", bound=Callable[..., None])

machine_option = click.option(
    "--machine", help="Name the results; by default after the CPU, the GPU and the number of cores."
)
folder_option = click.option(
    "--results",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=results.FOLDER,
    help="Keep results in this folder; by default benchmarks/results.",
)
only_option = click.option(
    "--only", multiple=True, help="Measure only names that match, such as 'edgeparse / *'. May be repeated."
)
threads_option = click.option("--threads", default=usable_cores(), show_default=True, help="Use this many threads.")


def keeps_results(command: F) -> F:
    """Add the options of a command that stores what it measures."""
    return machine_option(folder_option(command))


def takes_turns(rounds: int, seconds: float) -> Callable[[F], F]:
    """Add the options of a command that measures competitors in turns, with these defaults."""
    rounds_option = click.option(
        "--rounds", type=click.IntRange(min=2), default=rounds, show_default=True, help="Give everyone this many turns."
    )
    seconds_option = click.option(
        "--seconds", default=seconds, show_default=True, help="Run each turn this long, and at least three times."
    )
    return lambda command: rounds_option(seconds_option(threads_option(command)))


@click.group()
def main() -> None:
    """Measure this machine and render BENCHMARKS.md. Nothing else should run on it meanwhile."""


@main.command()
@keeps_results
@backend_option
@bundle_option
@click.option("--seconds", default=20.0, show_default=True, help="Measure reports this long.")
@click.option("--cold", default=9, show_default=True, help="Measure a first report in this many new processes.")
def report(machine: str | None, folder: Path, backend: str, bundle: Path | None, seconds: float, cold: int) -> None:
    """Measure the report of one picture of a megapixel, as `edgeparse bench` does."""
    from edgeparse.bench.measure import measure, synthetic_picture

    with tempfile.TemporaryDirectory() as temporary:
        picture = Path(temporary) / "synthetic.jpg"
        picture.write_bytes(synthetic_picture(1.0))
        settings = {"bundle": None if bundle is None else str(bundle), "backend": backend, "windows": 8}
        measured = measure([str(picture)], settings, seconds=seconds, cold=cold).to_json()
    measured["setup"]["pictures"][0]["source"] = picture.name
    _keep(machine, "report", measured, folder)


@main.command()
@keeps_results
@bundle_option
@takes_turns(rounds=30, seconds=0.5)
@only_option
@click.option("--gpu/--no-gpu", default=None, help="Include GPU runtimes; by default if there is a GPU.")
def cpu(
    machine: str | None,
    folder: Path,
    bundle: Path | None,
    rounds: int,
    seconds: float,
    threads: int,
    only: tuple[str, ...],
    gpu: bool | None,
) -> None:
    """Compare our network with the published ones and with other runtimes, turn by turn."""
    from benchmarks.competitors import competitors
    from benchmarks.cpu import measure, openvino_points_lost
    from training.evaluate.testset import load_testset

    wanted = [
        competitor
        for competitor in competitors(_has_gpu() if gpu is None else gpu)
        if not only or any(fnmatch.fnmatch(competitor.name, pattern) for pattern in only)
    ]
    if not wanted:
        raise click.BadParameter("no competitor matches; run without --only to list all", param_hint="--only")
    opened = open_bundle(bundle)
    _prepare({competitor.network for competitor in wanted}, opened)
    _progress("accuracy that OpenVINO loses on the test set")
    lost = openvino_points_lost(wanted, opened, threads, load_testset)
    measured = measure(wanted, opened, threads, rounds, seconds, _progress) | {"openvino_points_lost": lost}
    _keep(machine, "cpu", measured, folder)
    for entry in sorted(measured["ratios"], key=lambda entry: entry["median"]):
        name = " / ".join(entry[key] for key in ("network", "runtime", "precision", "parts"))
        click.echo(f"{entry['median']:9.2f} x our time  {name}")
    for entry in measured["failed"]:
        click.echo(f"failed: {entry['network']} / {entry['runtime']} / {entry['precision']}: {entry['error']}")


@main.command("graph-passes")
@keeps_results
@bundle_option
@takes_turns(rounds=10, seconds=0.3)
def graph_passes(
    machine: str | None, folder: Path, bundle: Path | None, rounds: int, seconds: float, threads: int
) -> None:
    """Measure what each graph pass of the INT8 file is worth on a CPU."""
    from benchmarks.graph_passes import measure

    measured = measure(open_bundle(bundle), threads, rounds, seconds, _progress)
    _keep(machine, "graph_passes", measured, folder)
    for entry in measured["files"]:
        label = f"without {entry['without']}" if entry["without"] else "with every pass"
        click.echo(f"{entry['runtime']:12} {entry['ms']:.3f} ms, {entry['times']['median']:.3f}, {label}")


@main.command()
@keeps_results
@backend_option
@bundle_option
@click.option("--seconds", default=3.0, show_default=True, help="Measure each point this long, at least three times.")
def scaling(machine: str | None, folder: Path, backend: str, bundle: Path | None, seconds: float) -> None:
    """Measure how cost grows with picture size, windows, batch size, threads and processes."""
    from benchmarks.scaling import measure

    _keep(machine, "scaling", measure(open_bundle(bundle), backend, seconds, _progress), folder)


@main.command()
@keeps_results
@backend_option
@bundle_option
@click.option("--count", default=20_000, show_default=True, help="Parse this many pictures.")
def memory(machine: str | None, folder: Path, backend: str, bundle: Path | None, count: int) -> None:
    """Measure how memory grows over many pictures."""
    from benchmarks.memory import measure
    from edgeparse.parser import Parser

    try:
        measured = measure(Parser(bundle=bundle, backend=backend), count, progress=_progress)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--count") from error
    _keep(machine, "memory", measured, folder)


@main.command("mlperf-load")
@keeps_results
@backend_option
@bundle_option
@click.option(
    "--scenario",
    "names",
    type=click.Choice(SCENARIOS),
    multiple=True,
    default=SCENARIOS,
    help="Run this scenario; by default all four. May be repeated.",
)
@click.option("--seconds", default=10.0, show_default=True, help="Run each scenario at least this long.")
@threads_option
@click.option("--batch", default=32, show_default=True, help="Batch at most this many windows in Server and Offline.")
@click.option(
    "--rate", type=float, help="Send this many windows a second in Server; by default 60 % of what one stream reaches."
)
@click.option(
    "--patience", type=float, help="Allow this many milliseconds for an answer in Server; by default ten times one's."
)
def mlperf_load(
    machine: str | None,
    folder: Path,
    backend: str,
    bundle: Path | None,
    names: Sequence[str],
    seconds: float,
    threads: int,
    batch: int,
    rate: float | None,
    patience: float | None,
) -> None:
    """Run MLPerf's scenarios and compare answers under load with answers alone. Not an MLPerf result."""
    from benchmarks.mlperf_load import Load, accuracy, performance
    from edgeparse.backends.select import create

    opened = open_bundle(bundle)
    network = create(backend, opened, threads=threads)
    measured: dict[str, Any] = {
        "bundle": opened.label,
        "bundle_sha256": opened.sha256,
        "performance": [],
        "accuracy": [],
    }
    for name in names:
        load = Load(name, seconds, batch, rate, patience)
        _progress(f"{name}: accuracy")
        measured["accuracy"].append(accuracy(network, opened, load))
        _progress(f"{name}: performance")
        measured["performance"].append(performance(network, opened, load))
        click.echo(json.dumps(measured["performance"][-1]["found"]))
    _keep(machine, "mlperf_load", measured, folder)


@main.command()
@keeps_results
@bundle_option
@click.option(
    "--rounds", type=click.IntRange(min=1), default=7, show_default=True, help="Give everyone this many turns."
)
@click.option("--seconds", default=60.0, show_default=True, help="Start no further round after this time.")
@click.option("--patience", default=300.0, show_default=True, help="Drop competitors that take longer to open.")
@click.option(
    "--batch",
    "batches",
    type=click.IntRange(min=1),
    multiple=True,
    help="Measure this batch size; by default 1, 8, 32, 64 and 256. May be repeated.",
)
@only_option
def gpu(
    machine: str | None,
    folder: Path,
    bundle: Path | None,
    rounds: int,
    seconds: float,
    patience: float,
    batches: tuple[int, ...],
    only: tuple[str, ...],
) -> None:
    """Measure batches on a GPU, next to other runtimes and to what the GPU can do at most."""
    from benchmarks.gpu import BATCHES, device_facts, machine_name, matching, measure
    from benchmarks.targets import judge
    from edgeparse.errors import BackendError

    try:
        name = machine or machine_name(device_facts()["name"])
    except BackendError as error:
        raise click.ClickException(f"there is no GPU to measure: {error}") from error
    if not (wanted := matching(only)):
        raise click.BadParameter("no competitor matches; run without --only to list all", param_hint="--only")
    measured = measure(
        wanted,
        open_bundle(bundle),
        batches or BATCHES,
        rounds,
        seconds,
        patience,
        _progress,
        # Store partial results, in case the run ends early.
        lambda partial_results: results.save(name, "gpu", partial_results, folder),
    )
    _keep(name, "gpu", measured, folder)
    for entry in measured["competitors"]:
        times = "  ".join(f"{size}: {ms:.3f}" for size, ms in entry["ms"]["device"].items())
        click.echo(f"{times} ms  {' / '.join(entry[key] for key in ('network', 'runtime', 'precision'))}")
    for target, value, _ in judge({"gpu": measured}):
        if value is not None:
            verdict = "met" if target.met(value) else "missed"
            click.echo(f"{target.what}: {target.shown(value)}, {target.text}: {verdict}")


@main.command("all")
@keeps_results
@click.pass_context
def everything(context: click.Context, machine: str | None, folder: Path) -> None:
    """Measure everything but the GPU and render BENCHMARKS.md. Takes half an hour or more."""
    for command in (report, cpu, graph_passes, scaling, mlperf_load, memory):
        context.invoke(command, machine=machine, folder=folder)
    context.invoke(render, folder=folder)


@main.command()
@folder_option
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=DOCUMENT,
    help="Write the document here; by default BENCHMARKS.md.",
)
def render(folder: Path, output: Path) -> None:
    """Render BENCHMARKS.md and the plots from the results."""
    from benchmarks.plots import draw
    from benchmarks.render import render_document

    stored = [results.load(file) for file in sorted(folder.glob("*.json"))]
    for machine in stored:
        draw(machine, folder)
    output.write_text(render_document(stored, open_bundle()), encoding="utf-8")
    click.echo(output)


def _keep(machine: str | None, section: str, measured: dict[str, Any], folder: Path) -> None:
    click.echo(results.save(machine or results.default_name(), section, measured, folder), err=True)
    for warning in measured.get("warnings", ()):
        click.echo(f"warning, do not trust these figures: {warning}", err=True)


def _prepare(networks: set[str], bundle: Bundle) -> None:
    """Create the networks that are needed, outside of the processes that are measured."""
    if networks & {"published", "floor"}:
        from benchmarks.networks import prepare_floor, prepare_published

        if "published" in networks:
            _progress("creating the published networks")
            prepare_published()
        if "floor" in networks:
            prepare_floor(bundle.window)


def _progress(text: str) -> None:
    click.echo(text, err=True)


def _has_gpu() -> bool:
    from edgeparse.backends.tensorrt import cuda
    from edgeparse.errors import BackendError

    try:
        cuda.gpu()
    except BackendError:
        return False
    return True


if __name__ == "__main__":
    main()
