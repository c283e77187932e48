"""Files as they lie on disk: the committed samples, and real ones where EDGEPARSE_EVIDENCE names their folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgeparse import provenance
from edgeparse.provenance.rules import main_signal

SAMPLES = Path(__file__).parent / "samples"
REAL = os.environ.get("EDGEPARSE_EVIDENCE")

# File: what its main signal says, a part of the name that it gives, its strength.
EXPECTED_SAMPLES = {
    "a1111-parameters.png": ("generated", "AUTOMATIC1111", "medium"),
    "a1111-comment.jpg": ("generated", "AUTOMATIC1111", "medium"),
    "aigc-label.png": ("generated", "0011911", "medium"),
    "c2pa-unsigned.png": None,
    "camera.jpg": ("camera", "Canon EOS R5", "weak"),
    "comfyui.png": ("generated", "ComfyUI", "medium"),
    "credit.jpg": ("generated", "Google AI", "medium"),
    "galaxy-edit.jpg": ("edited with AI", "Galaxy AI", "medium"),
    "xmp-source-type.webp": ("generated", "", "medium"),
    "look-alike-behind-the-end.png": None,
    "look-alike-caption.jpg": None,
    "look-alike-make.jpg": None,
    "nothing.jpg": None,
}
# As the folder's README says. None: nothing about AI, a camera or an edit.
EXPECTED_REAL = {
    "a1111-parameters-exif.webp": ("generated", "AUTOMATIC1111", "medium"),
    "a1111-stealth-pngcomp-no-text.png": ("generated", "Stable Diffusion web UI", "medium"),
    "adobe-firefly-c2pa.png": ("generated", "Adobe Firefly", "medium"),
    "azure-openai-gpt-image-1-c2pa.png": ("generated", "Azure OpenAI", "medium"),
    "bing-image-creator-c2pa.jpg": ("generated", "Bing Image Creator", "medium"),
    "c2pa-boxhash.jpg": None,
    "c2pa-fixture-digital-capture-cawg.jpg": ("camera", "c2pa cawg test", "weak"),
    "c2pa-fixture-expired-no-timestamp.jpg": ("camera", "iPhone 15 Pro", "weak"),
    "c2pa-fixture-hash-mismatch.jpg": None,
    "c2pa-fixture-remote-manifest.jpg": ("human edit", "Adobe Photoshop", "weak"),
    "c2pa-fixture-valid-algorithmic.jpg": None,
    "c2pa-signature-mismatch.jpg": None,
    "camera-canon-powershot-s40.jpg": ("camera", "Canon PowerShot S40", "weak"),
    "camera-nikon-e950.jpg": ("camera", "E950", "weak"),
    "canon-lightroom.jpg": ("camera", "Canon EOS REBEL T3", "weak"),
    "comfyui-graph-in-exif-make.jpg": ("generated", "ComfyUI", "medium"),
    "comfyui-mochi-animated.webp": ("generated", "ComfyUI", "medium"),
    # This one is a screenshot of the editor too; the graph makes 832x384 pixels.
    "comfyui-prompt-workflow-text.png": ("generated", "ComfyUI", "weak"),
    "comfyui-screenshot-with-graph.png": ("generated", "ComfyUI", "weak"),
    "dalle-3-c2pa-png-named-jpg.jpg": ("generated", "DALL·E", "medium"),
    "doubao-tc260-label-gray.png": ("generated", "001191110102MACQD9K64010000", "medium"),
    "edited-lightroom-5-canon-t3.jpg": ("camera", "Canon EOS REBEL T3", "weak"),
    "fooocus-scheme-1x1.png": ("generated", "Fooocus", "medium"),
    "forge-neo-parameters-exif.jpg": ("generated", "Forge Neo", "medium"),
    "gemini-3-pro-image-c2pa-jpeg-named-png.png": ("generated", "Google generative AI", "medium"),
    "generated-nothing-left.png": None,
    "grok-xai-exif-signature-pair.jpg": ("generated", "Grok", "medium"),
    "invokeai-metadata-1x1.png": ("generated", "InvokeAI", "medium"),
    "lookalike-gimp-resave-of-ai-picture.jpg": None,
    "lookalike-screenshot-of-sd-prompt-reader.png": None,
    "lookalike-xmp-provenance-manifest-stripped.jpg": ("human edit", "Adobe Photoshop", "weak"),
    "midjourney-xmp-trained-algorithmic.png": ("generated", "Midjourney", "medium"),
    "nikon-z9-camera-c2pa.jpg": ("camera", "Nikon_Z_9", "weak"),
    "novelai-text-and-stealth.png": ("generated", "NovelAI", "medium"),
    "photoshop-firefly-composite-c2pa.jpg": ("edited with AI", "Adobe Firefly", "medium"),
    "samsung-galaxy-ai-edit-black.png": ("edited with AI", "Photo assist", "medium"),
    "tiny-all-metadata.png": ("human edit", "Adobe", "weak"),
    "trustmark-variant-p-watermark.png": None,
}


def check(path: Path, expected: tuple[str, str, str] | None) -> None:
    evidence = provenance.read(path)
    assert evidence.problems == ()
    signal = main_signal(evidence)
    if expected is None:
        assert signal is None
        return
    assert signal
    says, name, strength = expected
    assert (signal.says, signal.strength) == (says, strength)
    assert name in (signal.name or "")


@pytest.mark.parametrize("name", EXPECTED_SAMPLES)
def test_sample(name: str) -> None:
    check(SAMPLES / name, EXPECTED_SAMPLES[name])


def test_every_sample_is_expected() -> None:
    assert {path.name for path in SAMPLES.iterdir()} == EXPECTED_SAMPLES.keys()


@pytest.mark.skipif(not REAL, reason="EDGEPARSE_EVIDENCE names no folder of files")
@pytest.mark.parametrize("name", EXPECTED_REAL)
def test_real_file(name: str) -> None:
    path = Path(REAL or "") / name
    if not path.exists():
        pytest.skip(f"{name} is not in the folder")
    check(path, EXPECTED_REAL[name])


@pytest.mark.skipif(not REAL, reason="EDGEPARSE_EVIDENCE names no folder of files")
def test_tampered_files_are_invalid() -> None:
    pytest.importorskip("c2pa", reason="the extra `provenance` is not installed")
    for name in ("c2pa-fixture-hash-mismatch.jpg", "c2pa-signature-mismatch.jpg"):
        [signal] = [s for s in provenance.read(Path(REAL or "") / name).signals if s.kind == "c2pa"]
        assert (signal.says, signal.verification) == ("other", "invalid")
    for name in ("c2pa-boxhash.jpg", "azure-openai-gpt-image-1-c2pa.png", "nikon-z9-camera-c2pa.jpg"):
        [signal] = [s for s in provenance.read(Path(REAL or "") / name).signals if s.kind == "c2pa"]
        assert (signal.details["signature"], signal.details["binding"]) == ("valid", "match")
