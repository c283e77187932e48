"""TIFF, GIF and BMP files."""

from __future__ import annotations

from edgeparse.provenance.containers.blocks import Block, Container
from edgeparse.provenance.containers.tiff import parse

_XMP_TAG, _IPTC_TAG, _C2PA_TAG = 700, 33723, 52545
_COMPRESSION, _LOSSLESS = 259, frozenset({1, 5, 8, 32773, 32946})


def walk(data: bytes) -> Container | None:
    """Return the metadata of a TIFF, GIF or BMP file, or None for another format."""
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return Container("GIF", int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little"))
    if data[:2] == b"BM" and data[14:18] == b"\x28\0\0\0" and len(data) > 26:
        height = abs(int.from_bytes(data[22:26], "little", signed=True))
        return Container("BMP", int.from_bytes(data[18:22], "little"), height, lossless=True)
    return _tiff(data)


def _tiff(data: bytes) -> Container | None:
    tiff = parse(data)
    if tiff is None:
        return None
    container = Container("TIFF")
    values, _ = tiff.directory(tiff.first)
    container.width, container.height = tiff.integer(values.get(256)), tiff.integer(values.get(257))
    container.lossless = tiff.integer(values.get(_COMPRESSION)) in _LOSSLESS
    # The file is its own EXIF block: IFD0 is the picture's directory.
    container.blocks.append(Block("exif", "TIFF", data))
    for tag, kind, where in (
        (_XMP_TAG, "xmp", "TIFF tag 700/XMP"),
        (_IPTC_TAG, "iptc", "TIFF tag 33723/IPTC"),
        (_C2PA_TAG, "c2pa", "TIFF tag 52545/JUMBF"),
    ):
        if tag in values:
            container.blocks.append(Block(kind, where, values[tag]))  # type: ignore[arg-type]
    return container
