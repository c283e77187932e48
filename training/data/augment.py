"""Random processing of pictures: resizing, blur, noise, JPEG and WebP, with the same distribution for both classes.

A detector trained on JPEG photos and lossless generated pictures learns the file format, so every picture passes a chain from one
distribution. A detector that never saw enlarged or noisy photos takes these for generated, so some pictures also pass rare, strong edits.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter

Pixels = np.ndarray
# A random edit, or a chain of them.
Change = Callable[[Pixels, np.random.Generator], Pixels]

# Range of the scale factor of a random chain.
SCALES = (0.55, 1.25)
_FILTERS = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)


class Jpeg(NamedTuple):
    """JPEG settings: libjpeg quality from 1 to 100, and subsampling (0 for 4:4:4, 1 for 4:2:2, 2 for 4:2:0)."""

    quality: int
    subsampling: int


def encoded(pixels: Pixels, format: str, quality: int, subsampling: int = 2) -> bytes:
    """Encode uint8[H, W, 3] as a JPEG or WebP file. `subsampling` (0 for 4:4:4, 2 for 4:2:0) applies to JPEG."""
    buffer = io.BytesIO()
    options = {"subsampling": subsampling} if format == "JPEG" else {"method": 2}
    Image.fromarray(pixels).save(buffer, format, quality=quality, **options)
    return buffer.getvalue()


def encode(pixels: Pixels, format: str, quality: int, subsampling: int = 2) -> Pixels:
    """Compress uint8[H, W, 3] as JPEG or WebP, and decode it to the same shape."""
    with Image.open(io.BytesIO(encoded(pixels, format, quality, subsampling))) as image:
        return np.asarray(image.convert("RGB"))


def resize(pixels: Pixels, factor: float, resample: Image.Resampling = Image.Resampling.BICUBIC) -> Pixels:
    """Scale both sides by `factor`."""
    height, width = pixels.shape[:2]
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.asarray(Image.fromarray(pixels).resize(size, resample))


def blur(pixels: Pixels, sigma: float) -> Pixels:
    """Apply Gaussian blur with sigma in pixels."""
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(sigma)))


def noise(pixels: Pixels, sigma: float, rng: np.random.Generator) -> Pixels:
    """Add Gaussian noise with sigma in grey levels (0 to 255)."""
    return np.clip(pixels + rng.normal(0, sigma, pixels.shape), 0, 255).round().astype(np.uint8)


def grey(pixels: Pixels) -> Pixels:
    """Remove the colour. The result still has three channels."""
    return np.asarray(Image.fromarray(pixels).convert("L").convert("RGB"))


def social_chain(pixels: Pixels) -> Pixels:
    """Save as an upload, shrink as a platform does for a phone, and save again."""
    return encode(resize(encode(pixels, "JPEG", 92), 0.66), "JPEG", 80)


# What happens to a picture on its way to a detector; figures are given for each.
CONDITIONS: dict[str, Callable[[Pixels], Pixels]] = {
    "as is": lambda pixels: pixels,
    "JPEG q90": lambda pixels: encode(pixels, "JPEG", 90),
    "resize 0.75 + q75": lambda pixels: encode(resize(pixels, 0.75), "JPEG", 75),
    "social chain": social_chain,
}


def random_chain(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Apply a random chain. Often compresses twice: photos are JPEG already, so a second compression must not separate the classes."""
    pixels = _maybe_shift_and_compress(pixels, rng)
    if rng.random() < 0.35:
        pixels = resize(pixels, float(rng.uniform(*SCALES)), _FILTERS[rng.integers(len(_FILTERS))])
    if rng.random() < 0.1:
        pixels = blur(pixels, float(rng.uniform(0.3, 1.0)))
    if rng.random() < 0.1:
        pixels = noise(pixels, float(rng.uniform(0.5, 4)), rng)
    return _maybe_save(pixels, rng)


def strong_chain(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Apply a random chain with one of `EDITS`, seldom two. `random_chain` has no edits of these kinds or strengths."""
    pixels = _maybe_shift_and_compress(pixels, rng)
    for edit in rng.permutation(len(EDITS))[: 1 + (rng.random() < 0.3)]:
        pixels = EDITS[edit](pixels, rng)
    return _maybe_save(pixels, rng)


def _maybe_shift_and_compress(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    if rng.random() < 0.3:
        # Shifts the JPEG grid relative to the picture.
        top, left = rng.integers(0, 8, 2)
        pixels = pixels[top:, left:]
    if rng.random() < 0.35:
        pixels = encode(pixels, "JPEG", int(rng.integers(75, 99)), int(rng.choice([0, 2])))
    return pixels


def _maybe_save(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    last = rng.random()
    if last < 0.5:
        pixels = encode(pixels, "JPEG", int(rng.integers(60, 98)), int(rng.choice([0, 2])))
    elif last < 0.62:
        pixels = encode(pixels, "WEBP", int(rng.integers(65, 98)))
    return pixels


def _enlarge(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Enlarge a part to the size of the whole, often by a simple factor. Such a digital zoom up-samples as the end of a generator does."""
    factor = float(rng.choice([1.5, 2, 3]) if rng.random() < 0.5 else rng.uniform(1.25, 3))
    height, width = (max(1, round(side / factor)) for side in pixels.shape[:2])
    top, left = rng.integers(0, pixels.shape[0] - height + 1), rng.integers(0, pixels.shape[1] - width + 1)
    return resize(pixels[top : top + height, left : left + width], factor, _random_filter(rng))


def _lose_detail(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Shrink the picture and enlarge it again."""
    height, width = pixels.shape[:2]
    factor = 0.5 if rng.random() < 0.5 else float(rng.uniform(0.33, 0.8))
    smaller = resize(pixels, factor, _random_filter(rng))
    return np.asarray(Image.fromarray(smaller).resize((width, height), _random_filter(rng)))


def _add_noise(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Add the noise of low light. Camera software often smooths it, so some are blurred too."""
    noisy = noise(pixels, float(np.exp(rng.uniform(np.log(4), np.log(24)))), rng)
    return blur(noisy, float(rng.uniform(0.3, 1.0))) if rng.random() < 0.4 else noisy


def _median_filter(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.MedianFilter(int(rng.choice([3, 5])))))


def _random_filter(rng: np.random.Generator) -> Image.Resampling:
    """Return a random filter, including nearest neighbour."""
    return (*_FILTERS, Image.Resampling.NEAREST)[rng.integers(len(_FILTERS) + 1)]


# Edits of `strong_chain`.
EDITS: tuple[Change, ...] = (
    _enlarge,
    _lose_detail,
    lambda pixels, rng: blur(pixels, float(rng.uniform(1, 2.5))),
    _add_noise,
    _median_filter,
    lambda pixels, rng: grey(pixels),
)
