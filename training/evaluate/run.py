"""The command `python -m training evaluate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from edgeparse.backends.select import create
from edgeparse.bundle import Bundle, open_bundle
from edgeparse.gallery import Gallery
from training.data.index.load import collect
from training.data.index.records import Index, read
from training.evaluate import tasks
from training.evaluate.results import bundle_identity, write_result
from training.evaluate.targets import int8_points_lost, judge
from training.report.markdown import table


def evaluate(bundle: Bundle, index: Index, split: str, variant: str | None = None) -> dict[str, Any]:
    """Evaluate all tasks on the pictures of a split.

    Raises:
        ValueError: a generator changed its split, or the bundle was trained on the split.
    """
    trained = json.loads((bundle.folder / "bundle.json").read_text())["training"]
    if split == "val" and trained.get("all_but_test"):
        raise ValueError(f"split must be test for bundle {bundle.label}, which was trained on val")
    collection = collect(tasks.select_entries(index, split))
    tasks.check_splits(bundle, collection)
    assert bundle.gallery is not None
    gallery = Gallery.load(bundle.read(bundle.gallery))
    found = tasks.evaluate(bundle, create("cpu", bundle, variant), gallery, collection, split)
    return bundle_identity(bundle, variant) | found


def summary(bundle: Bundle, found: dict[str, Any]) -> str:
    """Return a table of the targets that an evaluation and the bundle's manifest say something about."""
    evidence = {"evaluation": found, "int8_points_lost": int8_points_lost(bundle.metrics["variants"])}
    return table(
        ("metric", "target", "value", "95%", ""),
        [
            (
                target.what,
                target.limit_text,
                target.format(value),
                target.format_interval(interval),
                "met" if target.met(value) else "missed",
            )
            for target, value, interval in judge(evidence)
            if value is not None
        ],
    )


@click.command("evaluate")
@click.argument("folder", metavar="BUNDLE", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("index", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--split",
    type=click.Choice(["val", "test"]),
    default="val",
    show_default=True,
    help="Choose on val; report test once.",
)
@click.option("--variant", help="Precision to run.  [default: the bundle's choice for CPUs]")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the JSON to this file, and print a summary instead of the JSON.",
)
def main(folder: Path, index: Path, split: str, variant: str | None, output: Path | None) -> None:
    """Evaluate BUNDLE on pictures of INDEX whose sources its training never saw.

    `training/results/default.json` holds the result of the shipped bundle on test.
    """
    bundle = open_bundle(folder)
    try:
        found = evaluate(bundle, read(index), split, variant)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    if output is None:
        click.echo(json.dumps(found, indent=1))
        return
    write_result(output, found)
    click.echo(summary(bundle, found))


if __name__ == "__main__":
    main()
