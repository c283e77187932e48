"""`python -m benchmarks`: measure a machine, and render what was measured."""

from __future__ import annotations

import fnmatch
import json
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click

from benchmarks import results
from edgeparse.backends.onnxruntime import usable_cores
from edgeparse.bundle import Bundle, open_bundle
from edgeparse.commands.common import backend_option, bundle_option

ROOT = Path(__file__).parent.parent
DOCUMENT = ROOT / "BENCHMARKS.md"
SCENARIOS = ("SingleStream", "MultiStream", "Server", "Offline")

F = TypeVar("F", bound=Callable[..., None])

machine_option = click.option(
    "--machine", help="The name that results are kept under; by default of the processor and its cores."
)
folder_option = click.option(
    "--results",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=results.FOLDER,
    help="Where results are kept; by default benchmarks/results.",
)


def kept(command: F) -> F:
    """The options of a command that keeps what it measures."""
    return machine_option(folder_option(command))


def in_turns(rounds: int, seconds: float) -> Callable[[F], F]:
    """The options of a command that has everyone run in turns, with these defaults."""
    of_rounds = click.option("--rounds", type=click.IntRange(min=2), default=rounds, show_default=True)
    of_turns = click.option(
        "--seconds", default=seconds, show_default=True, help="Length of a turn, for three runs at least."
    )
    of_threads = click.option("--threads", default=usable_cores(), show_default=True)
    return lambda command: of_rounds(of_turns(of_threads(command)))


@click.group()
def main() -> None:
    """Measure this machine, and render BENCHMARKS.md from what was measured. Nothing else should run meanwhile."""


@main.command()
@kept
@backend_option
@bundle_option
@click.option("--seconds", default=20.0, show_default=True)
@click.option("--cold", default=9, show_default=True, help="New processes to measure a first report in.")
def report(machine: str | None, folder: Path, backend: str, bundle: Path | None, seconds: float, cold: int) -> None:
    """One picture of a megapixel, as `edgeparse bench` measures it."""
    from edgeparse.bench import made_picture, measure

    with tempfile.TemporaryDirectory() as temporary:
        picture = Path(temporary) / "made.jpg"
        picture.write_bytes(made_picture(1.0))
        settings = {"bundle": None if bundle is None else str(bundle), "backend": backend, "windows": 8}
        found = measure([str(picture)], settings, seconds=seconds, cold=cold).to_json()
    found["setup"]["pictures"][0]["source"] = picture.name
    _keep(machine, "report", found, folder)


@main.command()
@kept
@bundle_option
@in_turns(rounds=30, seconds=0.5)
@click.option(
    "--only", multiple=True, help="Names or patterns such as 'edgeparse / *', as the table has them; may be repeated."
)
@click.option("--gpu/--no-gpu", default=None, help="By default where a GPU is.")
def peers(
    machine: str | None,
    folder: Path,
    bundle: Path | None,
    rounds: int,
    seconds: float,
    threads: int,
    only: tuple[str, ...],
    gpu: bool | None,
) -> None:
    """The published networks and others beside ours, turn by turn."""
    from benchmarks.contenders import contenders
    from benchmarks.peers import lost_in_openvino, measure
    from training.data.index.load import load
    from training.pack import INDEX

    wanted = [
        contender
        for contender in contenders(_has_gpu() if gpu is None else gpu)
        if not only or any(fnmatch.fnmatch(contender.name, pattern) for pattern in only)
    ]
    if not wanted:
        raise click.BadParameter("nobody has such a name", param_hint="--only")
    opened = open_bundle(bundle)
    _prepare({contender.network for contender in wanted}, opened)
    _say("what OpenVINO loses of the evaluation pack's figures")
    lost = lost_in_openvino(wanted, opened, threads, partial(load, INDEX))
    found = measure(wanted, opened, threads, rounds, seconds, _say) | {"openvino_points_lost": lost}
    _keep(machine, "peers", found, folder)
    for entry in sorted(found["ratios"], key=lambda entry: entry["median"]):
        name = " / ".join(entry[key] for key in ("network", "runtime", "precision", "parts"))
        click.echo(f"{entry['median']:9.2f} times ours  {name}")
    for entry in found["failed"]:
        click.echo(f"could not run: {entry['network']} / {entry['runtime']} / {entry['precision']}: {entry['error']}")


@main.command()
@kept
@bundle_option
@in_turns(rounds=10, seconds=0.3)
def rewrites(machine: str | None, folder: Path, bundle: Path | None, rounds: int, seconds: float, threads: int) -> None:
    """What each change of the INT8 file's layout is worth on a CPU."""
    from benchmarks.rewrites import measure

    found = measure(open_bundle(bundle), threads, rounds, seconds, _say)
    _keep(machine, "rewrites", found, folder)
    for entry in found["files"]:
        what = f"without {entry['without']}" if entry["without"] else "with every change"
        click.echo(f"{entry['runtime']:12} {entry['ms']:.3f} ms, {entry['times']['median']:.3f}, {what}")


@main.command()
@kept
@backend_option
@bundle_option
@click.option("--seconds", default=3.0, show_default=True, help="Length of each point, for three runs at least.")
def growth(machine: str | None, folder: Path, backend: str, bundle: Path | None, seconds: float) -> None:
    """How cost grows with size, windows, batch, threads and processes."""
    from benchmarks.growth import measure

    _keep(machine, "growth", measure(open_bundle(bundle), backend, seconds, _say), folder)


