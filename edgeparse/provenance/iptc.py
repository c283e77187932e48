"""IPTC-IIM (IIM 4.2): the credit line, the source and the originating program."""

from __future__ import annotations

from edgeparse.provenance.containers import Container
from edgeparse.provenance.names import EDITORS, GENERATORS, find_name
from edgeparse.provenance.signals import Signal, make_signal

_MAX_DATASETS = 1000
_CREDIT, _PROGRAM = (2, 110), (2, 65)
# Whole credit lines, in lower case, and what they say.
GENERATED_CREDITS = {"made with google ai": "Google AI", "created with google ai": "Google AI"}
EDITED_CREDITS = {
    "edited with google ai": "Google AI",
    "apple photos clean up": "Apple Photos Clean Up",
}


def read(container: Container) -> list[Signal]:
    """Return the signals of every IPTC-IIM block."""
    signals = []
    for block in container.of("iptc"):
        for key, value in _datasets(block.data):
            if key == _CREDIT:
                found = credit_signal("iptc", value, f"{block.where} 2:110 Credit")
                signals += [found] if found else []
            elif key == _PROGRAM:
                generator, editor = find_name(value, GENERATORS), find_name(value, EDITORS)
                where = f"{block.where} 2:65 Program"
                if generator:
                    signals.append(make_signal("iptc", "generated", where, name=generator, raw=value))
                elif editor:
                    signals.append(make_signal("iptc", "human edit", where, name=editor, raw=value))
    return signals


def credit_signal(kind: str, value: str, where: str) -> Signal | None:
    """Return the signal of a credit line that is a known declaration as a whole, or None."""
    line = value.strip().casefold()
    carrier = "iptc" if kind == "iptc" else "xmp"
    if line in GENERATED_CREDITS:
        return make_signal(carrier, "generated", where, name=GENERATED_CREDITS[line], raw=value)  # type: ignore[arg-type]
    if line in EDITED_CREDITS:
        return make_signal(carrier, "edited with AI", where, name=EDITED_CREDITS[line], raw=value)  # type: ignore[arg-type]
    return None


def _datasets(data: bytes) -> list[tuple[tuple[int, int], str]]:
    """Return record and dataset numbers with their text, up to the first damage."""
    found: list[tuple[tuple[int, int], str]] = []
    position = 0
    while len(found) < _MAX_DATASETS and position + 5 <= len(data) and data[position] == 0x1C:
        size = int.from_bytes(data[position + 3 : position + 5], "big")
        if size & 0x8000:
            break
        value = data[position + 5 : position + 5 + size]
        found.append(((data[position + 1], data[position + 2]), value.decode("utf-8", "replace")))
        position += 5 + size
    return found
