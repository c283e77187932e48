"""`python -m training index write DATA ZOO INDEX`: write the index of all pictures."""

from __future__ import annotations

from pathlib import Path

import click

from training.data.index.records import write
from training.data.index.scan import scan
from training.zoo.description import described

_folder = click.Path(exists=True, file_okay=False, path_type=Path)


@click.group()
def main() -> None:
    """Write the index of all pictures."""


@main.command("write")
@click.argument("data", type=_folder)
@click.argument("zoo", type=_folder)
@click.argument("index", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--part-of",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Description of the complete zoo (training/results/zoo.json) that ZOO rebuilds in part.",
)
def write_command(data: Path, zoo: Path, index: Path, part_of: Path | None) -> None:
    """Write INDEX, a .jsonl file, of the photos and public generators in DATA and of all finished generators in ZOO."""
    index_of_all = scan(data, zoo, described(part_of) if part_of else None)
    write(index_of_all, index)
    click.echo(f"{index}: {len(index_of_all.sources)} sources, {len(index_of_all.entries)} pictures", err=True)
