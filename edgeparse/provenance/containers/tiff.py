"""TIFF directories, as TIFF files and EXIF blocks store them (TIFF 6.0, Exif 2.32)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
MAX_ENTRIES = 1000
_MAX_VALUE = 32 * 1024 * 1024


@dataclass(frozen=True)
class Tiff:
    """A TIFF block that answers tags of a directory."""

    data: bytes
    order: Literal["big", "little"]
    first: int

    def directory(self, offset: int) -> tuple[dict[int, bytes], int]:
        """Return a directory's raw values by tag, and the offset of the next directory (0: none)."""
        data = self.data
        values: dict[int, bytes] = {}
        if not 8 <= offset <= len(data) - 2:
            return values, 0
        # Values do not overlap, so together they are no larger than the block.
        left = len(data)
        count = int.from_bytes(data[offset : offset + 2], self.order)
        for index in range(min(count, MAX_ENTRIES)):
            at = offset + 2 + 12 * index
            entry = data[at : at + 12]
            if len(entry) < 12:
                return values, 0
            size = _SIZES.get(int.from_bytes(entry[2:4], self.order), 0) * int.from_bytes(entry[4:8], self.order)
            if not 0 < size <= min(_MAX_VALUE, left):
                continue
            start = at + 8 if size <= 4 else int.from_bytes(entry[8:12], self.order)
            if start + size <= len(data):
                left -= size
                values.setdefault(int.from_bytes(entry[:2], self.order), data[start : start + size])
        after = offset + 2 + 12 * count
        return values, int.from_bytes(data[after : after + 4], self.order)

    def integer(self, value: bytes | None) -> int:
        """Return a SHORT or LONG value, 0 when there is none."""
        if not value:
            return 0
        size = 2 if len(value) == 2 else 4
        return int.from_bytes(value[:size], self.order)


def parse(data: bytes) -> Tiff | None:
    """Return a TIFF block, or None when the header is not TIFF's."""
    if data[:4] == b"II*\0":
        return Tiff(data, "little", int.from_bytes(data[4:8], "little"))
    if data[:4] == b"MM\0*":
        return Tiff(data, "big", int.from_bytes(data[4:8], "big"))
    return None
