"""Pictures in a terminal."""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING

from edgeparse.errors import EdgeparseError
from edgeparse.parser import Look
from edgeparse.render import fingerprint_picture
from edgeparse.report import Report

if TYPE_CHECKING:
    from rich.console import Console

# The part that is shown of the first window: a terminal that has no pixels shows two in a character, and made smaller a fingerprint
# would be grey.
WIDTH, HEIGHT = 64, 32


def show_fingerprint(_report: Report, look: Look | None, console: Console) -> None:
    """Show the middle of a fingerprint, amplified, in the best way that the terminal has: pixels where it can, else coloured half blocks.

    Raises:
        EdgeparseError: the library for that is not installed, or the terminal does not know its own size.
    """
    if look is None:
        return
    if 0 in os.get_terminal_size(sys.stdout.fileno()):
        raise EdgeparseError(
            "this terminal does not say how large it is; write the fingerprint to a file with --fingerprint"
        )
    # The library would say, at length, that a terminal did not answer a question; it then assumes the usual.
    logging.getLogger("textual_image").setLevel(logging.CRITICAL)
    try:
        from textual_image.renderable import Image
    except ImportError as error:
        raise EdgeparseError(
            f'pictures in the terminal need another package ({error}); install it with pip install "textual-image>=0.8"'
        ) from error
    from PIL import Image as pillow

    top, left = ((side - part) // 2 for side, part in zip(look.fingerprint.shape[2:], (HEIGHT, WIDTH), strict=True))
    middle = look.fingerprint[0, :, top : top + HEIGHT, left : left + WIDTH]
    console.print(Image(pillow.fromarray(fingerprint_picture(middle)), width=WIDTH, height=HEIGHT // 2))
