"""Samsung's edit record: a SEF trailer behind the end of a JPEG or PNG picture.

The trailer ends the file: entries, a directory "SEFH", its length, and "SEFT".
"""

from __future__ import annotations

import json

from edgeparse.provenance.containers import Container
from edgeparse.provenance.signals import Signal, make_signal

_MAX_ENTRIES = 200
_MAX_RECORD = 64 * 1024
_EDIT_RECORD = b"PEg_Info"


def read(container: Container, data: bytes) -> list[Signal]:
    """Return the signal of an edit with Galaxy AI, when the trailer has a record of one."""
    if data[-4:] != b"SEFT" or container.end is None:
        return []
    for name, value in _entries(data, container.end):
        if name != _EDIT_RECORD:
            continue
        try:
            record = json.loads(value)
        except (ValueError, RecursionError):
            continue
        kind = record.get("genAIType") if isinstance(record, dict) else None
        if type(kind) is int and kind > 0:
            where = f"{container.format} trailer SEF {_EDIT_RECORD.decode()}"
            return [
                make_signal(
                    "samsung", "edited with AI", where, name="Galaxy AI (Samsung)", raw=value.decode("utf-8", "replace")
                )
            ]
    return []


def _entries(data: bytes, begin: int) -> list[tuple[bytes, bytes]]:
    """Return the trailer's records by name; none of them may begin before the picture's end."""
    length = int.from_bytes(data[-8:-4], "little")
    head = len(data) - 8 - length
    if length < 12 or head < begin or data[head : head + 4] != b"SEFH":
        return []
    found = []
    count = int.from_bytes(data[head + 8 : head + 12], "little")
    for index in range(min(count, _MAX_ENTRIES, (length - 12) // 12)):
        entry = data[head + 12 + 12 * index : head + 24 + 12 * index]
        # Two bytes of padding, the type, the distance back from the directory, the size.
        distance, size = int.from_bytes(entry[4:8], "little"), int.from_bytes(entry[8:12], "little")
        start = head - distance
        if start < begin or size > _MAX_RECORD or start + size > head:
            continue
        record = data[start : start + size]
        name_length = int.from_bytes(record[4:8], "little")
        found.append((record[8 : 8 + name_length], record[8 + name_length :]))
    return found
