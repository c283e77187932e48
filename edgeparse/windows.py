"""A picture -> windows at native resolution, never a resize: resizing destroys the traces that the network reads.

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
    """uint8[N, 128, 128, 3], contiguous, and where each one begins in the picture: (top, left)."""

    pixels: NDArray[np.uint8]
    corners: tuple[tuple[int, int], ...]


def cut(pixels: NDArray[np.uint8], count: int) -> Windows:
    """At most `count` windows of uint8[H, W, 3]; fewer where the picture has fewer places half a window apart.

    A side shorter than 128 is extended by reflection.

    Raises:
        ValueError: `count` is below 1.
    """
    if count < 1:
        raise ValueError(f"{count} windows were asked for; at least 1 is needed")
    pixels = _extend(pixels)
    corners = [(top, left) for top in _starts(pixels.shape[0]) for left in _starts(pixels.shape[1])]
    if len(corners) > count:
        texture = [_texture(pixels[top : top + SIZE, left : left + SIZE]) for top, left in corners]
        # A stable sort: of two alike, the one further up and left.
        best = np.argsort(-np.array(texture), kind="stable")[:count]
        corners = [corners[i] for i in sorted(best)]
    return Windows(np.stack([pixels[top : top + SIZE, left : left + SIZE] for top, left in corners]), tuple(corners))


def _extend(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    missing = [max(0, SIZE - side) for side in pixels.shape[:2]]
    if not any(missing):
        return pixels
    return np.pad(pixels, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="symmetric")


def _starts(side: int) -> list[int]:
    """Evenly spread beginnings along one side, half a window apart or more."""
    count = min(GRID, -(-(side - SIZE) // (SIZE // 2)) + 1)
    return [round(i * (side - SIZE) / max(1, count - 1)) for i in range(count)]


def _texture(window: NDArray[np.uint8]) -> float:
    """Mean difference of neighbours in green, every other row and column; burnt-out or black pixels count nothing."""
    green = window[::2, ::2, 1].astype(np.int16)
    usable = (green > 4) & (green < 251)
    down = np.abs(np.diff(green, axis=0)) * usable[1:]
    right = np.abs(np.diff(green, axis=1)) * usable[:, 1:]
    return float(down.mean() + right.mean())
