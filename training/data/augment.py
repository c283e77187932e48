"""What pictures go through on their way to a reader: resizing, blur, noise, JPEG and WebP. The same for both classes.

A detector that sees only JPEG photos and lossless generated pictures learns the file format, so every picture,
camera or generated, is sent through a chain drawn from one distribution. And one that never saw photos that were enlarged, or much
noise, takes these for traces of a generator, so that some are sent through edits that few pictures have gone through.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter

Pixels = np.ndarray
# A random change of a picture: one edit, or a chain of them.
Change = Callable[[Pixels, np.random.Generator], Pixels]

# By how much a random chain may scale a picture.
SCALES = (0.55, 1.25)
_FILTERS = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)


class Jpeg(NamedTuple):
    """How a JPEG was compressed: quality from 1 to 100 as of libjpeg, and subsampling, 0: 4:4:4, 1: 4:2:2, 2: 4:2:0."""

    quality: int
    subsampling: int


def encoded(pixels: Pixels, format: str, quality: int, subsampling: int = 2) -> bytes:
    """A file in JPEG or WebP of uint8[H, W, 3]. `subsampling` (0: 4:4:4, 2: 4:2:0) is JPEG's."""
    buffer = io.BytesIO()
    options = {"subsampling": subsampling} if format == "JPEG" else {"method": 2}
    Image.fromarray(pixels).save(buffer, format, quality=quality, **options)
    return buffer.getvalue()


def encode(pixels: Pixels, format: str, quality: int, subsampling: int = 2) -> Pixels:
    """Through JPEG or WebP and back; uint8[H, W, 3] -> the same shape."""
    with Image.open(io.BytesIO(encoded(pixels, format, quality, subsampling))) as image:
        return np.asarray(image.convert("RGB"))


def resize(pixels: Pixels, factor: float, resample: Image.Resampling = Image.Resampling.BICUBIC) -> Pixels:
    """Scale both sides by `factor`."""
    height, width = pixels.shape[:2]
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.asarray(Image.fromarray(pixels).resize(size, resample))


def blur(pixels: Pixels, sigma: float) -> Pixels:
    """Gaussian blur, sigma in pixels."""
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(sigma)))


def noise(pixels: Pixels, sigma: float, rng: np.random.Generator) -> Pixels:
    """Gaussian noise, sigma in grey levels of 255."""
    return np.clip(pixels + rng.normal(0, sigma, pixels.shape), 0, 255).round().astype(np.uint8)


def grey(pixels: Pixels) -> Pixels:
    """Without colour, still in three channels."""
    return np.asarray(Image.fromarray(pixels).convert("L").convert("RGB"))


def social_media(pixels: Pixels) -> Pixels:
    """Longest side at most 1080 pixels, then JPEG q75."""
    factor = min(1.0, 1080 / max(pixels.shape[:2]))
    return encode(resize(pixels, factor) if factor < 1 else pixels, "JPEG", 75)


# The conditions of every robustness table, in its order.
CONDITIONS: dict[str, Callable[[Pixels], Pixels]] = {
    "clean": lambda p: p,
    "JPEG q90": lambda p: encode(p, "JPEG", 90),
    "JPEG q75": lambda p: encode(p, "JPEG", 75),
    "JPEG q50": lambda p: encode(p, "JPEG", 50),
    "WebP q80": lambda p: encode(p, "WEBP", 80),
    "resize 0.75": lambda p: resize(p, 0.75),
    "resize 0.5": lambda p: resize(p, 0.5),
    "blur 0.7": lambda p: blur(p, 0.7),
    "social media": social_media,
}


def random_chain(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """One random way to the reader. Often JPEG twice: a photo comes as JPEG, and a second one must not tell the classes apart."""
    pixels = _begun(pixels, rng)
    if rng.random() < 0.35:
        pixels = resize(pixels, float(rng.uniform(*SCALES)), _FILTERS[rng.integers(len(_FILTERS))])
    if rng.random() < 0.1:
        pixels = blur(pixels, float(rng.uniform(0.3, 1.0)))
    if rng.random() < 0.1:
        pixels = noise(pixels, float(rng.uniform(0.5, 4)), rng)
    return _saved(pixels, rng)


def strong_chain(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """One random way with edits of a kind or strength that `random_chain` has none of: one of `EDITS`, seldom two."""
    pixels = _begun(pixels, rng)
    for edit in rng.permutation(len(EDITS))[: 1 + (rng.random() < 0.3)]:
        pixels = EDITS[edit](pixels, rng)
    return _saved(pixels, rng)


def _begun(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    if rng.random() < 0.3:
        # Moves the JPEG grid off the window's corner.
        top, left = rng.integers(0, 8, 2)
        pixels = pixels[top:, left:]
    if rng.random() < 0.35:
        pixels = encode(pixels, "JPEG", int(rng.integers(75, 99)), int(rng.choice([0, 2])))
    return pixels


def _saved(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    last = rng.random()
    if last < 0.5:
        pixels = encode(pixels, "JPEG", int(rng.integers(60, 98)), int(rng.choice([0, 2])))
    elif last < 0.62:
        pixels = encode(pixels, "WEBP", int(rng.integers(65, 98)))
    return pixels


def _enlarged(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """A part, as large as the whole was: a digital zoom, which up-samples as generators do at their end; mostly by a simple factor."""
    factor = float(rng.choice([1.5, 2, 3]) if rng.random() < 0.5 else rng.uniform(1.25, 3))
    height, width = (max(1, round(side / factor)) for side in pixels.shape[:2])
    top, left = rng.integers(0, pixels.shape[0] - height + 1), rng.integers(0, pixels.shape[1] - width + 1)
    return resize(pixels[top : top + height, left : left + width], factor, _some_filter(rng))


def _without_detail(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Made smaller and as large as before."""
    height, width = pixels.shape[:2]
    factor = 0.5 if rng.random() < 0.5 else float(rng.uniform(0.33, 0.8))
    smaller = resize(pixels, factor, _some_filter(rng))
    return np.asarray(Image.fromarray(smaller).resize((width, height), _some_filter(rng)))


def _noisy(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """As of little light, where a camera's software has often smoothed what there is."""
    noisy = noise(pixels, float(np.exp(rng.uniform(np.log(4), np.log(24)))), rng)
    return blur(noisy, float(rng.uniform(0.3, 1.0))) if rng.random() < 0.4 else noisy


def _median(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.MedianFilter(int(rng.choice([3, 5])))))


def _some_filter(rng: np.random.Generator) -> Image.Resampling:
    """One with which pictures are enlarged, by repeating pixels too."""
    return (*_FILTERS, Image.Resampling.NEAREST)[rng.integers(len(_FILTERS) + 1)]


# Those of a heavy chain.
EDITS: tuple[Change, ...] = (
    _enlarged,
    _without_detail,
    lambda pixels, rng: blur(pixels, float(rng.uniform(1, 2.5))),
    _noisy,
    _median,
    lambda pixels, rng: grey(pixels),
)
