"""An answer in plain words, the same in the terminal and on the page."""

from __future__ import annotations

from edgeparse.bundle import Bundle, Calibration
from edgeparse.report import Report, Verdict

VERDICTS: dict[Verdict, str] = {
    "camera": "looks like a camera photo",
    "generated": "looks generated",
    "inconclusive": "inconclusive: the traces do not settle it",
}

NO_MAP = (
    "The coloured windows are not a map of manipulated places. The answer rests on all of them together, and a single one is often "
    "wrong."
)

NOT_MEANT = (
    "It is no proof. A high probability does not prove a generator, and a low one does not prove a camera. Do not base a decision about "
    "a person, or about whether something happened, on it alone.",
    "It says nothing about what the picture shows. A staged or retouched photo is still a camera's, and an honest illustration may be "
    "generated.",
    NO_MAP,
    "A named generator is the nearest of those that are known. Two versions of one model are not told apart reliably, and an unknown one "
    "may lie near a known one by chance.",
    "Resizing, screenshots and strong compression remove what is looked for, in photos and in generated pictures alike.",
    "Enlarging, blur, noise and other heavy edits hide what is looked for, and may leave what looks like it. Look at the picture in the "
    "size and form that it was taken in.",
    "Metadata was not looked at. A picture's EXIF or provenance manifest may say more than its pixels.",
)


def reason(report: Report, calibration: Calibration) -> str:
    """Why the verdict is what it is: the probability against the two thresholds."""
    low, high = f"{calibration.camera:.2f}", f"{calibration.generated:.2f}"
    if report.verdict == "camera":
        return f"The probability is below {low}, where pictures are called camera photos."
    if report.verdict == "generated":
        return f"The probability is {high} or more, where pictures are called generated."
    return (
        f"From {high} on it would be called generated, below {low} a camera photo. In between, either may have made it."
    )


def hint(bundle: Bundle) -> str | None:
    """What answers about a generator's inside are worth. None of the published networks, which learnt from models as they are in use.

    The range of a label says nothing of it: it leaves room for generators far larger than any that was learnt from.
    """
    if bundle.framing == "resize":
        return None
    return "Learnt from small generators: of the large models that are in use, a hint at best."


def count(value: int) -> str:
    """A count, short: 950, 12k, 3.4M."""
    if value >= 1_000_000:
        return f"{value / 1e6:.3g}M"
    return f"{value / 1e3:.0f}k" if value >= 10_000 else str(value)
