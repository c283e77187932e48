"""`python -m export bundle`, `refit`, `halve` and `published`: from trained networks to bundles."""

from __future__ import annotations

import json
from pathlib import Path

import click

_file = click.Path(exists=True, dir_okay=False, path_type=Path)
_folder = click.Path(exists=True, file_okay=False, path_type=Path)
_out = click.Path(file_okay=False, path_type=Path)


@click.group()
def main() -> None:
    """From trained networks to bundles."""


@main.command()
@click.argument("network", type=_file)
@click.argument("index", type=_file)
@click.argument("out", type=_out)
@click.option("--name", default="default", show_default=True)
@click.option("--version", default="1", show_default=True)
@click.option(
    "--variant",
    type=click.Choice(["fp32", "int8"]),
    default="int8",
    show_default=True,
    help="What a CPU runs by default.",
)
def bundle(network: Path, index: Path, out: Path, name: str, version: str, variant: str) -> None:
    """Export NETWORK (a network.pt) and write a bundle into OUT, calibrated on validation pictures of INDEX."""
    from export.bundle import build
    from training.data.index.load import load as load_index
    from training.fit.train import load

    trained, stored = load(network)
    made = build(trained, stored, load_index(index), out, name, version, variant)
    click.echo(json.dumps(made.metrics["variants"], indent=1))


@main.command()
@click.argument("folder", metavar="BUNDLE", type=_folder)
@click.argument("index", type=_file)
@click.option("--version", required=True, help="Of the bundle that comes of it.")
def refit(folder: Path, index: Path, version: str) -> None:
    """Make anew for BUNDLE's network what it answers with: other precisions, calibration, thresholds, intervals, gallery; on INDEX."""
    from edgeparse.bundle import open_bundle
    from export.bundle import refit as fit
    from training.data.index.load import load

    try:
        made = fit(open_bundle(folder), load(index), version)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{made.label}: {json.dumps(made.metrics['variants'][made.default_variant])}")


@main.command()
@click.argument("folder", metavar="BUNDLE", type=_folder)
@click.argument("index", type=_file)
@click.option("--version", required=True, help="Of the bundle that comes of it.")
@click.option(
    "--anew", is_flag=True, help="INDEX has another zoo than BUNDLE learnt from: trained anew, on another machine."
)
def halve(folder: Path, index: Path, version: str, anew: bool) -> None:
    """Make only BUNDLE's fp16 file anew, as it is laid out today; on INDEX, whose zoo needs only generators for validation and test."""
    from edgeparse.bundle import open_bundle
    from export.bundle import halved
    from training.data.index.load import load

    try:
        made = halved(open_bundle(folder), load(index), version, anew)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    click.echo(
        f"{made.label}: {json.dumps(made.metrics['variants'], indent=1)}\nfp16 bears TF32: {'fp16' in made.tf32}"
    )


@main.command()
@click.argument("checkpoint", type=_file)
@click.option("--task", type=click.Choice(["parsing", "deepfake", "attribution"]), required=True)
@click.option("-o", "--output", type=_out, required=True, help="The bundle's folder: new or empty.")
@click.option(
    "--classes", help="Of attribution: five names in the checkpoint's order, one of them camera, with commas between."
)
@click.option(
    "--pictures", type=_folder, help="Pictures to calibrate INT8 with; without them the bundle has fp32 and fp16."
)
def published(checkpoint: Path, task: str, output: Path, classes: str | None, pictures: Path | None) -> None:
    """Make a bundle of a CHECKPOINT of the published system (arXiv 2106.07873)."""
    from export.published import CheckpointError, export

    try:
        made = export(task, checkpoint, output, tuple(classes.split(",")) if classes else (), pictures)
    except CheckpointError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{made.label}: {', '.join(made.variants)}; answers {', '.join(made.outputs)}")


if __name__ == "__main__":
    main()
