"""`python -m engines build|verify|triton`: engines for many devices."""

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
    "--bundle", type=click.Path(path_type=Path), help="A bundle's folder; by default the one in the package."
)
_folder = click.Path(file_okay=False, path_type=Path)


@click.group()
def main() -> None:
    """Engines for a fleet of devices."""


@main.command("build")
@click.argument("out", type=_folder)
@click.option(
    "--recipe", "names", multiple=True, help="A recipe's name or a .toml file; by default every recipe that there is."
)
@_bundle
def build(out: Path, names: tuple[str, ...], bundle: Path | None) -> None:
    """Compile into OUT what can be compiled here; OUT/build-on-device.sh compiles the rest on the devices."""
    try:
        chosen = [recipes.load(name) for name in names or recipes.names()]
        fleet.make(chosen, open_bundle(bundle), out, click.echo)
    except (EdgeparseError, recipes.RecipeError) as error:
        _fail(str(error))


@main.command("verify")
@click.argument("out", type=_folder)
@click.option(
    "--recipe", help="One of OUT's recipes, to be run here on the GPU; without it only the files are checked."
)
@click.option(
    "--pictures", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Real pictures to compare on."
)
@click.option("--windows", default=64, show_default=True, help="Most windows to compare on.")
@_bundle
def check(out: Path, recipe: str | None, pictures: Path | None, windows: int, bundle: Path | None) -> None:
    """Check the files in OUT and, on a device, that an engine computes what ONNX Runtime computes from the fp32 model.

    Prints the differences of every output as JSON. Nothing is run where a file is not what the manifest says.

    Exit status: 0 all is well, 1 an engine differs or a file is wrong, 3 it cannot run here.
    """
    if (recipe is None) != (pictures is None):
        raise click.UsageError("--recipe and --pictures go together")
    try:
        wrong = fleet.verify_files(out)
        result: dict[str, object] = {"files_wrong": wrong}
        # What was compiled on the device is in no manifest; what is in it has to be as it says.
        if recipe is not None and pictures is not None and not wrong:
            opened = open_bundle(bundle)
            chosen = recipes.load(recipe)
            engine = backend.load_engine(opened, chosen.flavour, EngineCache(out / chosen.name), chosen.precision)
            reference = OnnxRuntimeBackend(opened.model("fp32"))
            given = verify.windows_of(pictures, opened, windows)
            differences = verify.compare(engine, reference, given, opened.outputs)
            far = verify.too_far(differences, chosen.precision)
            figures = {name: _figures(difference) for name, difference in differences.items()}
            result |= {"windows": len(given), "too_far": far, "outputs": figures}
            wrong = [*wrong, *far]
    except (EdgeparseError, recipes.RecipeError) as error:
        _fail(str(error))
    click.echo(json.dumps(result, indent=1, allow_nan=False))
    if wrong:
        sys.exit(EXIT_WRONG)


@main.command("triton")
@click.argument("out", type=_folder)
@click.option(
    "--plans", type=_folder, multiple=True, help="A folder of TensorRT engines, one for each kind of GPU (repeatable)."
)
@click.option(
    "--batch",
    default=",".join(map(str, DEFAULT_BATCHES)),
    show_default=True,
    help="Of the ONNX file: as edgeparse build.",
)
@_bundle
def repository(out: Path, plans: tuple[Path, ...], batch: str, bundle: Path | None) -> None:
    """Write a Triton model repository into OUT: of TensorRT engines (--plans), else of the bundle's ONNX file."""
    try:
        opened = open_bundle(bundle)
        if plans:
            path = triton.with_plans(out, opened, [EngineCache(folder) for folder in plans])
        else:
            path = triton.with_onnx(out, opened, parse_batches(batch))
    except (EdgeparseError, ValueError) as error:
        _fail(str(error))
    click.echo(path)


def _figures(difference: verify.Difference) -> dict[str, float | None]:
    """As JSON knows them: null for what is no number."""
    return {name: value if math.isfinite(value) else None for name, value in asdict(difference).items()}


def _fail(message: str) -> None:
    click.echo(f"error: {message}", err=True)
    sys.exit(EXIT_SETUP)


if __name__ == "__main__":
    main()
