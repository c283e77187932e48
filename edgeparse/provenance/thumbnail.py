"""The EXIF thumbnail: one that shows another picture is a sign of editing.

Comparing needs the decoded picture, so it runs only when the caller passes the pixels.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from edgeparse.provenance.containers import Container
from edgeparse.provenance.exif import directories
from edgeparse.provenance.signals import Signal, make_signal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgeparse.images import Picture

_START, _LENGTH = 0x0201, 0x0202
_MAX_BYTES = 256 * 1024
_MAX_SIDE = 1024
_GRID = 16
# Correlation of 16x16 grey levels below which the two pictures differ; re-saved photos have 0.95 and more.
LEAST_CORRELATION = 0.5
# Flat pictures correlate with anything.
_LEAST_DEVIATION = 4.0


def read(container: Container, picture: Picture | None) -> list[Signal]:
    """Return the signal of a thumbnail that does not match the picture.

    Args:
        container: The walked container.
        picture: The decoded picture, or None: then nothing is compared.
    """
    if picture is None or container.format != "JPEG":
        return []
    for block in container.of("exif"):
        found = directories(block.data)
        if not found:
            continue
        start = found.tiff.integer(found.thumbnail.get(_START))
        size = found.tiff.integer(found.thumbnail.get(_LENGTH))
        data = block.data[start : start + size] if 0 < size <= _MAX_BYTES else b""
        if not data.startswith(b"\xff\xd8"):
            continue
        likeness = _likeness(data, picture)
        if likeness is not None and likeness < LEAST_CORRELATION:
            where = f"{block.where} IFD1 thumbnail"
            return [
                make_signal(
                    "thumbnail", "human edit", where, raw=f"correlation {likeness:.2f}", likeness=f"{likeness:.2f}"
                )
            ]
    return []


def _likeness(thumbnail: bytes, whole: Picture) -> float | None:
    """Return the best correlation of the two pictures over the eight orientations, None when flat."""
    import numpy as np
    from PIL import Image

    with Image.open(io.BytesIO(thumbnail), formats=("JPEG",)) as image:
        if max(image.size) > _MAX_SIDE:
            return None
        small = np.asarray(image.convert("L"))
    step = max(1, min(whole.width, whole.height) // 256)
    grey = whole.subsampled_green(0, whole.height, step, step)
    picture = _grid(grey)
    if picture.std() < _LEAST_DEVIATION:
        return None
    best = None
    for turns in range(4):
        for flip in (False, True):
            turned = np.rot90(small[:, ::-1] if flip else small, turns)
            for view in (turned, _without_bars(turned, grey.shape[1] / grey.shape[0])):
                other = _grid(view)
                if other.std() < _LEAST_DEVIATION:
                    continue
                value = float(np.corrcoef(picture.ravel(), other.ravel())[0, 1])
                best = value if best is None else max(best, value)
    return best


def _without_bars(image: NDArray[np.uint8], aspect: float) -> NDArray[np.uint8]:
    """Crop the middle to the picture's aspect: cameras pad their 4:3 thumbnails with black bars."""
    height, width = image.shape
    if width / height > aspect:
        keep = max(_GRID, round(height * aspect))
        left = (width - keep) // 2
        return image[:, max(left, 0) : max(left, 0) + keep]
    keep = max(_GRID, round(width / aspect))
    top = (height - keep) // 2
    return image[max(top, 0) : max(top, 0) + keep]


def _grid(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return mean grey levels on a 16x16 grid."""
    import numpy as np

    rows = np.linspace(0, image.shape[0], _GRID + 1).astype(int)
    columns = np.linspace(0, image.shape[1], _GRID + 1).astype(int)
    total = np.zeros((image.shape[0] + 1, image.shape[1] + 1))
    total[1:, 1:] = image.astype(np.float64).cumsum(0).cumsum(1)
    corners = total[np.ix_(rows, columns)]
    areas = np.maximum(np.outer(np.diff(rows), np.diff(columns)), 1)
    means: NDArray[np.float64] = (corners[1:, 1:] - corners[:-1, 1:] - corners[1:, :-1] + corners[:-1, :-1]) / areas
    return means
