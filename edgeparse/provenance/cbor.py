"""A bounded CBOR decoder (RFC 8949) for C2PA claims and assertions."""

from __future__ import annotations

import struct
from typing import Any

MAX_DEPTH = 24
MAX_ITEMS = 50_000
_BREAK = object()
_FLOATS = {25: ">e", 26: ">f", 27: ">d"}


class CborError(ValueError):
    """The data is not CBOR, or exceeds the limits."""


def decode(data: bytes) -> Any:
    """Return the first item of `data`; tags are dropped, and keys of maps become text.

    Raises:
        CborError: The data is damaged, nested too deeply, or has too many items.
    """
    return _Decoder(data).item(0)


class _Decoder:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0
        self._left = MAX_ITEMS

    def item(self, depth: int) -> Any:
        self._left -= 1
        if depth > MAX_DEPTH or self._left < 0:
            raise CborError(f"CBOR must have at most {MAX_DEPTH} levels and {MAX_ITEMS} items")
        first = self._take(1)[0]
        major, minor = first >> 5, first & 31
        if major == 7:
            return self._simple(minor)
        length = self._length(minor)
        if major in (0, 1):
            if length is None:
                raise CborError("a CBOR integer must have a value")
            return length if major == 0 else -1 - length
        if major in (2, 3):
            text = self._take(length) if length is not None else self._chunks(depth)
            return text if major == 2 else text.decode("utf-8", "replace")
        if major == 4:
            return self._array(length, depth)
        if major == 5:
            return self._map(length, depth)
        return self.item(depth + 1)

    def _take(self, size: int) -> bytes:
        end = self._position + size
        if end > len(self._data):
            raise CborError("the CBOR data ends inside an item")
        piece = self._data[self._position : end]
        self._position = end
        return piece

    def _length(self, minor: int) -> int | None:
        if minor < 24:
            return minor
        if minor <= 27:
            return int.from_bytes(self._take(1 << (minor - 24)), "big")
        if minor == 31:
            return None
        raise CborError(f"the CBOR length code {minor} is reserved")

    def _simple(self, minor: int) -> Any:
        if minor in _FLOATS:
            return struct.unpack(_FLOATS[minor], self._take(1 << (minor - 24)))[0]
        if minor == 31:
            return _BREAK
        if minor == 24:
            self._take(1)
        return {20: False, 21: True}.get(minor)

    def _chunks(self, depth: int) -> bytes:
        parts = []
        while (part := self.item(depth + 1)) is not _BREAK:
            parts.append(part if isinstance(part, bytes) else str(part).encode())
        return b"".join(parts)

    def _array(self, length: int | None, depth: int) -> list[Any]:
        items: list[Any] = []
        while length is None or len(items) < length:
            value = self.item(depth + 1)
            if value is _BREAK:
                break
            items.append(value)
        return items

    def _map(self, length: int | None, depth: int) -> dict[str, Any]:
        items: dict[str, Any] = {}
        count = 0
        while length is None or count < length:
            key = self.item(depth + 1)
            if key is _BREAK:
                break
            items[str(key)] = self.item(depth + 1)
            count += 1
        return items
