"""WebP chunks (RFC 9649; C2PA 2.x for the C2PA chunk)."""

from __future__ import annotations

from edgeparse.provenance.containers.blocks import Block, Container, ContainerError

_MAX_CHUNKS = 20_000


def walk(data: bytes) -> Container | None:
    """Return the metadata of a WebP file, or None for another format."""
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        return None
    container = Container("WEBP")
    end = min(8 + int.from_bytes(data[4:8], "little"), len(data))
    container.end = end
    try:
        _walk(data, end, container)
    except ContainerError as error:
        container.damage = str(error)
    return container


def _walk(data: bytes, end: int, container: Container) -> None:
    position = 12
    for _ in range(_MAX_CHUNKS):
        if position + 8 > end:
            return
        kind = data[position : position + 4]
        size = int.from_bytes(data[position + 4 : position + 8], "little")
        start = position + 8
        if start + size > end:
            raise ContainerError(f"the WebP chunk at byte {position} runs past the end of the file")
        if kind == b"VP8X" and size >= 10:
            container.width = 1 + int.from_bytes(data[start + 4 : start + 7], "little")
            container.height = 1 + int.from_bytes(data[start + 7 : start + 10], "little")
        elif kind == b"VP8L" and size >= 5:
            bits = int.from_bytes(data[start + 1 : start + 5], "little")
            container.width, container.height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
            container.lossless = True
        elif kind == b"VP8 " and size >= 10:
            container.width = int.from_bytes(data[start + 6 : start + 8], "little") & 0x3FFF
            container.height = int.from_bytes(data[start + 8 : start + 10], "little") & 0x3FFF
        elif kind == b"EXIF":
            container.add(Block("exif", "WebP EXIF", data[start : start + size].removeprefix(b"Exif\0\0")))
        elif kind == b"XMP ":
            container.add(Block("xmp", "WebP XMP", data[start : start + size]))
        elif kind == b"C2PA":
            container.add(Block("c2pa", "WebP C2PA/JUMBF", data[start : start + size]))
        position = start + size + size % 2
    raise ContainerError(f"a WebP file must have at most {_MAX_CHUNKS} chunks")
