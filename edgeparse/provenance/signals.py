"""Frozen result types of the evidence readers, and their JSON form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal[
    "c2pa", "xmp", "iptc", "aigc", "parameters", "exif", "samsung", "stealth", "watermark", "thumbnail", "text"
]
Says = Literal["generated", "edited with AI", "camera", "human edit", "watermark", "other"]
Verification = Literal["verified", "invalid", "present, not verified", "declared"]
Strength = Literal["strong", "medium", "weak"]

STRENGTHS: tuple[Strength, ...] = ("weak", "medium", "strong")
# Longest raw value and longest name that a signal keeps, in characters.
RAW_LIMIT = 2000
NAME_LIMIT = 120


@dataclass(frozen=True)
class Signal:
    """One statement that the file makes about its origin.

    Attributes:
        kind: The carrier that holds the statement.
        says: What the statement amounts to.
        name: The generator, tool or device that it names, or None.
        where: Path in the container, for example "PNG tEXt parameters".
        verification: How far the statement was checked.
        strength: How much weight it carries, see docs/provenance.md.
        raw: The stored value, cut at `RAW_LIMIT` characters.
        details: Further facts, for example the model or the state of a signature.
    """

    kind: Kind
    says: Says
    name: str | None
    where: str
    verification: Verification
    strength: Strength
    raw: str = ""
    details: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the signal as a JSON object."""
        return {
            "kind": self.kind,
            "says": self.says,
            "name": self.name,
            "where": self.where,
            "verification": self.verification,
            "strength": self.strength,
            "raw": self.raw,
            "details": dict(self.details),
        }


@dataclass(frozen=True)
class Problem:
    """A reader that failed: its name and the error. The other readers still ran."""

    reader: str
    message: str

    def to_json(self) -> dict[str, Any]:
        """Return the problem as a JSON object."""
        return {"reader": self.reader, "message": self.message}


@dataclass(frozen=True)
class Evidence:
    """All signals of one file.

    Attributes:
        format: Container format found in the bytes ("JPEG", "PNG", ...), or None when it is unknown.
        signals: Statements found, strongest first. Empty means "no evidence", never "authentic".
        problems: Readers that failed.
    """

    format: str | None
    signals: tuple[Signal, ...] = ()
    problems: tuple[Problem, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the evidence as a JSON object."""
        return {
            "format": self.format,
            "signals": [signal.to_json() for signal in self.signals],
            "problems": [problem.to_json() for problem in self.problems],
        }


def clean_text(value: object, limit: int = RAW_LIMIT) -> str:
    """Return printable text, cut at `limit` characters; control characters become spaces."""
    text = str(value)[: limit + 1]
    text = "".join(c if c.isprintable() or c == "\n" else " " for c in text).strip()
    return text if len(text) <= limit else text[: limit - 1] + "…"


def make_signal(
    kind: Kind,
    says: Says,
    where: str,
    *,
    name: str | None = None,
    verification: Verification = "declared",
    strength: Strength | None = None,
    raw: object = "",
    details: Mapping[str, object] | None = None,
    **more: object,
) -> Signal:
    """Build a signal from untrusted text: cut, printable, with the strength that follows unless given.

    `details` and further keyword arguments become the signal's details; empty ones are dropped.
    """
    shown = clean_text(name, NAME_LIMIT) if name else ""
    return Signal(
        kind,
        says,
        shown or None,
        where,
        verification,
        strength or default_strength(says, verification),
        clean_text(raw),
        {key: clean_text(value, 300) for key, value in {**(details or {}), **more}.items() if value},
    )


def default_strength(says: Says, verification: Verification) -> Strength:
    """Return the strength of a statement from what it says and how far it was verified.

    A declared "made with AI" is medium, because few people have a reason to forge it. A declared camera
    or human edit is weak, because forgers would write exactly that.
    """
    if verification == "verified":
        return "strong"
    if verification == "invalid":
        return "weak"
    return "medium" if says in ("generated", "edited with AI", "watermark") else "weak"
