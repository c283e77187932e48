"""Random processing chains: what happens to a picture between its maker and its reader.

Photos and generated pictures go through chains of one distribution, so that neither file formats nor edits tell them apart. A chain works
on a region little larger than the window. That costs about a millisecond, so every window gets a new chain.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Pixels = NDArray[np.uint8]

# Pixels that a region has beyond the window, for shifts of the compression grid.
MARGIN = 24
SCALES = (0.45, 1.25)
_KERNELS = (
    Image.Resampling.BILINEAR,
    Image.Resampling.BICUBIC,
    Image.Resampling.LANCZOS,
    Image.Resampling.HAMMING,
    Image.Resampling.BOX,
)

_OTHER_ORDERS = ((0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))


@dataclass(frozen=True)
class JpegTables:
    """Quantisation tables and chroma subsampling as cameras, phones and editors wrote them, one entry per distinct encoder setting."""

    options: list[dict[str, Any]]

    def draw(self, rng: np.random.Generator) -> dict[str, Any]:
        """Return Pillow's encoder options of a random entry."""
        return self.options[int(rng.integers(len(self.options)))]


@dataclass(frozen=True)
class Chain:
    """One draw of a chain. A photo and its twin go through the same one.

    Attributes:
        size: side of the window in pixels.
        scale: factor by which the region is resized.
        seed: seed of all other draws.
    """

    size: int
    scale: float
    seed: int

    @property
    def region(self) -> int:
        """Side of the region that the chain reads, in pixels."""
        return int(np.ceil((self.size + MARGIN) / self.scale)) + 8


def draw_chain(rng: np.random.Generator, size: int, side: int) -> Chain:
    """Return a chain for windows of `size` pixels from a picture whose shorter side has `side` pixels."""
    scale = 1.0
    if rng.random() < 0.45:
        low, high = SCALES
        # A small picture cannot be shrunk much and still fill a window.
        scale = float(rng.uniform(min(1.0, max(low, (size + MARGIN) / max(1, side - 8))), high))
    return Chain(size, scale, int(rng.integers(2**62)))


def apply_chain(region: Pixels, chain: Chain, tables: JpegTables, *, saved_first: float) -> Pixels:
    """Return the window, uint8[size, size, 3], that a chain makes of a region, uint8[H, W, 3].

    Args:
        region: part of a picture, at least a window large or extended by reflection.
        chain: what to do.
        tables: encoder settings to choose from.
        saved_first: probability that the picture is first compressed as photos are; 0 if it already was.
    """
    rng = np.random.default_rng(chain.seed)
    pixels = np.ascontiguousarray(region)
    # Drawn whether used or not, so that a photo and its twin stay in step.
    compressed, shift, options = rng.random() < saved_first, rng.integers(0, 8, 2), _jpeg_options(rng, 75, 99, tables)
    if compressed:
        pixels = encode(pixels, "JPEG", **options)[shift[0] :, shift[1] :]
    if chain.scale != 1:
        pixels = _resize(pixels, chain, rng)
    return _hide_content(_cut(_save(_edit(pixels, rng), rng, tables), chain.size, rng), rng)