@main.command()
@kept
@backend_option
@bundle_option
@click.option("--count", default=20_000, show_default=True, help="Pictures.")
def soak(machine: str | None, folder: Path, backend: str, bundle: Path | None, count: int) -> None:
    """Memory over many pictures."""
    from benchmarks.soak import measure
    from edgeparse.parser import Parser

    try:
        found = measure(Parser(bundle=bundle, backend=backend), count, progress=_say)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--count") from error
    _keep(machine, "soak", found, folder)


@main.command()
@kept
@backend_option
@bundle_option
@click.option(
    "--scenario",
    "names",
    type=click.Choice(SCENARIOS),
    multiple=True,
    default=SCENARIOS,
    help="May be repeated; by default all four.",
)
@click.option("--seconds", default=10.0, show_default=True)
@click.option("--threads", default=usable_cores(), show_default=True)
@click.option("--batch", default=32, show_default=True, help="Most windows at once, of Server and Offline.")
@click.option(
    "--rate", type=float, help="Windows a second, of Server; by default 60 % of what one after another gives."
)
@click.option("--patience", type=float, help="Milliseconds for an answer, of Server; by default ten times that of one.")
def scenario(
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
    """MLPerf's scenarios, and whether answers under load are those alone. Not an MLPerf result."""
    from benchmarks.scenario import Load, accuracy, performance
    from edgeparse.backends.select import create

    opened = open_bundle(bundle)
    network = create(backend, opened, threads=threads)
    found: dict[str, Any] = {
        "bundle": opened.label,
        "bundle_sha256": opened.sha256,
        "performance": [],
        "accuracy": [],
    }
    for name in names:
        load = Load(name, seconds, batch, rate, patience)
        _say(f"{name}: accuracy")
        found["accuracy"].append(accuracy(network, opened, load))
        _say(f"{name}: performance")
        found["performance"].append(performance(network, opened, load))
        click.echo(json.dumps(found["performance"][-1]["found"]))
    _keep(machine, "scenarios", found, folder)


@main.command()
@kept
@bundle_option
@click.option("--rounds", type=click.IntRange(min=1), default=7, show_default=True)
@click.option("--seconds", default=60.0, show_default=True, help="After these no round begins.")
@click.option("--patience", default=300.0, show_default=True, help="Seconds until every contender must have opened.")
@click.option(
    "--batch",
    "batches",
    type=click.IntRange(min=1),
    multiple=True,
    help="May be repeated; by default 1, 8, 32, 64, 256.",
)
@click.option("--only", multiple=True, help="Names or patterns such as 'edgeparse / *'; may be repeated.")
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
    """A GPU: batches on the device and from host to host, beside others, against what the GPU can do."""
    from benchmarks.bars import judge
    from benchmarks.gpu import BATCHES, facts, machine_name, measure, named
    from edgeparse.errors import BackendError

    try:
        name = machine or machine_name(facts()["name"])
    except BackendError as error:
        raise click.ClickException(f"there is no GPU to measure: {error}") from error
    if not (wanted := named(only)):
        raise click.BadParameter("nobody has such a name", param_hint="--only")
    found = measure(
        wanted,
        open_bundle(bundle),
        batches or BATCHES,
        rounds,
        seconds,
        patience,
        _say,
        # Whatever ends this early, what was measured is kept.
        lambda found: results.save(name, "gpu", found, folder),
    )
    _keep(name, "gpu", found, folder)
    for entry in found["contenders"]:
        times = "  ".join(f"{size}: {ms:.3f}" for size, ms in entry["ms"]["device"].items())
        click.echo(f"{times} ms  {' / '.join(entry[key] for key in ('network', 'runtime', 'precision'))}")
    for bar, value, _ in judge({"gpu": found}):
        if value is not None:
            click.echo(f"{bar.what}: {bar.shown(value)}, {bar.text}: {'reached' if bar.reached(value) else 'missed'}")


@main.command("all")
@kept
@click.pass_context
def everything(context: click.Context, machine: str | None, folder: Path) -> None:
    """Everything, as the bars want it, and BENCHMARKS.md. Half an hour or more."""
    for command in (report, peers, rewrites, growth, scenario, soak):
        context.invoke(command, machine=machine, folder=folder)
    context.invoke(render, folder=folder)


@main.command()
@folder_option
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), default=DOCUMENT)
def render(folder: Path, output: Path) -> None:
    """Render BENCHMARKS.md and the pictures from the results."""
    from benchmarks.plots import draw
    from benchmarks.render import TRIED, write

    stored = [results.load(file) for file in sorted(folder.glob("*.json"))]
    for machine in stored:
        draw(machine, folder)
    write(output, stored, json.loads(TRIED.read_text()), open_bundle())
    click.echo(output)


def _keep(machine: str | None, section: str, found: dict[str, Any], folder: Path) -> None:
    click.echo(results.save(machine or results.default_name(), section, found, folder), err=True)
    for warning in found.get("warnings", ()):
        click.echo(f"not to be believed: {warning}", err=True)


def _prepare(networks: set[str], bundle: Bundle) -> None:
    """Make the networks that are needed, here and not in a process that is measured."""
    if networks & {"published", "floor"}:
        from benchmarks.networks import prepare_floor, prepare_published

        if "published" in networks:
            _say("making the published networks")
            prepare_published()
        if "floor" in networks:
            prepare_floor(bundle.window)


def _say(text: str) -> None:
    click.echo(text, err=True)


def _has_gpu() -> bool:
    from edgeparse.backends import cuda
    from edgeparse.errors import BackendError

    try:
        cuda.gpu()
    except BackendError:
        return False
    return True


if __name__ == "__main__":
    main()
