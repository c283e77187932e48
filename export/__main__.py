"""`python -m export NETWORK DATA ZOO OUT`: from a trained network to a bundle."""

from __future__ import annotations

import json
from pathlib import Path

import click

from export.bundle import build
from training.evaluate import load_collection
from training.train import load


@click.command()
@click.argument("network", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("data", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("zoo", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option("--name", default="default", show_default=True)
@click.option("--version", default="1", show_default=True)
@click.option(
    "--variant",
    type=click.Choice(["fp32", "int8"]),
    default="int8",
    show_default=True,
    help="What a CPU runs by default.",
)
def main(network: Path, data: Path, zoo: Path, out: Path, name: str, version: str, variant: str) -> None:
    """Export NETWORK (a network.pt) and write a bundle into OUT, calibrated on validation pictures of DATA and ZOO."""
    trained, stored = load(network)
    bundle = build(trained, stored, load_collection(data, zoo), out, name, version, variant)
    click.echo(json.dumps(bundle.metrics["variants"], indent=1))


if __name__ == "__main__":
    main()
