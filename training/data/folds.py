"""Folds that leave other generators and other photo sources out, so that a figure does not hang on which ones were held out.

Fold 0 is the split that data are loaded with. Over the folds every public generator is a test one once, with its family as far as that
goes, and so is every photo source but ImageNet, which has nearly half of the photos: without it a fold is another one, of half the data.
It is left out of any fold on demand. Over six folds, of which a study runs the first four, every generator of the zoo is a test one once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from training.data.dataset import Collection, Generator, Sample
from training.data.sources import TEST_GENERATORS, VAL_GENERATORS, WHOLE_TEST_SETS, split_of
from training.zoo.files import zoo_splits


@dataclass(frozen=True)
class Fold:
    """Public generators for test and for validation, and photo sources of which training sees nothing."""

    test: frozenset[str]
    val: frozenset[str]
    photos: frozenset[str]


FOLDS = (
    Fold(TEST_GENERATORS, VAL_GENERATORS, WHOLE_TEST_SETS),
    # Image to image. The photos of pix2pix's own data are left out with it.
    Fold(
        frozenset({"cyclegan-h2z-base", "cyclegan-h2z-finetune", "pix2pix-facades_label2photo", "pix2pix-map2sat"}),
        frozenset({"disco-diffusion", "sd1-customdiffusion", "dalle-mini"}),
        frozenset({"pix2pix-real_B-facades_label2photo", "pix2pix-real_B-map2sat", "cq100"}),
    ),
    # Stable Diffusion 1 and what was fine-tuned from it; and the autoencoder, whose twins are partly of Urban100.
    Fold(
        frozenset({"sd1", "sd1-384px", "sd1-customdiffusion", "stability-beta-jul2022", "taef2-reconstruction"}),
        frozenset({"disco-diffusion", "pix2pix-facades_label2photo", "dalle-mini"}),
        frozenset({"urban100"}),
    ),
    # Diffusion before it. The fork of its architecture is for validation, so that training sees none.
    Fold(
        frozenset({"latent-diffusion", "glid-3-xl", "majesty-diffusion", "disco-diffusion"}),
        frozenset({"ldm-fourier", "pix2pix-facades_label2photo", "stylegan2-256resized"}),
        frozenset({"bsds500"}),
    ),
)
_MOVING = frozenset[str]().union(*(fold.test | fold.val for fold in FOLDS))


def unseen_photos(number: int, left_out: Iterable[str] = ()) -> frozenset[str]:
    """Photo sources of which a fold's training sees nothing where these are left out, too."""
    return FOLDS[number].photos.union(left_out)


def refold(collection: Collection, number: int, left_out: Iterable[str] = ()) -> Collection:
    """A collection, loaded with the splits of fold 0, with those of another; it shares the pixels. Photo sources that are `left_out` are
    all for test, beside those of the fold.

    A public generator that no fold names stays where it is. A public picture that was made from a photo is left out where its generator
    is for test or validation and its photo is not.
    """
    fold = replace(FOLDS[number], photos=unseen_photos(number, left_out))
    zoo = zoo_splits({s.name: s.labels for s in collection.sources if s.zoo and s.labels is not None}, number)
    folded = Collection([], [])
    for source in collection.sources:
        split = zoo.get(source.name, source.split) if source.zoo else _public_split(source, fold)
        folded.sources.append(replace(source, split=split))
    for sample in collection.samples:
        split = _sample_split(sample, collection.sources[sample.source], folded.sources[sample.source], fold)
        if split is not None:
            folded.samples.append(replace(sample, split=split))
    return folded


def _public_split(source: Generator, fold: Fold) -> str:
    if source.labels is None or source.name not in _MOVING:
        return source.split
    return "test" if source.name in fold.test else "val" if source.name in fold.val else "train"


def _sample_split(sample: Sample, before: Generator, now: Generator, fold: Fold) -> str | None:
    """Where a picture of a source goes that was `before` and is `now`; None where it has no place."""
    own = sample.split if sample.photo is None else _photo_split(sample.photo, sample.split, fold)
    if now.labels is None or now.zoo:
        return own
    if now.split != "train":
        return now.split if sample.photo is None or own == now.split else None
    if before.split != "train" and sample.photo is None:
        # Of the pictures of a generator that was all for test, some stay so that it can be named.
        return split_of(sample.content())
    return own


def _photo_split(photo: str, split: str, fold: Fold) -> str:
    """The split of a photo, SET/FILE, that is in `split` in fold 0."""
    name = photo.partition("/")[0]
    # Sets with near-duplicates stay whole.
    return "test" if name in fold.photos else "train" if name in WHOLE_TEST_SETS else split
