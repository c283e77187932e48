"""The open watermarks: found on PNG, lost on JPEG, silent on photos."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeparse import provenance
from edgeparse.provenance import watermark
from edgeparse.provenance.watermark import MESSAGES, Message
from tests.edgeparse.provenance import build

PHOTOS = os.environ.get("EDGEPARSE_PHOTOS")


def mark(image: np.ndarray, bits: tuple[int, ...], centre: float) -> np.ndarray:
    """Embed bits as invisible-watermark does: the largest of 15 coefficients of each block of U is moved."""
    red, green, blue = (image[:, :, channel].astype(np.float64) for channel in range(3))
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    chroma = 0.492 * (blue - luma) + centre
    rows, columns = chroma.shape[0] // 8 * 8, chroma.shape[1] // 8 * 8
    squares = chroma[:rows, :columns].reshape(rows // 2, 2, columns // 2, 2)
    band = squares.sum(axis=(1, 3)) / 2
    blocks = band.reshape(rows // 8, 4, columns // 8, 4).transpose(0, 2, 1, 3).reshape(-1, 16)
    index = np.abs(blocks[:, 1:]).argmax(axis=1) + 1
    every = np.arange(len(blocks))
    value = blocks[every, index]
    bit = np.array(bits)[every % len(bits)]
    moved = (np.abs(value) // 36 + 0.25 + 0.5 * bit) * 36
    delta = np.zeros_like(blocks)
    delta[every, index] = np.where(value >= 0, moved, -moved) - value
    spread = delta.reshape(rows // 8, columns // 8, 4, 4).transpose(0, 2, 1, 3).reshape(rows // 2, columns // 2)
    chroma[:rows, :columns] += np.kron(spread / 2, np.ones((2, 2)))
    chroma -= centre
    new_blue, new_red = luma + chroma / 0.492, red
    new_green = (luma - 0.299 * new_red - 0.114 * new_blue) / 0.587
    return np.clip(np.rint(np.dstack([new_red, new_green, new_blue])), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: f"{m.name} {len(m.bits)}")
@pytest.mark.parametrize("centre", [128.0, 0.5])
def test_found_as_png_and_lost_as_jpeg(message: Message, centre: float) -> None:
    image = mark(build.pixels(512, 768), message.bits, centre)
    [signal] = provenance.read(build.encode(image, "PNG")).signals
    assert (signal.says, signal.name, signal.strength) == ("watermark", message.name, "medium")
    assert f"of {len(message.bits)} equal" in signal.details["bits"]
    assert provenance.read(build.encode(image, "PNG"), decode=False).signals == ()
    assert provenance.read(build.encode(image, "WEBP", lossless=True)).signals == (
        provenance.read(build.encode(image, "WEBP", lossless=True), pixels=image).signals
    )
    assert provenance.read(build.encode(image, "JPEG", quality=90)).signals == ()


def test_a_jpeg_is_never_decoded_for_it() -> None:
    image = mark(build.pixels(512, 512), MESSAGES[0].bits, 128.0)
    assert provenance.read(build.encode(image, "JPEG", quality=100), pixels=image).signals == ()


@pytest.mark.parametrize(
    "image",
    [
        build.pixels(512, 512),
        np.zeros((512, 512, 3), np.uint8),
        np.full((512, 512, 3), 255, np.uint8),
        np.random.default_rng(1).integers(0, 256, (512, 512, 3), np.uint8),
        np.repeat(np.random.default_rng(2).integers(0, 256, (512, 512, 1), np.uint8), 3, axis=2),
        np.broadcast_to(np.arange(512, dtype=np.uint16)[:, None, None] // 2, (512, 512, 3)).astype(np.uint8),
    ],
)
def test_silent_on_other_pictures(image: np.ndarray) -> None:
    assert watermark.find(image) is None


def test_a_message_of_another_generator_is_not_ours() -> None:
    other = tuple(1 - bit for bit in MESSAGES[0].bits)
    assert watermark.find(mark(build.pixels(512, 512), other, 128.0)) is None


def test_small_pictures_are_left_out() -> None:
    image = mark(build.pixels(128, 128), MESSAGES[0].bits, 128.0)
    assert provenance.read(build.encode(image, "PNG")).signals == ()


@pytest.mark.skipif(not PHOTOS, reason="EDGEPARSE_PHOTOS names no folder of photos")
def test_silent_on_photos() -> None:
    files = [p for p in Path(PHOTOS or "").rglob("*") if p.suffix in (".jpg", ".png", ".webp")]
    assert files
    alarms = [p for p in files if watermark.find(np.asarray(Image.open(p).convert("RGB")))]
    assert alarms == []
