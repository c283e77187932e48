"""Stealth PNG info: generation parameters in the least significant bits of alpha or RGB, column by column."""

from __future__ import annotations

import io
import json
import zlib
from typing import TYPE_CHECKING

from edgeparse.provenance import parameters
from edgeparse.provenance.containers import Container
from edgeparse.provenance.containers.png import SIGNATURE
from edgeparse.provenance.signals import Signal, make_signal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_MAX_PAYLOAD = 1024 * 1024
_MAX_TEXT = 4 * 1024 * 1024
_MAX_PIXELS = 16_000_000
_LENGTH = 15
_MAGIC = {b"stealth_pnginfo": False, b"stealth_pngcomp": True, b"stealth_rgbinfo": False, b"stealth_rgbcomp": True}
_CHANNELS = {2: 3, 6: 4}
_BITS = 8 * _LENGTH


def read(container: Container, data: bytes) -> list[Signal]:
    """Return the signals of hidden parameters in a PNG picture.

    The signature lies in the first column. That column is decoded alone, and the picture only when
    the signature is there.
    """
    if container.format != "PNG" or not 0 < container.width * container.height <= _MAX_PIXELS:
        return []
    column = _first_column(data, container)
    if column is not None and not (column.startswith(tuple(_MAGIC))):
        return []
    pixels = _decode(data)
    if pixels is None:
        return []
    for alpha in (True, False):
        if alpha and pixels.shape[2] < 4:
            continue
        signals = _payload(pixels, alpha=alpha)
        if signals:
            return signals
    return []


def _first_column(data: bytes, container: Container) -> bytes | None:
    """Return the 15 bytes that the first column hides, or None when the whole picture must be decoded.

    In every PNG filter the first pixel of a row depends only on the first pixel of the row above.
    """
    header = data[len(SIGNATURE) + 8 : len(SIGNATURE) + 21]
    channels = _CHANNELS.get(header[9])
    if header[8] != 8 or channels is None:
        # Palettes, grey and 16 bits hide nothing.
        return b""
    rows = _BITS if channels == 4 else _BITS // 3
    if header[12] or container.height < rows:
        return None
    stride = 1 + container.width * channels
    lines = _inflate_rows(data, stride * rows)
    if len(lines) < stride * rows:
        return b""
    above = bytes(channels)
    bits_alpha, bits_rgb = [], []
    for row in range(rows):
        kind, raw = lines[row * stride], lines[row * stride + 1 : row * stride + 1 + channels]
        # Sub adds the left pixel, which is zero; Up and Paeth add the upper one, Average half of it.
        add = (0, 0, 1, 0.5, 1)[kind] if kind < 5 else 0
        above = bytes((value + int(up * add)) & 255 for value, up in zip(raw, above, strict=True))
        bits_rgb += [value & 1 for value in above[:3]]
        bits_alpha.append(above[-1] & 1)
    for bits in (bits_alpha, bits_rgb):
        text = _pack(bits[:_BITS])
        if text in _MAGIC:
            return text
    return b""


def _pack(bits: list[int]) -> bytes:
    return int("".join(map(str, bits)) or "0", 2).to_bytes(_LENGTH, "big")


def _inflate_rows(data: bytes, limit: int) -> bytes:
    """Decompress the first `limit` bytes of the image data."""
    stream, out, position = zlib.decompressobj(), b"", len(SIGNATURE)
    while len(out) < limit and position + 12 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        if data[position + 4 : position + 8] == b"IDAT":
            piece = data[position + 8 : min(position + 8 + length, len(data))]
            try:
                out += stream.decompress(piece, limit - len(out))
            except zlib.error:
                return out
        elif out:
            return out
        position += 12 + length
    return out


def _decode(data: bytes) -> NDArray[np.uint8] | None:
    """Return uint8[H, W, 3 or 4], or None for another mode."""
    import numpy as np
    from PIL import Image

    with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
        if image.mode not in ("RGB", "RGBA"):
            return None
        return np.asarray(image)


def _payload(pixels: NDArray[np.uint8], *, alpha: bool) -> list[Signal]:
    import numpy as np

    channels = slice(3, 4) if alpha else slice(0, 3)

    def take(first: int, count: int) -> bytes:
        """Return `count` bytes that begin at bit `first`, in column order."""
        depth = channels.stop - channels.start
        height = pixels.shape[0]
        low, high = first // (depth * height), -(-(first + 8 * count) // (depth * height))
        columns = pixels[:, low:high, channels].transpose(1, 0, 2).reshape(-1) & 1
        start = first - low * depth * height
        return np.packbits(columns[start : start + 8 * count]).tobytes()

    magic = take(0, _LENGTH)
    if magic not in _MAGIC or (b"png" in magic) != alpha:
        return []
    size = int.from_bytes(take(_BITS, 4), "big") // 8
    if not 0 < size <= min(_MAX_PAYLOAD, pixels.size // 8):
        return []
    raw = take(_BITS + 32, size)
    if _MAGIC[magic]:
        try:
            raw = zlib.decompressobj(wbits=31).decompress(raw, _MAX_TEXT)
        except zlib.error:
            return []
    text = raw.decode("utf-8", "replace")
    where = f"PNG pixels, least significant bits of {'alpha' if alpha else 'RGB'} ({magic.decode()})"
    return _signals(text, where)


def _signals(text: str, where: str) -> list[Signal]:
    """Return the signal of a payload: infotext, or NovelAI's text chunks as JSON."""
    found = parameters.read_text("parameters", text, where)
    if not found:
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            value = None
        inner = value.get("parameters") if isinstance(value, dict) else None
        found = parameters.read_text("parameters", inner, where) if isinstance(inner, str) else []
    if not found:
        return [make_signal("stealth", "generated", where, raw=text, note="hidden text of an unknown dialect")]
    first = found[0]
    return [make_signal("stealth", "generated", where, name=first.name, raw=text, details=first.details)]
