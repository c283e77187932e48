"""What every precision of a bundle answers of test pictures, beside fp32: `python -m training.precisions BUNDLE INDEX`.

In the rows in which accuracy is to reach something (`training.bars`). The zoo of the index may be one that was trained anew, and have few
of the generators for training: what a precision loses can be told from it, too.
"""

from __future__ import annotations

import json
from pathlib import Path

import click

from edgeparse.backends.select import create
from edgeparse.bundle import open_bundle
from edgeparse.gallery import Gallery
from training.bars import BARS, headline
from training.data.folds import FOLDS
from training.data.index.load import collect
from training.data.index.records import read
from training.headline import REFERENCE
from training.markdown import table
from training.provenance import measured_of
from training.questions import check_splits, evaluate, looked_at

RESULT = Path(__file__).parent / "results" / "precisions.json"
# All that the bars are of.
CONDITIONS = ("mixed", "clean", "social media")


def lost_by_row(before: dict[str, float], now: dict[str, float]) -> dict[str, float]:
    """How much worse each row's figure is, by its key, in hundredths, or per cent where the row is: of one with a bar on either side, how
    much farther from the middle. Of counts nothing."""
    found = {}
    for bar in BARS:
        if bar.key in before and not bar.unit.startswith(" of "):
            a, b = (bar.merit(of[bar.key]) for of in (before, now))
            found[bar.key] = (a - b) * (1 if bar.unit else 100)
    return found


@click.command()
@click.argument("folder", metavar="BUNDLE", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("index", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def main(folder: Path, index: Path) -> None:
    """Ask BUNDLE in every precision about test pictures of INDEX. training/results/precisions.json keeps what they reach."""
    bundle = open_bundle(folder)
    assert bundle.gallery is not None
    collection = collect(looked_at(read(index), "test"))
    check_splits(bundle, collection)
    gallery = Gallery.load(bundle.read(bundle.gallery))
    figures, known = {}, 0
    for variant in bundle.variants:
        found = evaluate(bundle, create("cpu", bundle, variant), gallery, collection, "test", CONDITIONS)
        figures[variant] = headline({"evaluation": found, "unseen_photos": FOLDS[0].photos})
        known = found["attribution_zoo"]["mixed"]["known_generators"] if "attribution_zoo" in found else 0
    result = {
        "measured": [measured_of(bundle, variant) for variant in bundle.variants],
        "known_zoo": known,
        "figures": figures,
        "points_lost": {n: lost_by_row(figures[REFERENCE], of) for n, of in figures.items() if n != REFERENCE},
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    click.echo(table(("what", *figures), rows(figures)))


def rows(figures: dict[str, dict[str, float]]) -> list[tuple[str, ...]]:
    """What each precision reaches, a row a bar."""
    return [
        (bar.what, *(bar.shown(of[bar.key]) for of in figures.values()))
        for bar in BARS
        if bar.key in figures[REFERENCE]
    ]


if __name__ == "__main__":
    main()
