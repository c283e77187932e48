"""A picture -> windows at native resolution: resizing destroys the traces that the network reads.

Windows lie on a deterministic grid, and those with texture come first: a generator leaves little in an even sky, and a camera too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SIZE = 128
# Places looked at along each side: the cost of choosing stays the same for a 48-megapixel picture.
GRID = 8


@dataclass(frozen=True)
class Windows:
    """uint8[N, S, S, 3], contiguous, and where each one begins in the picture: (top, left)."""

    pixels: NDArray[np.uint8]
    corners: tuple[tuple[int, int], ...]


def cut(pixels: NDArray[np.uint8], count: int, size: int = SIZE) -> Windows:
    """At most `count` windows of uint8[H, W, 3]; fewer where the picture has fewer places half a window apart.

    A side shorter than `size` is extended by reflection.

    Raises:
        ValueError: `count` is below 1.
    """
    if count < 1:
        raise ValueError(f"{count} windows were asked for; at least 1 is needed")
    pixels = _extend(pixels, size)
    corners = [(top, left) for top in _starts(pixels.shape[0], size) for left in _starts(pixels.shape[1], size)]
    if len(corners) > count:
        texture = [_texture(pixels[top : top + size, left : left + size]) for top, left in corners]
        # A stable sort: of two alike, the one further up and left.
        best = np.argsort(-np.array(texture), kind="stable")[:count]
        corners = [corners[i] for i in sorted(best)]
    return Windows(np.stack([pixels[top : top + size, left : left + size] for top, left in corners]), tuple(corners))


def whole(pixels: NDArray[np.uint8], size: int) -> Windows:
    """The whole picture, shrunk or enlarged to one window: what networks expect that were trained on resized pictures."""
    from PIL import Image

    resized = Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR)
    return Windows(np.asarray(resized)[None].copy(), ((0, 0),))


def _extend(pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    missing = [max(0, size - side) for side in pixels.shape[:2]]
    if not any(missing):
        return pixels
    return np.pad(pixels, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="symmetric")


def _starts(side: int, size: int) -> list[int]:
    """Evenly spread beginnings along one side, half a window apart or more."""
    count = min(GRID, -(-(side - size) // (size // 2)) + 1)
    return [round(i * (side - size) / max(1, count - 1)) for i in range(count)]


def _texture(window: NDArray[np.uint8]) -> float:
    """Mean difference of neighbours in green, every other row and column; burnt-out or black pixels count nothing."""
    green = window[::2, ::2, 1].astype(np.int16)
    usable = (green > 4) & (green < 251)
    down = np.abs(np.diff(green, axis=0)) * usable[1:]
    right = np.abs(np.diff(green, axis=1)) * usable[:, 1:]
    return float(down.mean() + right.mean())
