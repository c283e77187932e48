"""The command `python -m training evaluate`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from edgeparse.backends.select import create
from edgeparse.bundle import Bundle, open_bundle
from edgeparse.gallery import Gallery
from training.data.folds import FOLDS
from training.data.index.load import collect
from training.data.index.records import Index, read
from training.evaluate import robustness, tasks
from training.evaluate.precisions import CONDITIONS, measure_precisions, precision_rows
from training.evaluate.results import bundle_identity, write_result
from training.evaluate.targets import judge
from training.report.markdown import table

SIZE_SPLITS = ("val", "test")


def evaluate_tasks(bundle: Bundle, index: Index, split: str, variant: str | None) -> dict[str, Any]:
    """Evaluate all tasks in all conditions."""
    collection = collect(tasks.select_entries(index, split))
    tasks.check_splits(bundle, collection)
    found = tasks.evaluate(bundle, create("cpu", bundle, variant), _gallery(bundle), collection, split)
    return found | bundle_identity(bundle, variant)


def evaluate_edits(bundle: Bundle, index: Index, split: str, variant: str | None) -> dict[str, Any]:
    """Evaluate detection on edited pictures."""
    assert bundle.calibration is not None
    collection = collect(robustness.select_entries(index, split))
    edits = robustness.measure_edits(create("cpu", bundle, variant), collection, bundle.calibration, split=split)
    return bundle_identity(bundle, variant) | {"edits": edits}


def evaluate_sizes(bundle: Bundle, index: Index, _split: str, variant: str | None) -> dict[str, Any]:
    """Evaluate detection on small pictures of both splits: validation chose the smallest size that is accepted."""
    assert bundle.calibration is not None
    backend = create("cpu", bundle, variant)
    splits = {
        split: robustness.measure_sizes(
            backend, collect(robustness.select_entries(index, split)), bundle.calibration, split
        )
        for split in SIZE_SPLITS
    }
    return bundle_identity(bundle, variant) | {"splits": splits}


def evaluate_precisions(bundle: Bundle, index: Index, _split: str, _variant: str | None) -> dict[str, Any]:
    """Evaluate all tasks in every precision."""
    collection = collect(tasks.select_entries(index, "test"))
    tasks.check_splits(bundle, collection)
    return measure_precisions(bundle, _gallery(bundle), collection)


def _gallery(bundle: Bundle) -> Gallery:
    assert bundle.gallery is not None
    return Gallery.load(bundle.read(bundle.gallery))


SUITES: dict[str, Callable[[Bundle, Index, str, str | None], dict[str, Any]]] = {
    "tasks": evaluate_tasks,
    "edits": evaluate_edits,
    "sizes": evaluate_sizes,
    "precisions": evaluate_precisions,
}


def compact(evaluation: dict[str, Any]) -> dict[str, Any]:
    """Drop details by generator, photo source and attribute outside of the main conditions."""
    by_source = ("by_generator", "camera_called_generated_by_source", "camera_pictures_by_source")
    details = (*by_source, "continuous", "discrete", "losses", "family")
    return {
        task: {
            condition: {key: value for key, value in found.items() if key not in details}
            if isinstance(found, dict) and condition not in CONDITIONS
            else found
            for condition, found in by_condition.items()
        }
        if isinstance(by_condition, dict)
        else by_condition
        for task, by_condition in evaluation.items()
    }


def _summary(suite: str, found: dict[str, Any]) -> str:
    if suite == "precisions":
        return table(("what", *found["figures"]), precision_rows(found["figures"]))
    judged = judge({"evaluation": found, "unseen_photos": FOLDS[0].photos})
    return table(
        ("what", "target", "reached", "95%", ""),
        [
            (
                target.what,
                target.limit_text,
                target.format(value),
                target.format_interval(interval),
                "met" if target.met(value) else "missed",
            )
            for target, value, interval in judged
            if value is not None
        ],
    )


@click.command("evaluate")
@click.argument("folder", metavar="BUNDLE", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("index", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--suite",
    type=click.Choice(list(SUITES)),
    default="tasks",
    show_default=True,
    help="tasks: every task in every condition; edits: edited pictures; sizes: small pictures; "
    "precisions: every task in every precision.",
)
@click.option(
    "--split",
    type=click.Choice(["val", "test"]),
    default="test",
    show_default=True,
    help="Split to evaluate; `sizes` uses both, `precisions` uses test.",
)
@click.option("--variant", help="Precision to run.  [default: the bundle's choice for CPUs]")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Write the JSON to this file, and print a summary instead of the JSON.",
)
def main(folder: Path, index: Path, suite: str, split: str, variant: str | None, output: Path | None) -> None:
    """Evaluate BUNDLE on the pictures of INDEX that its training never saw.

    `training/results` stores the results as default.json (suite tasks), edits.json, sizes.json and precisions.json.
    """
    found = SUITES[suite](open_bundle(folder), read(index), split, variant)
    if output is None:
        click.echo(json.dumps(found, indent=1))
        return
    write_result(output, compact(found) if suite == "tasks" else found)
    click.echo(_summary(suite, found) if suite in ("tasks", "precisions") else output)


if __name__ == "__main__":
    main()
