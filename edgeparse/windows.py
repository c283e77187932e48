"""A picture -> windows at native resolution: resizing destroys the traces that the network reads.

Windows lie on a deterministic grid, and those with texture come first: a generator leaves little in an even sky, and a camera too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeparse.errors import ImageError
from edgeparse.images import MAX_PIXELS, Picture

SIZE = 128
# Places looked at along each side, however large the picture.
GRID = 8
# Of every so many rows one, and of every so many columns, tell how much texture there is.
DOWN, ACROSS = 4, 2


@dataclass(frozen=True)
class Windows:
    """uint8[N, S, S, 3], contiguous, and where each one begins in the picture: (top, left)."""

    pixels: NDArray[np.uint8]
    corners: tuple[tuple[int, int], ...]


def cut(picture: Picture | NDArray[np.uint8], count: int, size: int = SIZE) -> Windows:
    """At most `count` windows of a picture, or of uint8[H, W, 3]; fewer where places at most half a window apart cover it.

    A side shorter than `size` is extended by reflection.

    Raises:
        ValueError: `count` is below 1.
        ImageError: with its short side extended the picture would have more pixels than are read.
    """
    if count < 1:
        raise ValueError(f"{count} windows were asked for; at least 1 is needed")
    if isinstance(picture, np.ndarray):
        picture = Picture(picture)
    if min(picture.height, picture.width) < size:
        if max(picture.height, size) * max(picture.width, size) > MAX_PIXELS:
            raise ImageError(
                "too_large",
                f"the picture is {picture.width}x{picture.height} pixels, a line too long to look at; crop it",
            )
        picture = Picture(_extend(picture.pixels, size))
    tops, lefts = _starts(picture.height, size), _starts(picture.width, size)
    corners = [(top, left) for top in tops for left in lefts]
    if len(corners) > count:
        # A stable sort: of two alike, the one further up and left.
        best = np.argsort(-_textures(picture, tops, lefts, size), kind="stable")[:count]
        corners = [corners[i] for i in sorted(best)]
    parts = [picture.part(top, left, top + size, left + size) for top, left in corners]
    # The parts of a turned picture are views, and a stack takes over their order.
    return Windows(np.ascontiguousarray(np.stack(parts)), tuple(corners))


def smallest(size: int = SIZE) -> int:
    """The shortest side in pixels of a picture whose windows of `size` tell something: half a window. The more of a window is mirror image,
    the more repeats as a generator's traces do, and the more photos are called generated (docs/accuracy.md)."""
    return size // 2


def whole(pixels: NDArray[np.uint8], size: int) -> Windows:
    """The whole picture, shrunk or enlarged to one window: what networks expect that were trained on resized pictures."""
    from PIL import Image

    resized = Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR)
    return Windows(np.asarray(resized)[None].copy(), ((0, 0),))


def _extend(pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    missing = [max(0, size - side) for side in pixels.shape[:2]]
    return np.pad(pixels, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="symmetric")


def _starts(side: int, size: int) -> list[int]:
    """Evenly spread beginnings along one side: half a window apart or less, but for large pictures, of which `GRID` places are enough."""
    count = min(GRID, -(-(side - size) // (size // 2)) + 1)
    return [round(i * (side - size) / max(1, count - 1)) for i in range(count)]


def _textures(picture: Picture, tops: list[int], lefts: list[int], size: int) -> NDArray[np.int64]:
    """Of the window at each place of the grid, row by row, how much neighbours in green differ, of every other column and every fourth row;
    burnt-out or black pixels count nothing."""
    begins, ends = np.array(lefts) // ACROSS, np.array(lefts) // ACROSS + size // ACROSS - 1
    # Of a picture that the grid covers, all rows at once.
    if len(tops) * size >= picture.height:
        every = _differences(picture.thinned_green(0, picture.height, DOWN, ACROSS))
        bands = [every[top // DOWN :][: size // DOWN - 1] for top in tops]
    else:
        bands = [_differences(picture.thinned_green(top, top + size, DOWN, ACROSS)) for top in tops]
    columns = np.stack([np.add.reduce(band, axis=0, dtype=np.int32) for band in bands])
    # Up to each column, and nothing before the first.
    sums = np.zeros((len(tops), columns.shape[1] + 1), np.int64)
    np.cumsum(columns, axis=1, out=sums[:, 1:])
    return (sums[:, ends] - sums[:, begins]).ravel()


def _differences(green: NDArray[np.uint8]) -> NDArray[np.int16]:
    """Of each pixel of uint8[H, W] from the one below and from the one to the right, added up: int16[H - 1, W - 1]."""
    # NumPy is fastest where it need not cast between two arrays' types.
    values = green.astype(np.int16)
    here = values[:-1, :-1]
    differences: NDArray[np.int16] = np.abs(values[1:, :-1] - here)
    differences += np.abs(values[:-1, 1:] - here)
    # 5 to 250: of the others, less 5 in bytes, all are above.
    usable = green[:-1, :-1] - np.uint8(5) < 246
    differences *= usable.astype(np.int16)
    return differences
