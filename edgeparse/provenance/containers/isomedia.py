"""MP4 and QuickTime movies (ISO 14496-12, QuickTime File Format): the metadata boxes, without the media data."""

from __future__ import annotations

from collections.abc import Iterator

from edgeparse.provenance.containers import isobmff
from edgeparse.provenance.containers.blocks import MAX_TEXT, Block, Container, ContainerError

_BOXES = frozenset((b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"))
_MAX_KEYS = 1000
# The brand and the compatible brands that decide lie in this many bytes.
_BRANDS = 256


def format_of(head: bytes) -> str | None:
    """Return "MP4", "MOV", or None if the first bytes belong to another format, for example a HEIF image."""
    if head[4:8] not in _BOXES or isobmff.image_format(head[:_BRANDS]):
        return None
    return "MP4" if head[4:8] == b"ftyp" and head[8:12] != b"qt  " else "MOV"


def walk(data: bytes) -> Container | None:
    """Return the metadata of a movie, or None for another format.

    Args:
        data: the file. A memory map does, too: only the boxes' headers and the metadata are read.
    """
    form = format_of(data[:_BRANDS])
    if form is None:
        return None
    container = Container(form)
    try:
        for kind, start, end in isobmff.boxes(data, 0, len(data)):
            if kind == b"uuid":
                isobmff.add_uuid(data, start, end, container)
            elif kind in (b"moov", b"udta", b"meta"):
                _add(data, kind, start, end, container, kind.decode())
    except ContainerError as error:
        container.damage = str(error)
    return container


def _add(data: bytes, kind: bytes, start: int, end: int, container: Container, path: str) -> None:
    """Add the metadata of a moov, udta or meta box."""
    if kind == b"meta":
        # In MP4 it begins with version and flags; in QuickTime with its first box.
        start += 0 if data[start + 4 : start + 8] == b"hdlr" else 4
        _items(data, start, end, container, path)
        return
    for name, at, stop in isobmff.boxes(data, start, end):
        if name in (b"udta", b"meta"):
            _add(data, name, at, stop, container, f"{path}/{name.decode()}")
        elif name == b"uuid":
            isobmff.add_uuid(data, at, stop, container)
        elif kind == b"udta" and name == b"XMP_":
            container.add(Block("xmp", f"{container.format} {path}/XMP_", data[at:stop]))
        elif kind == b"udta" and name[:1] == b"\xa9":
            # QuickTime: length, language, text.
            length = int.from_bytes(data[at : at + 2], "big")
            _text(container, path, _name(name), data[at + 4 : min(stop, at + 4 + length)])


def _items(data: bytes, start: int, end: int, container: Container, path: str) -> None:
    """Add the items of a metadata list: numbered keys, four-letter codes, or free-form names."""
    keys: list[str] = []
    for kind, at, stop in isobmff.boxes(data, start, end):
        if kind == b"keys":
            keys = list(_keys(data, at, stop))
        elif kind == b"ilst":
            for code, first, last in isobmff.boxes(data, at, stop):
                _item(data, code, first, last, keys, container, path)


def _keys(data: bytes, start: int, end: int) -> Iterator[str]:
    position = start + 8
    for _ in range(min(int.from_bytes(data[start + 4 : start + 8], "big"), _MAX_KEYS)):
        size = int.from_bytes(data[position : position + 4], "big")
        if size < 8 or position + size > end:
            raise ContainerError("a key must lie within its box")
        yield data[position + 8 : position + size].decode("utf-8", "replace")
        position += size


def _item(data: bytes, code: bytes, start: int, end: int, keys: list[str], container: Container, path: str) -> None:
    number = int.from_bytes(code, "big")
    name = keys[number - 1] if 0 < number <= len(keys) else _name(code)
    for kind, at, stop in isobmff.boxes(data, start, end):
        if kind == b"name" and code == b"----":
            name = data[at + 4 : stop].decode("utf-8", "replace")
        elif kind == b"data":
            # Type and language, then the value.
            _text(container, f"{path}/ilst", name, data[at + 8 : stop])


def _name(code: bytes) -> str:
    return code.decode("latin-1")


def _text(container: Container, path: str, key: str, value: bytes) -> None:
    if 0 < len(value) <= min(MAX_TEXT, container.text_left):
        container.text_left -= len(value)
        container.add(Block("text", f"{container.format} {path} {key}"[:200], value, key))
