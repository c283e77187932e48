"""The conclusion's rules and the sentences."""

from __future__ import annotations

import pytest

from edgeparse import provenance
from edgeparse.provenance import Evidence, Signal, phrases
from edgeparse.provenance.signals import make_signal
from tests.edgeparse.provenance import build

AI = make_signal("parameters", "generated", "PNG tEXt parameters", name="ComfyUI")
WEAK_AI = make_signal("parameters", "generated", "PNG tEXt prompt", name="ComfyUI", strength="weak")
EDIT = make_signal("samsung", "edited with AI", "JPEG trailer", name="Galaxy AI (Samsung)")
MARK = make_signal("watermark", "watermark", "PNG pixels", name="Stable Diffusion XL")
CAMERA = make_signal("exif", "camera", "JPEG APP1/Exif", name="Canon EOS R5")
SURE_CAMERA = make_signal("c2pa", "camera", "JPEG APP11", name="Leica", verification="verified")
BROKEN = make_signal("c2pa", "other", "JPEG APP11", verification="invalid", signature="valid", binding="mismatch")

RULES = [
    ((SURE_CAMERA, AI), "inconclusive", "contradictory", "evidence", 1),
    ((AI,), "camera", "generated", "evidence", 2),
    ((AI, CAMERA), "generated", "generated", "both", 2),
    ((MARK,), "inconclusive", "generated", "evidence", 2),
    ((EDIT, CAMERA), "camera", "edited with AI", "evidence", 3),
    ((SURE_CAMERA,), "generated", "contradictory", "both", 4),
    ((SURE_CAMERA,), "camera", "camera", "both", 5),
    ((SURE_CAMERA,), "inconclusive", "camera", "evidence", 5),
    ((CAMERA,), "generated", "generated", "pixels", 6),
    ((CAMERA,), "inconclusive", "inconclusive", "pixels", 6),
    ((WEAK_AI,), "camera", "camera", "pixels", 6),
    ((BROKEN,), "camera", "camera", "pixels", 6),
    ((), "camera", "camera", "pixels", 6),
]


@pytest.mark.parametrize(("signals", "verdict", "finding", "basis", "rule"), RULES)
def test_rule(signals: tuple[Signal, ...], verdict: str, finding: str, basis: str, rule: int) -> None:
    result = provenance.conclude(Evidence("JPEG", signals), verdict)  # type: ignore[arg-type]
    assert (result.finding, result.basis, result.rule) == (finding, basis, rule)


def test_contradictions() -> None:
    [clash] = provenance.contradictions(Evidence("JPEG", (AI, CAMERA)))
    assert "Canon EOS R5" in clash
    assert "ComfyUI" in clash
    assert provenance.contradictions(Evidence("JPEG", (EDIT, CAMERA))) == ()
    assert provenance.contradictions(Evidence("JPEG", (BROKEN,))) == (
        "content credentials that do not match this picture",
    )


def test_summary_keeps_evidence_and_pixels_apart() -> None:
    details = {"signature": "valid", "binding": "match", "trust": "trusted", "certificate": "valid"}
    signal = make_signal("c2pa", "generated", "PNG caBX", name="OpenAI", verification="verified", details=details)
    line = phrases.summary(Evidence("PNG", (signal,)), "inconclusive", 0.41)
    assert line == (
        "The file declares: made with AI (OpenAI, signature valid, signer trusted). Pixels: inconclusive (0.41)."
    )


def test_absence_is_never_authentic() -> None:
    for evidence in (Evidence("JPEG"), Evidence(None), Evidence("JPEG", (CAMERA,))):
        text = " ".join(phrases.lines(evidence))
        assert "authentic" not in text.replace("does not mean that it is authentic", "")
    assert phrases.declared(Evidence("JPEG")) == phrases.NO_EVIDENCE


def test_every_signal_has_a_line() -> None:
    for signal in (AI, WEAK_AI, EDIT, MARK, CAMERA, SURE_CAMERA, BROKEN):
        line = phrases.signal_line(signal)
        assert signal.where in line
        assert signal.strength in line


def test_strengths_order_the_signals() -> None:
    data = build.png(
        build.text("parameters", build.A1111), build.chunk(b"eXIf", build.exif(build.CAMERA, build.EXPOSURE))
    )
    assert [signal.strength for signal in provenance.read(data).signals] == ["medium", "weak"]


def test_a_reader_that_fails_costs_no_other_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgeparse.provenance import exif

    def fail(_: object) -> list[Signal]:
        raise MemoryError("too much")

    monkeypatch.setattr(exif, "read", fail)
    data = build.png(build.text("parameters", build.A1111), build.chunk(b"eXIf", build.exif(build.CAMERA)))
    evidence = provenance.read(data)
    assert [signal.says for signal in evidence.signals] == ["generated"]
    assert [(problem.reader, problem.message) for problem in evidence.problems] == [("exif", "MemoryError: too much")]


def test_nothing_heavy_is_imported() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from edgeparse import provenance; provenance.read(b'\\xff\\xd8\\xff\\xd9');"
        "print([m for m in ('PIL', 'c2pa', 'onnxruntime') if m in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
