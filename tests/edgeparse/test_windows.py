"""Windows: native resolution, inside the image, deterministic, textured ones first."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edgeparse import ImageError, images, windows
from edgeparse.bundle import open_bundle
from tests.conftest import encoded, noise


@settings(max_examples=60, deadline=None)
@given(height=st.integers(1, 700), width=st.integers(1, 700), count=st.integers(1, 20))
def test_windows_are_untouched_pixels(height: int, width: int, count: int) -> None:
    pixels = np.random.default_rng(height * 701 + width).integers(0, 256, (height, width, 3), np.uint8)
    cut = windows.cut(pixels, count)
    assert cut.pixels.shape == (len(cut.corners), 128, 128, 3)
    assert 1 <= len(cut.corners) <= count
    assert len(set(cut.corners)) == len(cut.corners)
    assert cut.pixels.flags["C_CONTIGUOUS"]
    for window, (top, left) in zip(cut.pixels, cut.corners, strict=True):
        inside = pixels[top : top + 128, left : left + 128]
        assert np.array_equal(window[: inside.shape[0], : inside.shape[1]], inside)
        assert top + 128 <= max(height, 128)
        assert left + 128 <= max(width, 128)


def test_a_line_that_would_be_extended_to_gigabytes_is_refused() -> None:
    for shape in ((1, 2_000_000, 3), (2_000_000, 1, 3)):
        with pytest.raises(ImageError, match="crop it") as caught:
            windows.cut(np.zeros(shape, np.uint8), 8)
        assert caught.value.kind == "too_large"
    assert len(windows.cut(np.zeros((1, 20_000, 3), np.uint8), 8).corners) == 8


def test_same_windows_every_time() -> None:
    pixels = noise(600, 500)
    first, second = windows.cut(pixels, 8), windows.cut(pixels.copy(), 8)
    assert first.corners == second.corners
    assert np.array_equal(first.pixels, second.pixels)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(600, 450), (100, 300)])
def test_a_picture_gives_the_windows_of_its_pixels(orientation: int, size: tuple[int, int]) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = images.read(encoded(noise(*size), exif=exif))
    given, expected = windows.cut(picture, 5), windows.cut(picture.pixels, 5)
    assert given.corners == expected.corners
    assert np.array_equal(given.pixels, expected.pixels)
    assert given.pixels.flags["C_CONTIGUOUS"]


def test_small_pictures_are_reflected() -> None:
    pixels = noise(100, 30)
    window = windows.cut(pixels, 8).pixels[0]
    assert np.array_equal(window[:100, 30:60], pixels[:, ::-1])
    assert np.array_equal(window[100:128, :30], pixels[::-1][:28])


def test_texture_comes_first() -> None:
    pixels = np.full((512, 512, 3), 128, np.uint8)
    pixels[256:, 256:] = noise(256, 256)
    corners = windows.cut(pixels, 4).corners
    assert all(top >= 192 and left >= 192 for top, left in corners)


@settings(max_examples=30, deadline=None)
@given(
    height=st.integers(128, 600) | st.integers(1024, 1400),
    width=st.integers(128, 600),
    low=st.integers(0, 253),
    seed=st.integers(0, 99),
)
def test_the_most_textured_are_chosen(height: int, width: int, low: int, seed: int) -> None:
    """The definition of the texture, computed window by window."""
    pixels = np.random.default_rng(seed).integers(low, min(low + seed + 2, 256), (height, width, 3), np.uint8)

    def texture(top: int, left: int) -> float:
        # Of a picture that the grid does not cover only the windows' rows are read.
        top, left = top - top % 4 * (height <= 1024), left - left % 2
        green = pixels[top : top + 128 : 4, left : left + 128 : 2, 1].astype(int)
        usable = (green > 4) & (green < 251)
        down, right = abs(np.diff(green, axis=0))[:, :-1], abs(np.diff(green, axis=1))[:-1]
        return float(((down + right) * usable[:-1, :-1]).sum())

    every = windows.cut(pixels, 64).corners
    best = sorted(every, key=lambda corner: -texture(*corner))[:6]
    assert windows.cut(pixels, 6).corners == tuple(sorted(best))


def test_burnt_out_windows_come_last() -> None:
    pixels = noise(128, 256)
    pixels[:, :128] = np.random.default_rng(0).choice(np.array([0, 255], np.uint8), (128, 128, 1))
    assert windows.cut(pixels, 1).corners == ((0, 128),)


def test_cost_does_not_grow_with_the_picture() -> None:
    assert len(windows.cut(np.zeros((4000, 6000, 3), np.uint8), 64).corners) == 64
    assert len(windows.cut(np.zeros((4000, 6000, 3), np.uint8), 1000).corners) == 64


def test_no_windows_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        windows.cut(noise(10, 10), 0)


def test_frame_cuts_as_the_bundle_says() -> None:
    bundle, picture = open_bundle(), images.read(noise(300, 400))
    cut = windows.frame(bundle, picture, 5)
    expected = windows.cut(picture, 5, bundle.window)
    assert cut.corners == expected.corners
    assert np.array_equal(cut.pixels, expected.pixels)
    resized = windows.frame(replace(bundle, framing="resize", window=64), picture, 5)
    assert (resized.pixels.shape, resized.corners) == ((1, 64, 64, 3), ((0, 0),))
    with pytest.raises(ImageError, match="at least 64 pixels") as caught:
        windows.frame(bundle, images.read(noise(63, 400)), 5)
    assert caught.value.kind == "unsupported"
