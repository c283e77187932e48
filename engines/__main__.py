"""`python -m engines build|verify|triton`: compile, check and serve engines for many devices."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import asdict
from pathlib import Path

import click

from edgeparse.backends.onnxruntime import OnnxRuntimeBackend
from edgeparse.backends.tensorrt import backend
from edgeparse.backends.tensorrt.engine_cache import DEFAULT_BATCHES, EngineCache, parse_batches
from edgeparse.bundle import open_bundle
from edgeparse.errors import EdgeparseError
from engines import fleet, recipes, triton, verify

EXIT_WRONG = 1
EXIT_SETUP = 3

_bundle = click.option(
    "--bundle", type=click.Path(path_type=Path), help="Use this bundle's folder; by default the one in the package."
)
_folder = click.Path(file_okay=False, path_type=Path)


@click.group()
def main() -> None:
    """Compile, check and serve engines for a fleet of devices."""


@main.command("build")
@click.argument("out", type=_folder)
@click.option(
    "--recipe",
    "names",
    multiple=True,
    help="Compile this recipe (a name or a .toml file); by default all. May be repeated.",
)
@_bundle
def build(out: Path, names: tuple[str, ...], bundle: Path | None) -> None:
    """Compile engines into OUT; OUT/build-on-device.sh compiles the rest on the devices."""
    try:
        chosen = [recipes.load(name) for name in names or recipes.names()]
        fleet.make(chosen, open_bundle(bundle), out, click.echo)
    except (EdgeparseError, recipes.RecipeError) as error:
        _fail(str(error))


@main.command("verify")
@click.argument("out", type=_folder)
@click.option("--recipe", help="Run this recipe's engine on this machine's GPU; by default only check the files.")
@click.option(
    "--pictures",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Compare on the pictures in this folder.",
)
@click.option("--windows", default=64, show_default=True, help="Compare on at most this many windows.")
@_bundle
def check(out: Path, recipe: str | None, pictures: Path | None, windows: int, bundle: Path | None) -> None:
    """Check the files in OUT and, on a device, compare an engine with the fp32 model in ONNX Runtime.

    Prints the differences of every output as JSON. If a file differs from the manifest, nothing runs.

    Exit status: 0 no problem, 1 an engine or a file is wrong, 3 the engine cannot run here.
    """
    if (recipe is None) != (pictures is None):
        raise click.UsageError("--recipe and --pictures need each other; give both or neither")
    try:
        wrong = fleet.verify_files(out)
        result: dict[str, object] = {"files_wrong": wrong}
        # Engines that were compiled on the device are not in the manifest.
        if recipe is not None and pictures is not None and not wrong:
            opened = open_bundle(bundle)
            chosen = recipes.load(recipe)
            engine = backend.load_engine(opened, chosen.flavour, EngineCache(out / chosen.name), chosen.precision)
            reference = OnnxRuntimeBackend(opened.model("fp32"))
            shown = verify.windows_from(pictures, opened, windows)
            differences = verify.compare(engine, reference, shown, opened.outputs)
            exceeding = verify.exceeding_tolerance(differences, chosen.precision)
            figures = {name: _figures(difference) for name, difference in differences.items()}
            result |= {"windows": len(shown), "exceeding_tolerance": exceeding, "outputs": figures}
            wrong = [*wrong, *exceeding]
    except (EdgeparseError, recipes.RecipeError) as error:
        _fail(str(error))
    click.echo(json.dumps(result, indent=1, allow_nan=False))
    if wrong:
        sys.exit(EXIT_WRONG)


@main.command("triton")
@click.argument("out", type=_folder)
@click.option(
    "--plans", type=_folder, multiple=True, help="Serve the TensorRT engines in this folder. May be repeated."
)
@click.option(
    "--batch",
    default=",".join(map(str, DEFAULT_BATCHES)),
    show_default=True,
    help="Set the ONNX file's smallest, typical and largest batch.",
)
@_bundle
def repository(out: Path, plans: tuple[Path, ...], batch: str, bundle: Path | None) -> None:
    """Write a Triton model repository with TensorRT engines (--plans) or with the bundle's ONNX file."""
    try:
        opened = open_bundle(bundle)
        if plans:
            path = triton.write_engine_repository(out, opened, [EngineCache(folder) for folder in plans])
        else:
            path = triton.write_onnx_repository(out, opened, parse_batches(batch))
    except (EdgeparseError, ValueError) as error:
        _fail(str(error))
    click.echo(path)


def _figures(difference: verify.Difference) -> dict[str, float | None]:
    """Return the fields for JSON, with null for NaN and infinity."""
    return {name: value if math.isfinite(value) else None for name, value in asdict(difference).items()}


def _fail(message: str) -> None:
    click.echo(f"error: {message}", err=True)
    sys.exit(EXIT_SETUP)


if __name__ == "__main__":
    main()
