"""PNG chunks up to IEND (W3C PNG, third edition; C2PA 2.x for caBX)."""

from __future__ import annotations

import binascii
import zlib

from edgeparse.provenance.containers.blocks import MAX_TEXT, MAX_TEXTS, Block, Container, ContainerError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_XMP_KEY = "XML:com.adobe.xmp"
_RAW_PROFILES = {"Raw profile type exif": "exif", "Raw profile type APP1": "exif", "Raw profile type xmp": "xmp"}
_MAX_CHUNKS = 100_000


def walk(data: bytes) -> Container | None:
    """Return the metadata of a PNG file, or None for another format."""
    if not data.startswith(SIGNATURE):
        return None
    container = Container("PNG", lossless=True)
    try:
        _walk(data, container)
    except ContainerError as error:
        container.damage = str(error)
    return container


def _walk(data: bytes, container: Container) -> None:
    position = len(SIGNATURE)
    for _ in range(_MAX_CHUNKS):
        length = int.from_bytes(data[position : position + 4], "big")
        kind = data[position + 4 : position + 8]
        start, end = position + 8, position + 8 + length
        if len(kind) < 4 or end + 4 > len(data):
            raise ContainerError(f"the PNG chunk at byte {position} runs past the end of the file")
        if kind == b"IEND":
            container.end = end + 4
            return
        if kind == b"IHDR" and length >= 13:
            container.width = int.from_bytes(data[start : start + 4], "big")
            container.height = int.from_bytes(data[start + 4 : start + 8], "big")
        elif kind == b"caBX":
            container.add(Block("c2pa", "PNG caBX/JUMBF", data[start:end]))
        elif kind == b"eXIf":
            container.add(Block("exif", "PNG eXIf", data[start:end].removeprefix(b"Exif\0\0")))
        elif kind in (b"tEXt", b"zTXt", b"iTXt"):
            _text(kind.decode("ascii"), data[start:end], container)
        position = end + 4
    raise ContainerError(f"a PNG file must have at most {_MAX_CHUNKS} chunks")


def _text(kind: str, body: bytes, container: Container) -> None:
    """Add a text chunk; XMP and raw profiles become blocks of their own kind."""
    keyword, separator, rest = body.partition(b"\0")
    if not separator or not 1 <= len(keyword) <= 79:
        return
    key = keyword.decode("latin-1")
    limit = min(MAX_TEXT, container.text_left)
    value = _value(kind, rest, limit)
    # Text that is too large costs as much as the largest that is read.
    container.text_left -= limit if value is None else len(value)
    if container.text_left <= 0:
        raise ContainerError(f"the text of a PNG file must be at most {MAX_TEXTS} bytes")
    if value is None:
        return
    where = f"PNG {kind} {key}"
    if key == _XMP_KEY:
        container.add(Block("xmp", where, value))
    elif key in _RAW_PROFILES:
        profile = _raw_profile(value)
        if profile and _RAW_PROFILES[key] == "exif":
            container.add(Block("exif", where, profile.removeprefix(b"Exif\0\0")))
        elif profile:
            container.add(Block("xmp", where, profile))
    else:
        container.add(Block("text", where, value, key))


def _value(kind: str, rest: bytes, limit: int) -> bytes | None:
    """Return a text chunk's value in UTF-8, or None when it is damaged or too large."""
    if kind == "zTXt":
        text = inflate(rest[1:], limit) if rest[:1] == b"\0" else None
    elif kind == "iTXt":
        compressed, method = rest[:1], rest[1:2]
        parts = rest[2:].split(b"\0", 2)
        if len(parts) < 3:
            return None
        if compressed != b"\1":
            return parts[2][:limit]
        return inflate(parts[2], limit) if method == b"\0" else None
    else:
        text = rest[:limit]
    if text is None:
        return None
    # tEXt is Latin-1 by the standard; most generators write UTF-8 all the same.
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        return text.decode("latin-1").encode("utf-8")
    return text


def inflate(data: bytes, limit: int) -> bytes | None:
    """Decompress zlib data; return None when it is damaged or larger than `limit` bytes."""
    stream = zlib.decompressobj()
    try:
        text = stream.decompress(data, limit)
    except zlib.error:
        return None
    return None if stream.unconsumed_tail else text


def _raw_profile(value: bytes) -> bytes | None:
    """Decode ImageMagick's raw profile: a name, a length and hexadecimal digits."""
    lines = value.strip().split(b"\n", 2)
    if len(lines) < 3:
        return None
    try:
        return binascii.unhexlify(b"".join(lines[2].split()))
    except (binascii.Error, ValueError):
        return None
