"""Plain sentences for evidence and conclusions, for the terminal, the HTML page and the report."""

from __future__ import annotations

from edgeparse.provenance.rules import Conclusion, main_signal
from edgeparse.provenance.signals import Evidence, Says, Signal

NO_EVIDENCE = "The file carries no evidence of its origin. That does not mean that it is authentic."
NOT_CHECKED = "SynthID and other closed watermarks cannot be checked offline."
SAYS: dict[Says, str] = {
    "generated": "made with AI",
    "edited with AI": "edited with AI",
    "camera": "taken with a camera",
    "human edit": "edited by hand",
    "watermark": "marked by an AI generator",
    "other": "nothing about AI or a camera",
}
KINDS = {
    "c2pa": "Content credentials",
    "xmp": "XMP",
    "iptc": "IPTC",
    "aigc": "AIGC label (TC260)",
    "parameters": "Generation parameters",
    "exif": "EXIF",
    "samsung": "Samsung edit record",
    "stealth": "Hidden parameters",
    "watermark": "Open watermark",
    "thumbnail": "EXIF thumbnail",
    "text": "Text field",
}


def verification(signal: Signal) -> str:
    """Return how far a signal was verified, in words."""
    details = signal.details
    if signal.verification == "verified":
        return "signature valid, signer trusted"
    if signal.verification == "invalid":
        if details.get("binding") == "mismatch":
            return "invalid: the picture or its credentials were changed after signing"
        return "invalid: the signature does not hold" if "signature" in details else "damaged"
    if "signature" in details:
        parts = ["signature valid", f"signer {details.get('trust', 'not checked')}"]
        if details.get("certificate", "valid") != "valid":
            parts.append(f"certificate {details['certificate']}")
        return ", ".join(parts)
    return signal.verification


def signal_line(signal: Signal) -> str:
    """Return one line on a signal: carrier, statement, name, verification, strength, place."""
    name = f" ({signal.name})" if signal.name else ""
    says = details if (details := signal.details.get("state")) else SAYS[signal.says]
    return f"{KINDS[signal.kind]}: {says}{name}; {verification(signal)}; {signal.strength}; {signal.where}"


def declared(evidence: Evidence) -> str:
    """Return the sentence on what the file declares, for example "The file declares: made with AI (OpenAI)."."""
    signal = main_signal(evidence)
    if signal is None:
        return f"The file says {SAYS['other']}." if evidence.signals else NO_EVIDENCE
    facts = [signal.name] if signal.name else []
    facts += [verification(signal)] if signal.kind == "c2pa" else []
    shown = f" ({', '.join(facts)})" if facts else ""
    return f"The file declares: {SAYS[signal.says]}{shown}."


def summary(evidence: Evidence, verdict: str, probability: float) -> str:
    """Return the line that keeps evidence and pixels apart.

    Args:
        evidence: The file's evidence.
        verdict: The pixels' verdict.
        probability: The pixels' probability of "generated", 0 to 1.
    """
    return f"{declared(evidence)} Pixels: {verdict} ({probability:.2f})."


def conclusion(result: Conclusion) -> str:
    """Return the conclusion as a sentence."""
    basis = {
        "evidence": "by what the file declares",
        "pixels": "by the pixels alone",
        "both": "by what the file declares and by the pixels",
    }[result.basis]
    finding = {
        "generated": "Made with AI",
        "edited with AI": "Edited with AI",
        "camera": "Taken with a camera",
        "contradictory": "The statements contradict each other",
        "inconclusive": "Inconclusive",
    }[result.finding]
    return f"{finding}, {basis}."


def lines(evidence: Evidence) -> list[str]:
    """Return every line that a full account prints: the sentence, the signals, the problems and the limits."""
    return [
        declared(evidence),
        *(signal_line(signal) for signal in evidence.signals),
        *(f"Not read: {problem.reader}: {problem.message}" for problem in evidence.problems),
        NOT_CHECKED,
    ]
