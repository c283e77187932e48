"""Open dwtDct watermarks of Stable Diffusion and FLUX, decoded in NumPy.

Source of the scheme: invisible-watermark, `maxDct.py`. Each 8x8 block of pixels votes for one bit: the
largest coefficient of its chrominance (U) is moved to a quarter or three quarters of a step. JPEG
destroys the votes, so only losslessly stored pictures are read.

SynthID, Stable Signature and other closed watermarks have no public decoder and cannot be checked offline.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeparse.provenance.containers import Container
from edgeparse.provenance.signals import Signal, make_signal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgeparse.images import Picture

# The library refuses smaller pictures.
MIN_PIXELS = 256 * 256
# Largest picture that is decoded here, in pixels; there is no limit on what the caller decoded.
_MAX_PIXELS = 16_000_000
# Blocks that vote; more only cost time. 12,000 blocks give each of 48 bits 250 votes.
_MAX_BLOCKS = 12_000
_STEP = 36.0
# The library centres U at 128 for bytes and at 0.5 for floats, so encoders differ by their input.
_CENTRES = {"bytes": 128.0, "floats": 0.5}


@dataclass(frozen=True)
class Message:
    """A fixed message, the generator that embeds it, and the least number of equal bits."""

    name: str
    bits: tuple[int, ...]
    least: int


def _bits(text: str | bytes) -> tuple[int, ...]:
    if isinstance(text, bytes):
        return tuple(byte >> shift & 1 for byte in text for shift in range(7, -1, -1))
    return tuple(map(int, text))


_FLUX = "001010101111111010000111100111001111010100101110"
# Chance of a random match for each: 7.6e-10, 7.6e-10, 2.3e-10, 8e-14, 7.7e-9; twice that for both centres.
MESSAGES = (
    Message("Stable Diffusion XL", _bits("101100111110110010010000011110111011000110011110"), 44),
    Message("FLUX (Black Forest Labs)", _bits(_FLUX), 44),
    # FLUX.1 builds its bits with bin(), which drops the two leading zeros.
    Message("FLUX (Black Forest Labs)", _bits(_FLUX.lstrip("0")), 43),
    Message("Stable Diffusion 1", _bits(b"StableDiffusionV1"), 111),
    Message("Stable Diffusion 2", _bits(b"SDV2"), 31),
)


def read(container: Container, data: bytes, *, picture: Picture | None = None) -> list[Signal]:
    """Return the signal of a known message.

    Args:
        container: The walked container.
        data: The file.
        picture: The decoded picture, if the caller has it.
    """
    area = container.width * container.height
    if not container.lossless or area < MIN_PIXELS:
        return []
    if picture is not None:
        pixels: NDArray[np.uint8] | None = picture.top_rows(min(container.height, 8 * _rows_of_blocks(container.width)))
    else:
        pixels = _decode(data) if area <= _MAX_PIXELS else None
    found = find(pixels) if pixels is not None else None
    if found is None:
        return []
    message, equal = found
    return [
        make_signal(
            "watermark",
            "watermark",
            f"{container.format} pixels, dwtDct",
            name=message.name,
            raw="".join(map(str, message.bits)),
            bits=f"{equal} of {len(message.bits)} equal",
            note="the watermark of an AI generator",
        )
    ]


def find(pixels: NDArray[np.uint8]) -> tuple[Message, int] | None:
    """Return the best known message in uint8[H, W, 3 or 4] and its number of equal bits, or None."""
    import numpy as np

    best: tuple[Message, int] | None = None
    blocks = _chroma_blocks(pixels)
    for centre in _CENTRES.values():
        largest = np.abs(blocks + np.float32(2 * centre)).max(axis=1, initial=0)
        # A zero bit lies at a quarter of a step and a one at three quarters: the sine is a soft vote.
        votes = -np.sin(largest * np.float32(2 * np.pi / _STEP))
        for message in MESSAGES:
            length = len(message.bits)
            if len(votes) < 8 * length:
                continue
            rows = votes[: len(votes) // length * length].reshape(-1, length)
            decoded = rows.mean(axis=0) > 0
            equal = int(np.sum(decoded == np.array(message.bits, bool)))
            if equal >= message.least and (best is None or equal / length > best[1] / len(best[0].bits)):
                best = message, equal
    return best


def _chroma_blocks(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return float32[blocks, 15]: each block's coefficients without its first, row by row from the top.

    A coefficient is one of the approximation band of a Haar transform of U: half the sum of a 2x2 square.
    """
    import numpy as np

    # The library cuts sides to multiples of 4, then drops blocks that are not whole.
    across, down = pixels.shape[1] // 8, min(pixels.shape[0] // 8, _rows_of_blocks(pixels.shape[1]))
    part = pixels[: down * 8, : across * 8, :3].astype(np.uint16)
    rows = part[::2] + part[1::2]
    squares = (rows[:, ::2] + rows[:, 1::2]).astype(np.float32)
    red, green, blue = squares[:, :, 0], squares[:, :, 1], squares[:, :, 2]
    band = (blue - (0.299 * red + 0.587 * green + 0.114 * blue)) * np.float32(0.492 / 2)
    coefficients: NDArray[np.float32] = band.reshape(down, 4, across, 4).transpose(0, 2, 1, 3).reshape(-1, 16)[:, 1:]
    return coefficients


def _rows_of_blocks(width: int) -> int:
    return max(1, _MAX_BLOCKS // max(width // 8, 1))


def _decode(data: bytes) -> NDArray[np.uint8] | None:
    import numpy as np
    from PIL import Image

    with Image.open(io.BytesIO(data), formats=("PNG", "WEBP", "BMP", "TIFF")) as image:
        if image.mode not in ("RGB", "RGBA", "RGBX"):
            return None
        return np.asarray(image)
