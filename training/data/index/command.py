"""`python -m training index write DATA ZOO INDEX`: write the index that training and evaluation read."""

from __future__ import annotations

from pathlib import Path

import click

from training.data.index.records import write
from training.data.index.scan import scan
from training.zoo.description import described

_folder = click.Path(exists=True, file_okay=False, path_type=Path)


@click.group()
def main() -> None:
    """The index of a dataset."""


@main.command("write")
@click.argument("data", type=_folder)
@click.argument("zoo", type=_folder)
@click.argument("index", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--part-of",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The description of a whole zoo, training/results/zoo.json, of which ZOO has a part, trained anew.",
)
def write_command(data: Path, zoo: Path, index: Path, part_of: Path | None) -> None:
    """Write the INDEX (a .jsonl file) of the photos and public generators in DATA and of the ZOO, as far as it is built."""
    found = scan(data, zoo, described(part_of) if part_of else None)
    write(found, index)
    click.echo(f"{index}: {len(found.sources)} sources, {len(found.entries)} pictures", err=True)
