"""JUMBF boxes (ISO 19566-5) as C2PA stores its manifests, and the name in a signer's certificate."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from edgeparse.provenance import cbor

_MAX_DEPTH = 10
_MAX_BOXES = 5000
_MAX_CONTENT = 4 * 1024 * 1024
_NAMES = {b"\x55\x04\x03": "common_name", b"\x55\x04\x0a": "organization"}


class JumbfError(ValueError):
    """The boxes are damaged, or exceed the limits."""


@dataclass
class Superbox:
    """A labelled JUMBF superbox: its child superboxes and its content boxes."""

    label: str = ""
    children: list[Superbox] = field(default_factory=list)
    contents: list[tuple[bytes, bytes]] = field(default_factory=list)

    def child(self, label: str) -> Superbox | None:
        """Return the first child with a label."""
        return next((box for box in self.children if box.label == label), None)

    def value(self) -> Any:
        """Return the decoded CBOR or JSON content, or None when there is neither.

        Raises:
            ValueError: The content is damaged or too large.
        """
        for kind, data in self.contents:
            if kind in (b"cbor", b"json") and len(data) > _MAX_CONTENT:
                raise JumbfError(f"a JUMBF content box must hold at most {_MAX_CONTENT} bytes, got {len(data)}")
            if kind == b"cbor":
                return cbor.decode(data)
            if kind == b"json":
                return json.loads(data.rstrip(b"\0"))
        return None


def parse(data: bytes) -> Superbox:
    """Return the first superbox of `data`.

    Raises:
        JumbfError: There is none, or it is damaged.
    """
    root = Superbox()
    _parse(memoryview(data), root, 0, [_MAX_BOXES])
    if not root.children:
        raise JumbfError("a JUMBF superbox was expected")
    return root.children[0]


def _parse(data: memoryview, parent: Superbox, depth: int, left: list[int]) -> None:
    if depth > _MAX_DEPTH:
        raise JumbfError(f"JUMBF boxes must be nested at most {_MAX_DEPTH} deep")
    position = 0
    while position + 8 <= len(data):
        left[0] -= 1
        if left[0] < 0:
            raise JumbfError(f"a manifest store must have at most {_MAX_BOXES} boxes")
        size = int.from_bytes(data[position : position + 4], "big")
        kind, start = bytes(data[position + 4 : position + 8]), position + 8
        if size == 1:
            size, start = int.from_bytes(data[start : start + 8], "big"), start + 8
        end = len(data) if size == 0 else position + size
        if end < start or end > len(data):
            raise JumbfError(f"the JUMBF box at byte {position} runs past the end of its parent")
        if kind == b"jumb":
            box = Superbox()
            parent.children.append(box)
            _parse(data[start:end], box, depth + 1, left)
        elif kind == b"jumd":
            # Type (16 bytes), toggles, then the label as a C string where bit 1 is set.
            if end - start > 17 and data[start + 16] & 2:
                parent.label = bytes(data[start + 17 : end]).partition(b"\0")[0].decode("utf-8", "replace")
        else:
            parent.contents.append((kind, bytes(data[start:end])))
        position = end


def certificate_subject(der: bytes) -> dict[str, str]:
    """Return the common name and the organization of an X.509 certificate's subject, unverified.

    Raises:
        JumbfError: The DER structure is damaged.
    """
    certificate = _der_items(_der(der, 0)[1])
    fields = _der_items(certificate[0][1])
    # [0] version is optional; then serial, algorithm, issuer, validity, subject.
    at = 5 if fields and fields[0][0] == 0xA0 else 4
    names: dict[str, str] = {}
    for _, relative in _der_items(fields[at][1]):
        for _, pair in _der_items(relative):
            parts = _der_items(pair)
            key = _NAMES.get(parts[0][1])
            if key and len(parts) > 1:
                names[key] = parts[1][1].decode("utf-8", "replace")
    return names


def _der(data: bytes, position: int) -> tuple[int, bytes, int]:
    """Return an item's tag, its content, and the offset behind it."""
    if position + 2 > len(data):
        raise JumbfError("the certificate ends inside an item")
    tag, length, start = data[position], data[position + 1], position + 2
    if length & 0x80:
        count = length & 0x7F
        length, start = int.from_bytes(data[start : start + min(count, 8)], "big"), start + count
    if start + length > len(data):
        raise JumbfError("the certificate ends inside an item")
    return tag, data[start : start + length], start + length


def _der_items(data: bytes) -> list[tuple[int, bytes]]:
    items: list[tuple[int, bytes]] = []
    position = 0
    while position < len(data) and len(items) < 200:
        tag, content, position = _der(data, position)
        items.append((tag, content))
    if not items:
        raise JumbfError("the certificate has an empty sequence")
    return items
