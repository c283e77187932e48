"""Cut an image into windows at native resolution: resizing would destroy the traces that the network reads.

Windows lie on a deterministic grid. Those with the most texture come first, because smooth areas hold few traces.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeparse.bundle import Bundle
from edgeparse.errors import ImageError
from edgeparse.images import MAX_PIXELS, Picture, out_of_memory

# Default side of a window, in pixels.
SIZE = 128
# Grid positions along each side, at most.
GRID = 8
# Texture is measured on every DOWN-th row and every ACROSS-th column.
DOWN, ACROSS = 4, 2


@dataclass(frozen=True)
class Windows:
    """Windows, uint8[N, S, S, 3], contiguous, and the (top, left) corner of each in the image."""

    pixels: NDArray[np.uint8]
    corners: tuple[tuple[int, int], ...]


def frame(bundle: Bundle, picture: Picture, count: int) -> Windows:
    """Cut an image as a bundle expects it. The parser, the benchmark and the engine check all use this function.

    Args:
        bundle: its `framing` and `window` decide how the image is cut.
        picture: the image.
        count: largest number of windows; ignored if the bundle resizes the whole image.

    Raises:
        ImageError: the image is too small, too long, or needs more memory than is available.
    """
    size = bundle.window
    try:
        if bundle.framing == "resize":
            return resize_whole(picture.pixels, size)
        smallest = min_picture_side(size)
        if min(picture.width, picture.height) < smallest:
            raise ImageError(
                "unsupported",
                f"the image must have at least {smallest} pixels on each side, got {picture.width}x{picture.height}; use the "
                "image at its original size",
            )
        return cut(picture, count, size)
    except MemoryError as error:
        raise out_of_memory() from error


def cut(picture: Picture | NDArray[np.uint8], count: int, size: int = SIZE) -> Windows:
    """Cut at most `count` windows; fewer if windows half a window apart already cover the image.

    A side shorter than `size` is extended by reflection.

    Args:
        picture: the image, or uint8[H, W, 3].
        count: largest number of windows.
        size: side of a window in pixels.

    Raises:
        ValueError: `count` is below 1.
        ImageError: after extension the image would exceed the pixel limit.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    if isinstance(picture, np.ndarray):
        picture = Picture(picture)
    if min(picture.height, picture.width) < size:
        if max(picture.height, size) * max(picture.width, size) > MAX_PIXELS:
            raise ImageError(
                "too_large", f"the image is too long and narrow: {picture.width}x{picture.height} pixels; crop it"
            )
        picture = Picture(_extend(picture.pixels, size))
    tops, lefts = _grid(picture.height, size), _grid(picture.width, size)
    corners = [(top, left) for top in tops for left in lefts]
    if len(corners) > count:
        # A stable sort prefers the upper left window of two that are equal.
        best = np.argsort(-_textures(picture, tops, lefts, size), kind="stable")[:count]
        corners = [corners[i] for i in sorted(best)]
    parts = [picture.part(top, left, top + size, left + size) for top, left in corners]
    # Parts of a rotated image are views, and np.stack keeps their memory order.
    return Windows(np.ascontiguousarray(np.stack(parts)), tuple(corners))


def min_picture_side(size: int = SIZE) -> int:
    """Return the shortest side, in pixels, of an image that is accepted: half a window.

    Below it most of a window is a mirror image. Its repetition resembles a generator's traces, so that more photos would be
    called generated (measured in docs/accuracy.md).
    """
    return size // 2


def resize_whole(pixels: NDArray[np.uint8], size: int) -> Windows:
    """Resize the whole image, uint8[H, W, 3], to one window, as published networks expect."""
    from PIL import Image

    resized = Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR)
    return Windows(np.asarray(resized)[None].copy(), ((0, 0),))


class TimeBudget:
    """Choose the number of windows from the measured cost of a window. Thread-safe.

    Args:
        milliseconds: time for one image, reading included.
        most: largest number of windows.

    Raises:
        ValueError: `milliseconds` is not a finite number above 0.
    """

    # Weight of the latest image in the estimate. A device that heats up is tracked within a few images.
    WEIGHT = 0.3

    def __init__(self, milliseconds: float, most: int) -> None:
        if not 0 < milliseconds < math.inf:
            raise ValueError(
                f"time_budget_ms must be a finite number above 0, got {milliseconds}; use None for no budget"
            )
        self._milliseconds = milliseconds
        self._most = most
        self._cost: float | None = None
        self._lock = threading.Lock()

    def windows(self, spent: float) -> int:
        """Return how many windows fit after `spent` milliseconds; at least 1, because a late answer beats none."""
        with self._lock:
            if self._cost is None:
                return 1
            return max(1, min(self._most, int((self._milliseconds - spent) / self._cost)))

    def observe(self, windows: int, milliseconds: float) -> None:
        """Update the estimate with an image whose windows took `milliseconds` in total."""
        cost = max(milliseconds, 1e-3) / windows
        with self._lock:
            self._cost = cost if self._cost is None else self._cost + self.WEIGHT * (cost - self._cost)


def _extend(pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    missing = [max(0, size - side) for side in pixels.shape[:2]]
    return np.pad(pixels, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="symmetric")


def _grid(side: int, size: int) -> list[int]:
    """Return evenly spaced window starts: at most half a window apart, and at most `GRID` of them."""
    count = min(GRID, -(-(side - size) // (size // 2)) + 1)
    return [round(i * (side - size) / max(1, count - 1)) for i in range(count)]


def _textures(picture: Picture, tops: list[int], lefts: list[int], size: int) -> NDArray[np.int64]:
    """Return the texture of each grid window, row by row: int64[len(tops) * len(lefts)].

    Texture is the sum of differences between neighbours in the green channel, on a subsampled grid. Black and burnt-out
    pixels do not count.
    """
    starts, ends = np.array(lefts) // ACROSS, np.array(lefts) // ACROSS + size // ACROSS - 1
    # If the grid covers the image, one pass over all rows is faster than one per grid row.
    if len(tops) * size >= picture.height:
        rows = _differences(picture.subsampled_green(0, picture.height, DOWN, ACROSS))
        bands = [rows[top // DOWN :][: size // DOWN - 1] for top in tops]
    else:
        bands = [_differences(picture.subsampled_green(top, top + size, DOWN, ACROSS)) for top in tops]
    columns = np.stack([np.add.reduce(band, axis=0, dtype=np.int32) for band in bands])
    # Cumulative sums with a leading zero.
    sums = np.zeros((len(tops), columns.shape[1] + 1), np.int64)
    np.cumsum(columns, axis=1, out=sums[:, 1:])
    return (sums[:, ends] - sums[:, starts]).ravel()


def _differences(green: NDArray[np.uint8]) -> NDArray[np.int16]:
    """Return the summed absolute differences to the pixel below and to the right: uint8[H, W] -> int16[H - 1, W - 1]."""
    # int16 throughout: NumPy is slower when the operands' types differ.
    values = green.astype(np.int16)
    here = values[:-1, :-1]
    differences: NDArray[np.int16] = np.abs(values[1:, :-1] - here)
    differences += np.abs(values[:-1, 1:] - here)
    # 5 <= green <= 250 in one comparison: values below 5 wrap around to above 246.
    usable = green[:-1, :-1] - np.uint8(5) < 246
    differences *= usable.astype(np.int16)
    return differences