def encode(pixels: Pixels, file_format: str, **options: Any) -> Pixels:
    """Return uint8[H, W, 3] after encoding by Pillow with these options, and decoding."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, file_format, **options)
    buffer.seek(0)
    with Image.open(buffer) as image:
        return np.asarray(image.convert("RGB"))


def _jpeg_options(rng: np.random.Generator, low: int, high: int, tables: JpegTables) -> dict[str, Any]:
    if tables.options and rng.random() < 0.3:
        return tables.draw(rng)
    return {"quality": int(rng.integers(low, high)), "subsampling": int(rng.choice([0, 1, 2], p=[0.3, 0.1, 0.6]))}


def _resize(pixels: Pixels, chain: Chain, rng: np.random.Generator) -> Pixels:
    height, width = (max(chain.size, round(side * chain.scale)) for side in pixels.shape[:2])
    kernel = _KERNELS[rng.integers(len(_KERNELS))]
    # Pillow filters before it shrinks; phones and browsers often do not.
    if chain.scale < 1 and rng.random() < 0.2:
        return np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
    return np.asarray(Image.fromarray(pixels).resize((width, height), kernel))


def _edit(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    tone, focus, grain, grey = rng.random(4)
    if tone < 0.15:
        pixels = _change_tone(pixels, rng)
    if focus < 0.1:
        pixels = np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 1.2)))))
    elif focus < 0.18:
        mask = ImageFilter.UnsharpMask(float(rng.uniform(0.5, 2)), int(rng.integers(30, 150)), int(rng.integers(0, 4)))
        pixels = np.asarray(Image.fromarray(pixels).filter(mask))
    if grain < 0.1:
        noise = rng.normal(0, float(np.exp(rng.uniform(np.log(0.5), np.log(8)))), pixels.shape)
        # Film grain and high ISO in raw converters are often the same in all channels.
        noise = np.repeat(noise[..., :1], 3, axis=2) if rng.random() < 0.3 else noise
        pixels = np.clip(pixels + noise, 0, 255).round().astype(np.uint8)
    return np.asarray(Image.fromarray(pixels).convert("L").convert("RGB")) if grey < 0.07 else pixels


def _change_tone(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    gain = rng.uniform(0.7, 1.25) * rng.uniform(0.93, 1.07, 3)
    gamma, offset = np.exp(rng.uniform(-0.3, 0.3)), rng.uniform(-15, 15)
    values = 255 * gain[:, None] * (np.arange(256) / 255) ** gamma + offset
    curves = np.clip(values, 0, 255).round().astype(np.uint8)
    return np.stack([curves[channel][pixels[..., channel]] for channel in range(3)], axis=-1)


def _save(pixels: Pixels, rng: np.random.Generator, tables: JpegTables) -> Pixels:
    last = rng.random()
    if last < 0.46:
        pixels = encode(pixels, "JPEG", **_jpeg_options(rng, 50, 98, tables))
        if rng.random() < 0.15:
            # Saved again after a crop, so that the two grids differ.
            top, left = rng.integers(0, 8, 2)
            pixels = encode(pixels[top:, left:], "JPEG", **_jpeg_options(rng, 60, 96, tables))
    elif last < 0.58:
        pixels = encode(pixels, "WEBP", quality=int(rng.integers(60, 98)), method=int(rng.integers(0, 4)))
    elif last < 0.6:
        pixels = encode(pixels, "AVIF", quality=int(rng.integers(50, 95)), speed=10)
    return pixels


def _cut(pixels: Pixels, size: int, rng: np.random.Generator) -> Pixels:
    short = [max(0, size - side) for side in pixels.shape[:2]]
    if any(short):
        pixels = np.pad(pixels, ((0, short[0]), (0, short[1]), (0, 0)), mode="symmetric")
    top, left = (int(rng.integers(0, side - size + 1)) for side in pixels.shape[:2])
    window = pixels[top : top + size, left : left + size]
    if rng.random() < 0.5:
        window = window[:, ::-1]
    return window.transpose(1, 0, 2) if rng.random() < 0.5 else window


def _hide_content(window: Pixels, rng: np.random.Generator) -> Pixels:
    """Weaken what a window shows and keep its high frequencies, so that a network learns traces and not subjects.

    Low frequencies fade towards their mean in half of the windows, colour channels change places in some, and some are negatives.
    """
    fade, mix, negative, order = rng.random(4)
    if fade < 0.5:
        low = cv2.GaussianBlur(window.astype(np.float32), (0, 0), float(rng.uniform(2.5, 10)))
        faded = window - float(rng.uniform(0, 1)) * (low - low.mean((0, 1)))
        window = np.clip(faded, 0, 255).round().astype(np.uint8)
    if mix < 0.3:
        window = window[..., _OTHER_ORDERS[int(order * len(_OTHER_ORDERS))]]
    return 255 - window if negative < 0.15 else window
