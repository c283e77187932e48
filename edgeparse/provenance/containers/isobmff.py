"""HEIF, AVIF and JPEG XL boxes (ISO 14496-12, ISO 23008-12, ISO 18181-2; C2PA 2.x for the uuid box)."""

from __future__ import annotations

from collections.abc import Iterator

from edgeparse.provenance.containers.blocks import MAX_BLOCK, Block, Container, ContainerError

_C2PA = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
_XMP = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_JXL = b"\0\0\0\x0cJXL \r\n\x87\n"
_BRANDS = {
    b"avif": "AVIF",
    b"avis": "AVIF",
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1"), "HEIF"),
}
_MAX_BOXES = 5000
_MAX_ITEMS = 5000
_MAX_METADATA_ITEMS = 8
_MAX_EXTENTS = 64


def walk(data: bytes) -> Container | None:
    """Return the metadata of a HEIF, AVIF or JPEG XL file, or None for another format."""
    form = image_format(data)
    if form is None:
        return None
    container = Container(form)
    try:
        for kind, start, end in boxes(data, 0, len(data)):
            _box(data, kind, start, end, container)
    except ContainerError as error:
        container.damage = str(error)
    return container


def image_format(data: bytes) -> str | None:
    """Return "HEIF", "AVIF" or "JXL", or None for another format."""
    if data.startswith(_JXL):
        return "JXL"
    if data[4:8] != b"ftyp":
        return None
    size = int.from_bytes(data[:4], "big")
    brands = [data[8:12], *(data[at : at + 4] for at in range(16, min(size, 256), 4))]
    found = [_BRANDS[brand] for brand in brands if brand in _BRANDS]
    return "AVIF" if "AVIF" in found else (found[0] if found else None)


def boxes(data: bytes, position: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield each box's type and the start and end of its content."""
    for _ in range(_MAX_BOXES):
        if position + 8 > end:
            return
        size = int.from_bytes(data[position : position + 4], "big")
        kind, start = data[position + 4 : position + 8], position + 8
        if size == 1:
            size, start = int.from_bytes(data[start : start + 8], "big"), start + 8
        stop = end if size == 0 else position + size
        if stop < start or stop > end:
            raise ContainerError(f"the box at byte {position} runs past the end of its parent")
        yield kind, start, stop
        position = stop
    raise ContainerError(f"a file must have at most {_MAX_BOXES} boxes")


def _box(data: bytes, kind: bytes, start: int, end: int, container: Container) -> None:
    form = container.format
    if kind == b"meta":
        _items(data, start + 4, end, container)
    elif kind == b"uuid":
        add_uuid(data, start, end, container)
    elif form == "JXL" and kind == b"jumb":
        container.add(Block("c2pa", "JXL jumb", data[start - 8 : end]))
    elif form == "JXL" and kind == b"Exif":
        container.add(Block("exif", "JXL Exif", _exif(data[start:end])))
    elif form == "JXL" and kind == b"xml ":
        container.add(Block("xmp", "JXL xml", data[start:end]))


def add_uuid(data: bytes, start: int, end: int, container: Container) -> None:
    """Add the content of a uuid box: content credentials or XMP; others are left out."""
    form = container.format
    if data[start : start + 16] == _C2PA:
        # Version and flags, purpose as a C string, offset of the Merkle box, then the manifest store.
        purpose, _, rest = data[start + 20 : min(end, start + 36 + MAX_BLOCK)].partition(b"\0")
        if purpose == b"manifest":
            container.add(Block("c2pa", f"{form} uuid/JUMBF", rest[8:]))
    elif data[start : start + 16] == _XMP:
        container.add(Block("xmp", f"{form} uuid/XMP", data[start + 16 : min(end, start + 17 + MAX_BLOCK)]))


def _exif(content: bytes) -> bytes:
    """Skip the offset that precedes the TIFF header."""
    return content[4 + int.from_bytes(content[:4], "big") :]


def _items(data: bytes, start: int, end: int, container: Container) -> None:
    """Read the Exif and XMP items, and the largest image size, out of a meta box."""
    kinds: dict[int, bytes] = {}
    places: dict[int, tuple[int, list[tuple[int, int]]]] = {}
    idat = 0
    for kind, at, stop in boxes(data, start, end):
        if kind == b"iinf":
            kinds = _item_kinds(data, at, stop)
        elif kind == b"iloc":
            places = _item_places(data[at:stop])
        elif kind == b"idat":
            idat = at
        elif kind == b"iprp":
            _sizes(data, at, stop, container)
    for item, kind in list(kinds.items())[:_MAX_METADATA_ITEMS]:
        method, extents = places.get(item, (2, []))
        if method > 1 or sum(size for _, size in extents) > MAX_BLOCK:
            continue
        base = idat if method else 0
        content = b"".join(data[base + at : base + at + size] for at, size in extents)
        if kind == b"Exif" and content:
            container.add(Block("exif", f"{container.format} Exif item", _exif(content)))
        elif kind == b"mime" and content:
            container.add(Block("xmp", f"{container.format} XMP item", content))


def _item_kinds(data: bytes, start: int, end: int) -> dict[int, bytes]:
    """Return the type of each Exif item and of each item with XMP's media type."""
    kinds: dict[int, bytes] = {}
    head = 6 if data[start] == 0 else 8
    for kind, at, stop in boxes(data, start + head, end):
        if kind != b"infe" or stop - at < 12:
            continue
        wide = data[at] == 3
        item = int.from_bytes(data[at + 4 : at + (8 if wide else 6)], "big")
        name = data[at + (10 if wide else 8) : stop]
        if name[:4] == b"Exif" or (name[:4] == b"mime" and b"application/rdf+xml\0" in name[4:]):
            kinds[item] = name[:4]
    return kinds


def _item_places(box: bytes) -> dict[int, tuple[int, list[tuple[int, int]]]]:
    """Return each item's construction method and its extents as offset and size."""
    if len(box) < 8:
        raise ContainerError("the iloc box is too short")
    version, sizes = box[0], int.from_bytes(box[4:6], "big")
    offset_size, length_size, base_size, index_size = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
    wide = 4 if version == 2 else 2
    position = 6

    def take(size: int) -> int:
        nonlocal position
        if position + size > len(box):
            raise ContainerError("the iloc box is too short")
        position += size
        return int.from_bytes(box[position - size : position], "big")

    places: dict[int, tuple[int, list[tuple[int, int]]]] = {}
    for _ in range(min(take(wide), _MAX_ITEMS)):
        item = take(wide)
        method = take(2) & 15 if version else 0
        take(2)
        base = take(base_size)
        extents = []
        count = take(2)
        if count > _MAX_EXTENTS:
            raise ContainerError(f"an item must have at most {_MAX_EXTENTS} extents, got {count}")
        for _ in range(count):
            if version:
                take(index_size)
            extents.append((base + take(offset_size), take(length_size)))
        places[item] = (method, extents)
    return places


def _sizes(data: bytes, start: int, end: int, container: Container) -> None:
    """Keep the largest size among the properties: the picture's own, not a tile's or a thumbnail's."""
    for kind, at, stop in boxes(data, start, end):
        if kind != b"ipco":
            continue
        for name, place, _ in boxes(data, at, stop):
            if name == b"ispe":
                width = int.from_bytes(data[place + 4 : place + 8], "big")
                height = int.from_bytes(data[place + 8 : place + 12], "big")
                if width * height > container.width * container.height:
                    container.width, container.height = width, height
