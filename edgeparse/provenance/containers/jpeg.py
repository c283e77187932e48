"""JPEG segments up to the first scan (ITU-T T.81, Exif 2.32, XMP part 3, ISO 19566-5)."""

from __future__ import annotations

import re

from edgeparse.provenance.containers.blocks import MAX_BLOCK, Block, Container, ContainerError

_EXIF = b"Exif\0\0"
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_XMP_EXTENDED = b"http://ns.adobe.com/xmp/extension/\0"
_PHOTOSHOP = b"Photoshop 3.0\0"
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# In a scan every 0xFF is followed by 0x00, by a restart marker, or by padding; anything else ends it.
_SCAN_END = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_MAX_SCANS = 200


def walk(data: bytes) -> Container | None:
    """Return the metadata of a JPEG file, or None for another format."""
    if data[:3] != b"\xff\xd8\xff":
        return None
    container = Container("JPEG")
    boxes: dict[bytes, list[tuple[int, bytes]]] = {}
    extended: dict[bytes, dict[int, bytes]] = {}
    try:
        position = _headers(data, container, boxes, extended)
        # Only Samsung's trailer lies behind the end, and it is found from the file's last bytes.
        if data[-4:] == b"SEFT":
            container.end = _end(data, position)
    except ContainerError as error:
        container.damage = str(error)
    _add_joined(container, boxes, extended)
    return container


def _headers(
    data: bytes,
    container: Container,
    boxes: dict[bytes, list[tuple[int, bytes]]],
    extended: dict[bytes, dict[int, bytes]],
) -> int:
    """Read segments up to the first scan; return the offset of the scan's data."""
    position = 2
    while True:
        marker, start, end = _segment(data, position)
        if marker == 0xD9:
            return position
        body = data[start:end]
        if marker in _FRAMES and len(body) >= 5:
            container.height = int.from_bytes(body[1:3], "big")
            container.width = int.from_bytes(body[3:5], "big")
        elif marker == 0xE1:
            _app1(body, container, extended)
        elif marker == 0xEB and body[:2] == b"JP" and len(body) >= 16:
            # Box instance, packet number, then a piece of the box; each piece repeats the box header.
            boxes.setdefault(body[2:4], []).append((int.from_bytes(body[4:8], "big"), body[8:]))
        elif marker == 0xED and body.startswith(_PHOTOSHOP):
            _photoshop(body[len(_PHOTOSHOP) :], container)
        elif marker == 0xFE:
            container.add(Block("comment", "JPEG COM", body))
        if marker == 0xDA:
            return end
        position = end


def _segment(data: bytes, position: int) -> tuple[int, int, int]:
    """Return the marker at an offset, and the start and end of its body."""
    if position >= len(data) or data[position] != 0xFF:
        raise ContainerError(f"a JPEG marker was expected at byte {position}")
    while position < len(data) and data[position] == 0xFF:
        position += 1
    if position >= len(data):
        raise ContainerError("the JPEG file ends inside its headers")
    marker, start = data[position], position + 1
    if marker in (0x01, 0xD8, 0xD9) or 0xD0 <= marker <= 0xD7:
        return marker, start, start
    length = int.from_bytes(data[start : start + 2], "big")
    if length < 2 or start + length > len(data):
        raise ContainerError(f"the JPEG segment at byte {position - 1} runs past the end of the file")
    return marker, start + 2, start + length


def _app1(body: bytes, container: Container, extended: dict[bytes, dict[int, bytes]]) -> None:
    if body.startswith(_EXIF):
        container.add(Block("exif", "JPEG APP1/Exif", body[len(_EXIF) :]))
    elif body.startswith(_XMP):
        container.add(Block("xmp", "JPEG APP1/XMP", body[len(_XMP) :]))
    elif body.startswith(_XMP_EXTENDED):
        head = body[len(_XMP_EXTENDED) :]
        if len(head) >= 40:
            # GUID, full length, offset of this piece, piece.
            extended.setdefault(head[:32], {})[int.from_bytes(head[36:40], "big")] = head[40:]


def _photoshop(resources: bytes, container: Container) -> None:
    """Find IPTC-IIM (resource 0x0404) among Photoshop's image resources."""
    position = 0
    while resources[position : position + 4] == b"8BIM":
        number = int.from_bytes(resources[position + 4 : position + 6], "big")
        name = resources[position + 6] if position + 6 < len(resources) else 0
        position += 6 + (name + 2) // 2 * 2
        size = int.from_bytes(resources[position : position + 4], "big")
        if position + 4 + size > len(resources):
            return
        if number == 0x0404:
            container.add(Block("iptc", "JPEG APP13/IPTC", resources[position + 4 : position + 4 + size]))
        position += 4 + (size + 1) // 2 * 2


def _add_joined(
    container: Container, boxes: dict[bytes, list[tuple[int, bytes]]], extended: dict[bytes, dict[int, bytes]]
) -> None:
    """Join the boxes and the extended XMP that were split over several segments."""
    for pieces in boxes.values():
        pieces.sort(key=lambda piece: piece[0])
        first = pieces[0][1]
        header = 16 if first[:4] == b"\0\0\0\1" else 8
        joined = first + b"".join(piece[header:] for _, piece in pieces[1:])
        if first[4:8] == b"jumb" and len(joined) <= MAX_BLOCK:
            container.blocks.append(Block("c2pa", "JPEG APP11/JUMBF", joined))
    for parts in extended.values():
        joined = b"".join(parts[offset] for offset in sorted(parts))
        if len(joined) <= MAX_BLOCK:
            container.blocks.append(Block("xmp", "JPEG APP1/extended XMP", joined))


def _end(data: bytes, position: int) -> int:
    """Return the offset after EOI, walking every scan."""
    for _ in range(_MAX_SCANS):
        found = _SCAN_END.search(data, position)
        if not found:
            raise ContainerError("the JPEG file has no end marker")
        position = found.start()
        while data[position + 1] not in (0xD9, 0xDA):
            position = _segment(data, position)[2]
            if data[position : position + 1] != b"\xff" or position + 1 >= len(data):
                raise ContainerError(f"a JPEG marker was expected at byte {position}")
        if data[position + 1] == 0xD9:
            return position + 2
        position = _segment(data, position)[2]
    raise ContainerError(f"a JPEG file must have at most {_MAX_SCANS} scans")
