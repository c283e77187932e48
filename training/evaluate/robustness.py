"""Detection on edited and on small pictures.

An edit can imitate a generator's traces or hide the camera's: enlarging up-samples as generators do, and noise covers
the sensor's own. The mirror image that extends a small picture repeats, as traces of generators do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from edgeparse.backends.base import Backend
from edgeparse.manifest import Calibration
from training.data import augment
from training.data.augment import Pixels
from training.data.dataset import Collection
from training.data.index.records import Index
from training.evaluate.predict import native_windows, predict
from training.evaluate.tasks import detection_metrics

# Pictures of each zoo generator.
ZOO_PICTURES = 5
# JPEG quality in which edited pictures are saved.
QUALITY = 90
# Lengths of the shorter side of small pictures, in pixels.
SIDES = (16, 24, 32, 48, 64, 96, 128)
Name = TypeVar("Name", str, int)


class Edit(NamedTuple):
    """An edit of a picture, uint8[H, W, 3], and whether training shows edits of its kind."""

    apply: Callable[[Pixels], Pixels]
    in_training: bool = True


def _with_pillow(change: Callable[[Image.Image], Image.Image]) -> Callable[[Pixels], Pixels]:
    return lambda pixels: np.asarray(change(Image.fromarray(pixels)))


def _noise(pixels: Pixels, sigma: float) -> Pixels:
    return augment.noise(pixels, sigma, np.random.default_rng(0))


def _rotate(image: Image.Image) -> Image.Image:
    """Rotate by ten degrees, and crop the empty corners."""
    width, height = image.size
    rotated = image.rotate(10, Image.Resampling.BICUBIC)
    return rotated.crop((width // 6, height // 6, width - width // 6, height - height // 6))


def _shrink_and_enlarge(pixels: Pixels) -> Pixels:
    return augment.resize(augment.resize(pixels, 0.5), 2)


EDITS = {
    "none": Edit(lambda pixels: pixels),
    "enlarged 1.5 times": Edit(partial(augment.resize, factor=1.5)),
    "enlarged twice": Edit(partial(augment.resize, factor=2)),
    "enlarged three times": Edit(partial(augment.resize, factor=3)),
    "enlarged twice, pixels repeated": Edit(partial(augment.resize, factor=2, resample=Image.Resampling.NEAREST)),
    "halved and enlarged again": Edit(_shrink_and_enlarge),
    "blur of 1 pixel": Edit(partial(augment.blur, sigma=1)),
    "blur of 2 pixels": Edit(partial(augment.blur, sigma=2)),
    "noise of 5 grey levels": Edit(partial(_noise, sigma=5)),
    "noise of 10 grey levels": Edit(partial(_noise, sigma=10)),
    "noise of 20 grey levels": Edit(partial(_noise, sigma=20)),
    "median of 3x3": Edit(_with_pillow(lambda image: image.filter(ImageFilter.MedianFilter(3)))),
    "without colour": Edit(augment.grey),
    "turned by 10 degrees": Edit(_with_pillow(_rotate), in_training=False),
    "sharpened": Edit(_with_pillow(lambda image: image.filter(ImageFilter.UnsharpMask(1, 100, 0))), in_training=False),
    "histogram equalised": Edit(_with_pillow(ImageOps.equalize), in_training=False),
    "256 colours": Edit(_with_pillow(lambda image: image.quantize(256).convert("RGB")), in_training=False),
    "JPEG q30": Edit(partial(augment.encode, format="JPEG", quality=30), in_training=False),
}


def crop_centre(pixels: Pixels, side: int) -> Pixels:
    """Return the middle of a picture, uint8[side, side, 3]."""
    top, left = ((length - side) // 2 for length in pixels.shape[:2])
    return pixels[top : top + side, left : left + side]


def shrink(pixels: Pixels, side: int) -> Pixels:
    """Return the whole picture with a shorter side of `side` pixels."""
    height, width = (max(side, round(length * side / min(pixels.shape[:2]))) for length in pixels.shape[:2])
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))


RESIZERS = {"cropped": crop_centre, "shrunk": shrink}


def measure_edits(
    backend: Backend,
    collection: Collection,
    calibration: Calibration,
    edits: Mapping[Name, Edit] = EDITS,  # type: ignore[assignment]
    split: str = "test",
) -> dict[Name, dict[str, Any]]:
    """Return the detection metrics after each edit and a JPEG, for generators of the zoo and for public ones."""
    select = partial(collection.select, split=split)
    compared = {
        "zoo": (select(camera=True, zoo=True), select(camera=False, zoo=True, source_split=split)),
        "public": (select(camera=True, zoo=False), select(camera=False, zoo=False, source_split=split)),
    }
    found: dict[Name, dict[str, Any]] = {}
    for name, edit in edits.items():
        frame = partial(_edited_windows, edit=edit.apply)
        found[name] = {"in_training": edit.in_training}
        for kind, both in compared.items():
            camera, generated = (predict(backend, samples, "clean", frame, outputs=["generated"]) for samples in both)
            all_metrics = detection_metrics(camera, generated, collection, calibration)
            kept = ("auc", "auc_interval", "camera", "generated", "pictures")
            found[name][kind] = {key: all_metrics[key] for key in kept}
    return found


def measure_sizes(
    backend: Backend, collection: Collection, calibration: Calibration, split: str
) -> dict[str, dict[int, dict[str, Any]]]:
    """Return the detection metrics of small pictures, by how they became small and by their shorter side."""
    return {
        name: measure_edits(
            backend, collection, calibration, {side: Edit(partial(resize, side=side)) for side in SIDES}, split
        )
        for name, resize in RESIZERS.items()
    }


def _edited_windows(pixels: Pixels, edit: Callable[[Pixels], Pixels]) -> np.ndarray:
    return native_windows(augment.encode(edit(pixels), "JPEG", QUALITY))


def select_entries(index: Index, split: str = "test") -> Index:
    """Return the part of an index that `measure_edits` reads: `ZOO_PICTURES` of each of the zoo's generators."""
    counts: Counter[str] = Counter()
    entries = []
    for entry in index.entries:
        source = index.sources[entry.source]
        if entry.split == split and (source.labels is None or source.split == split):
            counts[entry.source] += source.zoo and source.labels is not None
            entries += [entry] if counts[entry.source] <= ZOO_PICTURES else []
    return replace(index, entries=entries)
