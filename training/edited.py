"""`python -m training.edited BUNDLE INDEX`: what is said of pictures that were edited, photos above all.

What an edit does to a photo can look like a generator's trace: enlarging up-samples as generators do at their end, and noise hides the
camera's own. Of each edit the card says whether training shows any like it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import click
import numpy as np
from PIL import Image, ImageFilter, ImageOps

from edgeparse.backends.base import Backend
from edgeparse.backends.select import create
from edgeparse.bundle import Calibration, open_bundle
from training.data import augment
from training.data.dataset import Collection
from training.data.index.load import collect
from training.data.index.records import Index, read
from training.predictions import native, predict
from training.provenance import measured_of
from training.questions import detection

RESULT = Path(__file__).parent / "results" / "edited.json"
# Pictures of each zoo generator.
FEW = 5
# The JPEG quality in which what was edited is saved.
QUALITY = 90
# What an edit is called by those who ask about it.
Name = TypeVar("Name", str, int)


class Edit(NamedTuple):
    """uint8[H, W, 3] -> the same kind, of another size maybe; and whether training shows pictures after others of its kind."""

    apply: Callable[[augment.Pixels], augment.Pixels]
    learnt: bool = True


def _by_pillow(change: Callable[[Image.Image], Image.Image]) -> Callable[[augment.Pixels], augment.Pixels]:
    return lambda pixels: np.asarray(change(Image.fromarray(pixels)))


def _noise(pixels: augment.Pixels, sigma: float) -> augment.Pixels:
    return augment.noise(pixels, sigma, np.random.default_rng(0))


def _turned(image: Image.Image) -> Image.Image:
    """By ten degrees, without the corners that are empty then."""
    width, height = image.size
    turned = image.rotate(10, Image.Resampling.BICUBIC)
    return turned.crop((width // 6, height // 6, width - width // 6, height - height // 6))


def _halved_and_back(pixels: augment.Pixels) -> augment.Pixels:
    return augment.resize(augment.resize(pixels, 0.5), 2)


EDITS = {
    "none": Edit(lambda pixels: pixels),
    "enlarged 1.5 times": Edit(partial(augment.resize, factor=1.5)),
    "enlarged twice": Edit(partial(augment.resize, factor=2)),
    "enlarged three times": Edit(partial(augment.resize, factor=3)),
    "enlarged twice, pixels repeated": Edit(partial(augment.resize, factor=2, resample=Image.Resampling.NEAREST)),
    "halved and enlarged again": Edit(_halved_and_back),
    "blur of 1 pixel": Edit(partial(augment.blur, sigma=1)),
    "blur of 2 pixels": Edit(partial(augment.blur, sigma=2)),
    "noise of 5 grey levels": Edit(partial(_noise, sigma=5)),
    "noise of 10 grey levels": Edit(partial(_noise, sigma=10)),
    "noise of 20 grey levels": Edit(partial(_noise, sigma=20)),
    "median of 3x3": Edit(_by_pillow(lambda image: image.filter(ImageFilter.MedianFilter(3)))),
    "without colour": Edit(augment.grey),
    "turned by 10 degrees": Edit(_by_pillow(_turned), learnt=False),
    "sharpened": Edit(_by_pillow(lambda image: image.filter(ImageFilter.UnsharpMask(1, 100, 0))), learnt=False),
    "histogram equalised": Edit(_by_pillow(ImageOps.equalize), learnt=False),
    "256 colours": Edit(_by_pillow(lambda image: image.quantize(256).convert("RGB")), learnt=False),
    "JPEG q30": Edit(partial(augment.encode, format="JPEG", quality=30), learnt=False),
}


def measure(
    backend: Backend,
    collection: Collection,
    calibration: Calibration,
    edits: Mapping[Name, Edit] = EDITS,
    split: str = "test",
) -> dict[Name, dict[str, Any]]:
    """Of each edit, by its name: how well photos and generated pictures are told apart that both went through it and then through JPEG, and
    the share of each that is called camera, inconclusive and generated; of the zoo and of public generators, those of a split."""
    held = partial(collection.select, split=split)
    compared = {
        "zoo": (held(camera=True, zoo=True), held(camera=False, zoo=True, source_split=split)),
        "public": (held(camera=True, zoo=False), held(camera=False, zoo=False, source_split=split)),
    }
    found: dict[Name, dict[str, Any]] = {}
    for name, edit in edits.items():
        frame = partial(_windows, edit=edit.apply)
        found[name] = {"learnt": edit.learnt}
        for kind, both in compared.items():
            photos, made = (predict(backend, samples, "clean", frame, outputs=["generated"]) for samples in both)
            of = detection(photos, made, collection, calibration)
            found[name][kind] = {key: of[key] for key in ("auc", "auc_interval", "camera", "generated", "pictures")}
    return found


def _windows(pixels: augment.Pixels, edit: Callable[[augment.Pixels], augment.Pixels]) -> np.ndarray:
    return native(augment.encode(edit(pixels), "JPEG", QUALITY))


def looked_at(index: Index, split: str = "test") -> Index:
    """The part of an index that `measure` looks at: pictures of a split, of its generators, and `FEW` of each of the zoo's."""
    counts: Counter[str] = Counter()
    entries = []
    for entry in index.entries:
        source = index.sources[entry.source]
        if entry.split == split and (source.labels is None or source.split == split):
            of_zoo = source.zoo and source.labels is not None
            counts[entry.source] += of_zoo
            entries += [entry] if counts[entry.source] <= FEW else []
    return replace(index, entries=entries)


@click.command()
@click.argument("folder", metavar="BUNDLE", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("index", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def main(folder: Path, index: Path) -> None:
    """Edit test pictures of INDEX and ask BUNDLE about them. training/results/edited.json keeps what it said."""
    bundle = open_bundle(folder)
    assert bundle.calibration is not None
    found = measure(create("cpu", bundle, None), collect(looked_at(read(index))), bundle.calibration)
    text = json.dumps(measured_of(bundle) | {"edits": found}, indent=1)
    RESULT.write_text(text + "\n")
    click.echo(text)


if __name__ == "__main__":
    main()
