"""Evaluate a bundle on generators and photos that training never saw: `python -m training.evaluate BUNDLE INDEX`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from edgeparse.backends.select import create
from edgeparse.bundle import open_bundle
from edgeparse.gallery import Gallery
from training.bars import judge
from training.data.folds import FOLDS
from training.data.index.load import collect
from training.data.index.records import read
from training.markdown import table
from training.pack import check
from training.provenance import measured_of
from training.questions import check_splits, evaluate, looked_at


def _table(evaluation: dict[str, object]) -> str:
    judged = judge({"evaluation": evaluation, "unseen_photos": FOLDS[0].photos})
    return table(
        ("what", "bar", "reached", "95%", ""),
        [
            (
                bar.what,
                bar.text,
                bar.shown(value),
                bar.range(interval),
                "met" if bar.met(value) else "missed",
            )
            for bar, value, interval in judged
            if value is not None
        ],
    )


@click.command()
@click.argument("folder", metavar="BUNDLE", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("index", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--pack",
    is_flag=True,
    help="Evaluate on the pictures in training/pack instead, as `python -m training.pack check` does.",
)
@click.option("--split", type=click.Choice(["val", "test"]), default="test", show_default=True)
@click.option("--variant", help="Precision to run; by default the bundle's choice for the CPU.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Write the JSON here, and a table of what is to be reached to standard output, in place of the JSON.",
)
@click.pass_context
def main(
    context: click.Context,
    folder: Path,
    index: Path | None,
    pack: bool,
    split: str,
    variant: str | None,
    output: Path | None,
) -> None:
    """Evaluate BUNDLE on the pictures of INDEX that its training never saw."""
    if pack:
        context.invoke(check, folder=folder)
        return
    if index is None:
        raise click.UsageError("give an INDEX, as `python -m training index write` makes it, or --pack")
    bundle = open_bundle(folder)
    assert bundle.gallery is not None
    backend = create("cpu", bundle, variant)
    collection = collect(looked_at(read(index), split))
    check_splits(bundle, collection)
    gallery = Gallery.load(bundle.read(bundle.gallery))
    result = evaluate(bundle, backend, gallery, collection, split)
    result |= measured_of(bundle, variant)
    text = json.dumps(result, indent=1)
    if output:
        output.write_text(text + "\n")
        click.echo(_table(result))
    else:
        click.echo(text)


if __name__ == "__main__":
    main()
