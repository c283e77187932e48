"""`edgeparse build`: compile the network for an NVIDIA GPU."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeparse.backends.tensorrt.engine_cache import DEFAULT_BATCHES, EngineCache, parse_batches
from edgeparse.backends.tensorrt.library import LIBRARIES
from edgeparse.cli.console import exit_on_error
from edgeparse.cli.options import bundle_option, examples
from edgeparse.render.phrases import printable

if TYPE_CHECKING:
    from edgeparse.backends.tensorrt.build import Progress


@click.command()
@click.option(
    "--backend",
    "library",
    type=click.Choice(tuple(LIBRARIES)),
    default="tensorrt",
    show_default=True,
    help="Library to compile with.",
)
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16", "int8"]),
    help="Precision of the model; by default the best for a GPU.",
)
@click.option(
    "--batch",
    default=",".join(map(str, DEFAULT_BATCHES)),
    show_default=True,
    help="Smallest, usual and largest number of windows per run, or one number.",
)
@click.option(
    "--compute-capability",
    help="Compile for these GPUs, for example sm86,sm89, instead of this machine's (tensorrt-rtx only).",
)
@click.option("--workspace", type=click.IntRange(1), metavar="MIB", help="Maximum memory of the compiler.")
@click.option("--dla", type=click.IntRange(0), metavar="CORE", help="Compile for a DLA core (one batch size).")
@bundle_option
@examples(
    "edgeparse build --backend tensorrt",
    "edgeparse build --backend tensorrt-rtx --compute-capability sm86,sm89",
)
def build(
    library: str,
    precision: str | None,
    batch: str,
    compute_capability: str | None,
    workspace: int | None,
    dla: int | None,
    bundle: Path | None,
) -> None:
    """Compile the network into a TensorRT engine.

    Stores the engine in the cache, where `--backend auto` finds it, and prints its path. An engine that is in the cache is not compiled
    again.
    """
    from edgeparse.backends.tensorrt.build import BuildConfig, build_engine
    from edgeparse.bundle import open_bundle
    from edgeparse.errors import NoDeviceError

    try:
        batches = parse_batches(batch)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--batch") from error
    capabilities = tuple(compute_capability.split(",")) if compute_capability else ()
    config = BuildConfig(library, precision, batches, capabilities, workspace, dla)
    cache = EngineCache()
    with exit_on_error():
        try:
            with _progress() as progress:
                record, compiled = build_engine(open_bundle(bundle), config, cache, progress)
        except NoDeviceError as error:
            if library != "tensorrt-rtx" or capabilities:
                raise
            raise NoDeviceError(
                f"{error}; to compile for another machine's GPU, add --compute-capability sm86"
            ) from error
        key = record.key
        state = f"compiled in {record.seconds:.1f} s" if compiled else "already in the cache"
        what = f"{key.library} {key.version}, {key.precision}, {key.gpu or ', '.join(key.capabilities)}"
        click.echo(printable(f"{what}, {record.bytes / 1e6:.1f} MB, {state}"), err=True)
        click.echo(cache.folder / record.file)


@contextlib.contextmanager
def _progress() -> Iterator[Progress | None]:
    """Show the compiler's phase and step on standard error, if it is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console

    with Console(stderr=True).status("compiling") as status:
        yield lambda phase, step, steps: status.update(f"compiling: {phase} {step}/{steps}")
