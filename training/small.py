"""`python -m training.small BUNDLE INDEX`: what is said of small pictures, cut out of larger ones or shrunk.

A side shorter than a window is extended by its mirror image, and what is mirrored repeats, as a generator's traces do. Where the runtime
draws its line (`edgeparse.windows.smallest`) was decided by validation pictures; beside them are test ones.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image

from edgeparse.backends.base import Backend
from edgeparse.backends.select import create
from edgeparse.bundle import Calibration, open_bundle
from training.data.augment import Pixels
from training.data.dataset import Collection
from training.data.index.load import collect
from training.data.index.records import read
from training.edited import Edit, looked_at, measure
from training.provenance import measured_of

RESULT = Path(__file__).parent / "results" / "small.json"
SIDES = (16, 24, 32, 48, 64, 96, 128)
SPLITS = ("val", "test")


def cut_out(pixels: Pixels, side: int) -> Pixels:
    """The middle, `side` x `side`."""
    top, left = ((length - side) // 2 for length in pixels.shape[:2])
    return pixels[top : top + side, left : left + side]


def shrunk(pixels: Pixels, side: int) -> Pixels:
    """The whole picture, its shorter side `side`."""
    height, width = (max(side, round(length * side / min(pixels.shape[:2]))) for length in pixels.shape[:2])
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))


WAYS = {"cut out": cut_out, "shrunk": shrunk}


def of_every_size(
    backend: Backend, collection: Collection, calibration: Calibration, split: str
) -> dict[str, dict[int, dict[str, Any]]]:
    """What `training.edited` measures, of a split's pictures that were made small, by how and by their shorter side."""
    return {
        how: measure(backend, collection, calibration, {side: Edit(partial(make, side=side)) for side in SIDES}, split)
        for how, make in WAYS.items()
    }


@click.command()
@click.argument("folder", metavar="BUNDLE", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("index", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def main(folder: Path, index: Path) -> None:
    """Make pictures of INDEX small and ask BUNDLE about them. training/results/small.json keeps what it said."""
    bundle = open_bundle(folder)
    assert bundle.calibration is not None
    backend, entries = create("cpu", bundle, None), read(index)
    found = {
        split: of_every_size(backend, collect(looked_at(entries, split)), bundle.calibration, split) for split in SPLITS
    }
    text = json.dumps(measured_of(bundle) | {"splits": found}, indent=1)
    RESULT.write_text(text + "\n")
    click.echo(text)


if __name__ == "__main__":
    main()
