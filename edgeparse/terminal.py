"""Pictures in a terminal."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgeparse.errors import EdgeparseError
from edgeparse.parser import Look
from edgeparse.render import fingerprint_picture
from edgeparse.report import Report

COLUMNS = 32
# Fingerprints side by side; more would not be small.
WINDOWS = 2


def show_fingerprint(_report: Report, look: Look | None) -> None:
    """Show a fingerprint, small, in the best way that the terminal has: as pixels where it can, else as coloured half blocks.

    Raises:
        EdgeparseError: the library for that is not installed.
    """
    if look is None:
        return
    try:
        from textual_image.renderable import Image
    except ImportError as error:
        raise EdgeparseError(
            f'pictures in the terminal need another package ({error}); install it with pip install "edgeparse[show]"'
        ) from error
    from PIL import Image as pillow
    from rich.console import Console

    strip: NDArray[np.uint8] = np.concatenate([fingerprint_picture(w) for w in look.fingerprint[:WINDOWS]], axis=1)
    Console().print(Image(pillow.fromarray(strip), width=COLUMNS * min(WINDOWS, len(look.fingerprint))))
