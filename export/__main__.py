"""`python -m export bundle`, `refit`, `fp16` and `published`: turn trained networks into bundles."""

from __future__ import annotations

import json
from pathlib import Path

import click

_file = click.Path(exists=True, dir_okay=False, path_type=Path)
_folder = click.Path(exists=True, file_okay=False, path_type=Path)
_out = click.Path(file_okay=False, path_type=Path)


@click.group()
def main() -> None:
    """Turn trained networks into bundles."""


@main.command()
@click.argument("network", type=_file)
@click.argument("index", type=_file)
@click.argument("out", type=_out)
@click.option("--name", default="default", show_default=True, help="Set the bundle's name.")
@click.option("--version", default="1", show_default=True, help="Set the bundle's version.")
@click.option(
    "--variant",
    type=click.Choice(["fp32", "int8"]),
    default="int8",
    show_default=True,
    help="Set the precision that CPUs use by default.",
)
def bundle(network: Path, index: Path, out: Path, name: str, version: str, variant: str) -> None:
    """Export NETWORK (a network.safetensors) as a bundle in OUT, calibrated on INDEX's validation pictures."""
    from export.bundle import build
    from training.data.index.load import load
    from training.fit.warm_start import load_network, training_facts

    result = build(load_network(network), training_facts(network), load(index), out, name, version, variant)
    click.echo(json.dumps(result.metrics["variants"], indent=1))


@main.command()
@click.argument("folder", metavar="BUNDLE", type=_folder)
@click.argument("index", type=_file)
@click.option("--version", required=True, help="Set the version of the new bundle.")
def refit(folder: Path, index: Path, version: str) -> None:
    """Fit everything but the network again: other precisions, calibration, thresholds, intervals and gallery."""
    from edgeparse.bundle import open_bundle
    from export.bundle import refit as refit_bundle
    from training.data.index.load import load

    try:
        result = refit_bundle(open_bundle(folder), load(index), version)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{result.label}: {json.dumps(result.metrics['variants'][result.default_variant])}")


@main.command()
@click.argument("folder", metavar="BUNDLE", type=_folder)
@click.argument("index", type=_file)
@click.option("--version", required=True, help="Set the version of the new bundle.")
@click.option(
    "--retrained-zoo",
    is_flag=True,
    help="Declare that INDEX's zoo was trained again on another machine since BUNDLE was trained.",
)
def fp16(folder: Path, index: Path, version: str, retrained_zoo: bool) -> None:
    """Export only BUNDLE's fp16 file again; INDEX's zoo needs only validation and test generators."""
    from edgeparse.bundle import open_bundle
    from export.bundle import rebuild_fp16
    from training.data.index.load import load

    try:
        result = rebuild_fp16(open_bundle(folder), load(index), version, retrained_zoo)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{result.label}: {json.dumps(result.metrics['variants'], indent=1)}")
    click.echo(f"fp16 tolerates TF32: {'fp16' in result.tf32}")


@main.command()
@click.argument("checkpoint", type=_file)
@click.option("--task", type=click.Choice(["parsing", "deepfake", "attribution"]), required=True)
@click.option("-o", "--output", type=_out, required=True, help="Set the bundle's folder, which must be new or empty.")
@click.option(
    "--classes",
    help="Name attribution's five classes in the checkpoint's order, separated by commas; one must be camera.",
)
@click.option("--pictures", type=_folder, help="Calibrate INT8 on these pictures; by default write only fp32 and fp16.")
def published(checkpoint: Path, task: str, output: Path, classes: str | None, pictures: Path | None) -> None:
    """Turn a CHECKPOINT of the published system (arXiv 2106.07873) into a bundle."""
    from export.published import CheckpointError, export

    try:
        result = export(task, checkpoint, output, tuple(classes.split(",")) if classes else (), pictures)
    except CheckpointError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{result.label}: {', '.join(result.variants)}; outputs {', '.join(result.outputs)}")


if __name__ == "__main__":
    main()
