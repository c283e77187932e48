"""The phrases of a report, shared by the terminal and the HTML page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from edgeparse.provenance.phrases import conclusion, declared, signal_line

if TYPE_CHECKING:
    from edgeparse.bundle import Bundle
    from edgeparse.manifest import Calibration
    from edgeparse.report import Report, Verdict
    from edgeparse.video.report import VideoReport

VERDICTS: dict[Verdict, str] = {
    "camera": "looks like a camera photo",
    "generated": "looks generated",
    "inconclusive": "inconclusive: the traces do not settle it",
}

WINDOWS_ARE_NO_MAP = (
    "The coloured windows do not show which parts were edited. The answer uses all windows together. A single window is often "
    "wrong."
)

LIMITS = (
    "This is not proof. A high probability does not prove that the image was generated, and a low one does not prove a camera. Do not "
    "base a decision about a person or an event on it alone.",
    "It says nothing about what the image shows. A staged or retouched photo still comes from a camera, and a generated illustration "
    "may be honest.",
    WINDOWS_ARE_NO_MAP,
    "A named generator is the nearest known one. Versions of one model cannot be told apart reliably, and an unknown generator may "
    "resemble a known one by chance.",
    "Resizing, screenshots and strong compression remove the traces, in photos and generated images alike.",
    "Enlarging, blur, noise and other heavy edits hide the traces and may imitate them. Check the image at its original size and in its "
    "original file.",
    "Metadata was not examined. EXIF data or content credentials may reveal more than the pixels.",
)


def reason(report: Report | VideoReport, calibration: Calibration) -> str:
    """Explain the verdict by comparing the probability with the two thresholds."""
    if report.reason is not None:
        return f"The image has {report.reason}: nothing that a camera or a generator would leave traces in."
    low, high = f"{calibration.camera:.2f}", f"{calibration.generated:.2f}"
    if report.verdict == "camera":
        return f'The probability is below {low}, the limit for "camera".'
    if report.verdict == "generated":
        return f'The probability is at least {high}, the limit for "generated".'
    return f'The probability is between {low}, the limit for "camera", and {high}, the limit for "generated".'


def model_parsing_hint(bundle: Bundle) -> str | None:
    """Return how far to trust the answers about a generator's architecture and training, or None for published networks.

    Published networks were trained on the generators in use. The default network was trained on small ones; the ranges of its labels
    do not show this, because they cover larger generators.
    """
    if bundle.framing == "resize":
        return None
    return "Trained on small generators: for large models in use, treat this as a hint at best."


def count(value: int) -> str:
    """Format a count briefly: 950, 12k, 3.4M."""
    if value >= 1_000_000:
        return f"{value / 1e6:.3g}M"
    return f"{value / 1e3:.0f}k" if value >= 10_000 else str(value)


def clock(seconds: float) -> str:
    """Format a time in a clip: 0:05.2, or 1:02:05 from an hour on."""
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    if minutes >= 60:
        return f"{minutes // 60}:{minutes % 60:02d}:{rest // 10:02d}"
    return f"{minutes}:{rest // 10:02d}.{rest % 10}"


def printable(text: str) -> str:
    """Replace control characters, which could control a terminal, with U+FFFD."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)


def evidence_summary(report: Report | VideoReport) -> Iterator[str]:
    """Yield what the file declares, the conclusion that rests on it, and contradictions; nothing without evidence."""
    if report.evidence is not None and report.evidence.signals:
        yield declared(report.evidence)
    if report.conclusion is not None and report.conclusion.basis != "pixels":
        yield f"Conclusion: {conclusion(report.conclusion)}"
    if report.conclusion is not None:
        yield from (f"Contradiction: {clash}" for clash in report.conclusion.contradictions)


def evidence_lines(report: Report | VideoReport) -> Iterator[str]:
    """Yield one line per signal, and then the conclusion and contradictions; nothing without evidence."""
    if report.evidence is not None and report.evidence.signals:
        yield from map(signal_line, report.evidence.signals)
        yield from list(evidence_summary(report))[1:]
