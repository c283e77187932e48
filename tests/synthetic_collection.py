"""A collection with few, tiny pictures that has every public generator, photo source and split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tests.conftest import noise
from training.data.dataset import Collection, Generator, Sample
from training.labels import CONTINUOUS, DISCRETE, Labels
from training.zoo.files import zoo_splits

FAMILIES = ("vae", "flow")
SPLITS = ("train", "val", "test")


def labels(family: str, number: int) -> Labels:
    """Return labels that differ for every number."""
    losses = (("L1",), ("L2",), ("L1", "KL"))[number % 3]
    discrete = {name: values[number % len(values)] for name, values in DISCRETE.items()}
    return Labels(family, dict.fromkeys(CONTINUOUS, 2.0 + number), discrete, losses)


PUBLIC = {
    **dict.fromkeys(("cyclegan-h2z-base", "glid-3-xl", "sd1", "taef2-reconstruction"), "train"),
    **dict.fromkeys(("disco-diffusion", "esrgan__cszn", "sd1-customdiffusion", "sd3.5-large"), "val"),
    **dict.fromkeys(("dalle-mini", "ldm-fourier", "stylegan2-256resized"), "test"),
}
PHOTOS = ("bsds500", "imagenet1k", "urban100")


def synthetic_collection(
    public: Mapping[str, str] = PUBLIC, sets: Sequence[str] = PHOTOS, side: int = 48, *, zoo: bool = True
) -> Collection:
    """Return twelve zoo generators, the `public` ones with their splits, and two photos per source and split.

    Zoo pictures show the first of two photos. The public autoencoder's pictures show photos of Urban100.
    """
    collection = Collection([], [])
    names = [f"{family}-{i:03d}" for family in FAMILIES for i in range(6)]
    zoo_labels = {name: labels(name.split("-")[0], int(name[-3:])) for name in names}
    photos = [(f"{name}/{split}{i}.jpg", split) for name in sorted(sets) for split in SPLITS for i in range(2)]
    for cropped in (False, True) if zoo else (False,):
        for name in sorted(sets):
            collection.sources.append(Generator(name, None, cropped, "train"))
            for i, (photo, split) in enumerate(photos):
                if photo.startswith(f"{name}/"):
                    sample = Sample(noise(side, side, i), len(collection.sources) - 1, split, photo)
                    collection.samples.append(sample)
    splits = zoo_splits(zoo_labels)
    for name, known in zoo_labels.items() if zoo else ():
        collection.sources.append(Generator(name, known, True, splits[name]))
        for i, (photo, split) in enumerate(photos[::2]):
            pixels = noise(side, side, i) // 16 * 16
            collection.samples.append(Sample(pixels, len(collection.sources) - 1, split, photo, made=True))
    for name, split in sorted(public.items()):
        collection.sources.append(Generator(name, Labels("diffusion", {}, {}, None), False, split))
        for i, part in enumerate(("train", "test", "train", "test")):
            photo = f"urban100/{part}{i // 2}.jpg" if name == "taef2-reconstruction" else None
            pixels = np.roll(noise(side, side, 900 + i), len(collection.samples), axis=0) // 32 * 32
            sample = Sample(pixels, len(collection.sources) - 1, part if split == "train" else split, photo, made=True)
            collection.samples.append(sample)
    return collection
