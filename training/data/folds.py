"""Cross-validation folds over generators and photo sources, so that a figure does not depend on one choice of held-out sources.

Fold 0 is the split that data are loaded with. Over the folds, every public generator is in test once, mostly together with its family.
So is every photo source except ImageNet. ImageNet has nearly half of the photos, and a fold without it would train on half of the data;
it can be left out of any fold on request. Every zoo generator is in test once over six folds. Studies run the first four.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from training.data.dataset import Collection, Generator, Sample
from training.data.sources import TEST_GENERATORS, VAL_GENERATORS, WHOLE_TEST_SETS, split_of
from training.zoo.files import zoo_splits


@dataclass(frozen=True)
class Fold:
    """Public generators in test and in validation, and photo sources that training never sees."""

    test: frozenset[str]
    val: frozenset[str]
    photos: frozenset[str]


FOLDS = (
    Fold(TEST_GENERATORS, VAL_GENERATORS, WHOLE_TEST_SETS),
    # Image to image. The photos of pix2pix's own data are held out with it.
    Fold(
        frozenset({"cyclegan-h2z-base", "cyclegan-h2z-finetune", "pix2pix-facades_label2photo", "pix2pix-map2sat"}),
        frozenset({"disco-diffusion", "sd1-customdiffusion", "dalle-mini"}),
        frozenset({"pix2pix-real_B-facades_label2photo", "pix2pix-real_B-map2sat", "cq100"}),
    ),
    # Stable Diffusion 1, its fine-tuned models, and the autoencoder, which reconstructed photos of Urban100 among others.
    Fold(
        frozenset({"sd1", "sd1-384px", "sd1-customdiffusion", "stability-beta-jul2022", "taef2-reconstruction"}),
        frozenset({"disco-diffusion", "pix2pix-facades_label2photo", "dalle-mini"}),
        frozenset({"urban100"}),
    ),
    # Earlier diffusion models. ldm-fourier, a fork of their architecture, is in validation, so that training sees none of them.
    Fold(
        frozenset({"latent-diffusion", "glid-3-xl", "majesty-diffusion", "disco-diffusion"}),
        frozenset({"ldm-fourier", "pix2pix-facades_label2photo", "stylegan2-256resized"}),
        frozenset({"bsds500"}),
    ),
)
_MOVING = frozenset[str]().union(*(fold.test | fold.val for fold in FOLDS))


def unseen_photos(number: int, left_out: Iterable[str] = ()) -> frozenset[str]:
    """Return the photo sources that training on a fold never sees, including `left_out`."""
    return FOLDS[number].photos.union(left_out)


def refold(collection: Collection, number: int, left_out: Iterable[str] = ()) -> Collection:
    """Return a copy of a collection with the splits of another fold. The copy shares the pixels.

    A public generator that no fold names keeps its split. If a public generator is in test or validation, its pictures that were made
    from a photo of another split are dropped.

    Args:
        collection: collection with the splits of fold 0.
        number: index into `FOLDS`.
        left_out: photo sources that go to test besides those of the fold.
    """
    fold = replace(FOLDS[number], photos=unseen_photos(number, left_out))
    zoo: dict[str, str] = zoo_splits(
        {s.name: s.labels for s in collection.sources if s.zoo and s.labels is not None}, number
    )
    folded = Collection([], [])
    for source in collection.sources:
        source_split = zoo.get(source.name, source.split) if source.zoo else _public_split(source, fold)
        folded.sources.append(replace(source, split=source_split))
    for sample in collection.samples:
        split = _sample_split(sample, collection.sources[sample.source], folded.sources[sample.source], fold)
        if split is not None:
            folded.samples.append(replace(sample, split=split))
    return folded


def _public_split(source: Generator, fold: Fold) -> str:
    if source.labels is None or source.name not in _MOVING:
        return source.split
    return "test" if source.name in fold.test else "val" if source.name in fold.val else "train"


def _sample_split(sample: Sample, old: Generator, new: Generator, fold: Fold) -> str | None:
    """Return the split of a picture whose source changed from `old` to `new`, or None to drop it."""
    own = sample.split if sample.photo is None else _photo_split(sample.photo, sample.split, fold)
    if new.labels is None or new.zoo:
        return own
    if new.split != "train":
        return new.split if sample.photo is None or own == new.split else None
    if old.split != "train" and sample.photo is None:
        # All pictures were in test. Some stay there, so that attribution to this generator can be tested.
        return split_of(sample.content())
    return own


def _photo_split(photo: str, split: str, fold: Fold) -> str:
    """Return the split of a photo, named SET/FILE, whose split in fold 0 is `split`."""
    name = photo.partition("/")[0]
    # Sets with near-duplicates stay whole.
    return "test" if name in fold.photos else "train" if name in WHOLE_TEST_SETS else split
