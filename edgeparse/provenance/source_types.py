"""IPTC's digital source types and what each of them says."""

from __future__ import annotations

from edgeparse.provenance.signals import Says

# https://cv.iptc.org/newscodes/digitalsourcetype/
_SAYS: dict[str, Says] = {
    "trainedAlgorithmicMedia": "generated",
    "compositeWithTrainedAlgorithmicMedia": "edited with AI",
    # A composite with synthetic parts, not necessarily made by AI.
    "compositeSynthetic": "edited with AI",
    "algorithmicallyEnhanced": "other",
    "algorithmicMedia": "other",
    "dataDrivenMedia": "other",
    "digitalArt": "other",
    "digitalCreation": "other",
    "virtualRecording": "other",
    "screenCapture": "other",
    "composite": "human edit",
    "compositeCapture": "human edit",
    "humanEdits": "human edit",
    "minorHumanEdits": "human edit",
    "digitalCapture": "camera",
    "computationalCapture": "camera",
    "negativeFilm": "camera",
    "positiveFilm": "camera",
    "print": "camera",
}
_BASES = (
    "http://cv.iptc.org/newscodes/digitalsourcetype/",
    "https://cv.iptc.org/newscodes/digitalsourcetype/",
    "digsrctype:",
    "http://c2pa.org/digitalsourcetype/",
    "",
)
_BY_CODE = {code.casefold(): code for code in _SAYS}


def code_of(value: object) -> str | None:
    """Return the IPTC code of a value, with or without its vocabulary's address; None when unknown."""
    if not isinstance(value, str) or len(value) > 200:
        return None
    text = value.strip()
    for base in _BASES:
        if text.casefold().startswith(base.casefold()):
            return _BY_CODE.get(text[len(base) :].strip("/").casefold())
    return None


def says_of(code: str) -> Says:
    """Return what a code from `code_of` says."""
    return _SAYS[code]
