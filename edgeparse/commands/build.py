"""`edgeparse build`: compile the network for an NVIDIA GPU."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeparse.backends.batches import BATCHES, parse_batches
from edgeparse.backends.flavours import FLAVOURS
from edgeparse.commands.common import bundle_option, errors_end_the_run, examples
from edgeparse.text import printable

if TYPE_CHECKING:
    from edgeparse.backends.compiler import Progress


@click.command()
@click.option(
    "--backend",
    "flavour",
    type=click.Choice(tuple(FLAVOURS)),
    default="tensorrt",
    show_default=True,
    help="Which library to compile with.",
)
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16", "int8"]),
    help="Of the bundle's models, the one of this precision; by default the best for a GPU.",
)
@click.option(
    "--batch",
    default=",".join(map(str, BATCHES)),
    show_default=True,
    help="Smallest, usual and largest number of windows in a run, or one number.",
)
@click.option(
    "--compute-capability",
    help="Compile for these GPUs, as sm86,sm89, instead of the one here (tensorrt-rtx only).",
)
@click.option("--workspace", type=click.IntRange(1), metavar="MIB", help="Most memory that the compiler may use.")
@click.option("--dla", type=click.IntRange(0), metavar="CORE", help="Compile for a DLA core (one batch size).")
@bundle_option
@examples(
    "edgeparse build --backend tensorrt",
    "edgeparse build --backend tensorrt-rtx --compute-capability sm86,sm89",
)
def build(
    flavour: str,
    precision: str | None,
    batch: str,
    compute_capability: str | None,
    workspace: int | None,
    dla: int | None,
    bundle: Path | None,
) -> None:
    """Compile the network into a TensorRT engine and keep it in the cache, where `--backend auto` finds it.

    Prints the engine's file. Nothing is compiled twice.
    """
    from edgeparse import build as builder
    from edgeparse.backends.plans import Store
    from edgeparse.bundle import open_bundle

    try:
        batches = parse_batches(batch)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--batch") from error
    capabilities = tuple(compute_capability.split(",")) if compute_capability else ()
    order = builder.Order(flavour, precision, batches, capabilities, workspace, dla)
    store = Store()
    with errors_end_the_run():
        with _compiling() as progress:
            record, compiled = builder.build(open_bundle(bundle), order, store, progress)
        key = record.key
        done = f"compiled in {record.seconds:.1f} s" if compiled else "was compiled before"
        what = f"{key.flavour} {key.version}, {key.precision}, {key.gpu or ', '.join(key.capabilities)}"
        click.echo(printable(f"{what}, {record.bytes / 1e6:.1f} MB, {done}"), err=True)
        click.echo(store.folder / record.file)


@contextlib.contextmanager
def _compiling() -> Iterator[Progress | None]:
    """A line on standard error that says what the compiler is doing; only in a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console

    with Console(stderr=True).status("compiling") as status:
        yield lambda phase, step, steps: status.update(f"compiling: {phase} {step}/{steps}")
