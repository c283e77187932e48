"""`python -m training.enlarged BUNDLE INDEX`: what is said of pictures that were enlarged, photos above all.

Enlarging a photo up-samples it, as generators do at their end: a digital zoom leaves traces like theirs.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import click
import numpy as np

from edgeparse.backends.base import Backend
from edgeparse.backends.select import create
from edgeparse.bundle import Calibration, open_bundle
from training import codecs
from training.dataset import Collection
from training.evaluate import detection
from training.index.lines import Index, read
from training.index.load import collect
from training.predictions import native, predict

RESULT = Path(__file__).parent / "results" / "enlarged.json"
# How many times as long sides become.
FACTORS = (1.0, 1.25, 1.5, 2.0, 3.0)


def enlarged(pixels: np.ndarray, factor: float) -> np.ndarray:
    """uint8[H, W, 3], each side `factor` times as long, then JPEG of quality 90."""
    return codecs.encode(codecs.resize(pixels, factor), "JPEG", 90)


def measure(backend: Backend, collection: Collection, calibration: Calibration) -> list[dict[str, object]]:
    """Of each factor: how well photos and pictures of public generators are told apart that both were enlarged, and the share of each
    that is called camera, inconclusive and generated."""
    photos, made = (
        collection.select(split="test", camera=True, zoo=False),
        collection.select(split="test", camera=False, zoo=False, source_split="test"),
    )
    found = []
    for factor in FACTORS:
        shown = partial(_windows, factor=factor)
        of = detection(
            *(predict(backend, samples, "clean", frame=shown) for samples in (photos, made)), collection, calibration
        )
        found.append({"factor": factor, **{key: of[key] for key in ("auc", "camera", "generated", "pictures")}})
    return found


def _windows(pixels: np.ndarray, factor: float) -> np.ndarray:
    return native(enlarged(pixels, factor))


def looked_at(index: Index) -> Index:
    """The part of an index that `measure` looks at."""
    entries = [e for e in index.entries if e.split == "test" and not index.sources[e.source].zoo]
    return replace(index, entries=entries)


@click.command()
@click.argument("folder", metavar="BUNDLE", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("index", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def main(folder: Path, index: Path) -> None:
    """Enlarge the test pictures of INDEX and ask BUNDLE about them. training/results/enlarged.json keeps what it said."""
    bundle = open_bundle(folder)
    assert bundle.calibration is not None
    found = measure(create("cpu", bundle, None), collect(looked_at(read(index))), bundle.calibration)
    text = json.dumps({"bundle": bundle.label, "bundle_sha256": bundle.sha256, "factors": found}, indent=1)
    RESULT.write_text(text + "\n")
    click.echo(text)


if __name__ == "__main__":
    main()
