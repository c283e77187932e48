"""Read evidence and pixels together: contradictions and the plain conclusion. The rules are in docs/provenance.md."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from edgeparse.provenance.signals import STRENGTHS, Evidence, Signal

Verdict = Literal["camera", "generated", "inconclusive"]
Finding = Literal["generated", "edited with AI", "camera", "contradictory", "inconclusive"]
Basis = Literal["evidence", "pixels", "both"]


@dataclass(frozen=True)
class Conclusion:
    """The plain reading of evidence and pixels.

    Attributes:
        finding: What the two say together.
        basis: What the finding rests on.
        rule: The number of the rule that applied, see docs/provenance.md.
        contradictions: Statements that cannot both hold.
    """

    finding: Finding
    basis: Basis
    rule: int
    contradictions: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the conclusion as a JSON object."""
        return {
            "finding": self.finding,
            "basis": self.basis,
            "rule": self.rule,
            "contradictions": list(self.contradictions),
        }


def is_ai(signal: Signal) -> bool:
    """Return True when a signal declares AI: generated, edited with AI, or a generator's watermark."""
    return signal.says in ("generated", "edited with AI", "watermark")


def rank(signal: Signal) -> tuple[int, bool, bool, bool]:
    """Return a sort key: stronger first, then AI before camera before edits, then named ones."""
    return STRENGTHS.index(signal.strength), is_ai(signal), signal.says == "camera", signal.name is not None


def main_signal(evidence: Evidence) -> Signal | None:
    """Return the signal that a summary leads with: the strongest that says something about the origin."""
    return max((s for s in evidence.signals if s.says != "other"), key=rank, default=None)


def contradictions(evidence: Evidence) -> tuple[str, ...]:
    """Return the pairs of statements in a file that cannot both hold."""
    found = []
    weighty = [s for s in evidence.signals if s.strength != "weak"]
    cameras = [s for s in evidence.signals if s.says == "camera"]
    generated = [s for s in weighty if s.says in ("generated", "watermark")]
    for camera in cameras[:1]:
        # An AI edit of a photo keeps the camera's fields; a picture made by AI has none.
        for signal in generated[:1]:
            found.append(f"camera ({camera.name}, {camera.where}) and made with AI ({signal.name}, {signal.where})")
    if any(s.kind == "c2pa" and s.verification == "invalid" for s in evidence.signals):
        found.append("content credentials that do not match this picture")
    marks = {s.name for s in generated if s.says == "watermark"}
    if len(marks) > 1:
        found.append("watermarks of several generators")
    return tuple(found)


def conclude(evidence: Evidence, verdict: Verdict | None) -> Conclusion | None:
    """Return the conclusion from the evidence and the pixels' verdict; the first rule that applies wins.

    Args:
        evidence: The file's evidence.
        verdict: The pixels' verdict, or None if they were not judged; there may then be no conclusion.
    """
    clashes = contradictions(evidence)
    strong = [s for s in evidence.signals if s.strength == "strong"]
    ai = [s for s in evidence.signals if is_ai(s) and s.strength != "weak"]
    camera = any(s.says == "camera" for s in strong)
    if camera and ai:
        return Conclusion("contradictory", "evidence", 1, clashes)
    if any(s.says in ("generated", "watermark") for s in ai):
        return Conclusion("generated", "both" if verdict == "generated" else "evidence", 2, clashes)
    if ai:
        return Conclusion("edited with AI", "evidence", 3, clashes)
    if camera and verdict == "generated":
        return Conclusion("contradictory", "both", 4, clashes)
    if camera:
        return Conclusion("camera", "both" if verdict == "camera" else "evidence", 5, clashes)
    return Conclusion(verdict, "pixels", 6, clashes) if verdict is not None else None
