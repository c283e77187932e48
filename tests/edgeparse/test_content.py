from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from PIL import Image, ImageDraw

import edgeparse
from edgeparse import Parser
from edgeparse.content import photographic
from edgeparse.render.html import HtmlReport
from tests.conftest import noise, sample_files

RNG = np.random.default_rng(0)
FLAT = np.full((300, 300, 3), (255, 0, 0), np.uint8)
NOISE = RNG.integers(0, 256, (300, 300, 3), np.uint8)


def chart() -> np.ndarray:
    image = Image.new("RGB", (400, 400), "white")
    draw = ImageDraw.Draw(image)
    for i in range(8):
        draw.rectangle((20 + i * 45, 380 - 40 * i, 50 + i * 45, 390), fill=(20 * i, 90, 200 - 20 * i))
    return np.asarray(image)


@pytest.mark.parametrize("pixels", [FLAT, NOISE, chart()], ids=["flat", "noise", "chart"])
def test_pictures_without_content_get_no_answer(parser: Parser, pixels: np.ndarray) -> None:
    report = parser.parse(pixels)
    assert report.verdict == "inconclusive"
    assert report.reason == "no photographic content"
    answers = (report.probability_generated, report.generator, report.family, report.architecture, report.losses)
    assert answers == (None,) * 5
    schema = json.loads((Path(edgeparse.__file__).parent / "report.schema.json").read_text())
    jsonschema.validate([report.to_json()], schema)


def test_page_explains_a_picture_without_content(parser: Parser) -> None:
    inspection = parser.inspect(FLAT)
    page = HtmlReport(parser.bundle, 1)
    page.add(inspection.report, inspection)
    assert "no photographic content" in page.render()


def test_samples_have_content(parser: Parser) -> None:
    assert {parser.parse(path).reason for path in sample_files()} == {None}


def test_windows_without_content_do_not_count(parser: Parser) -> None:
    """A photo beside a flat area is judged by the photo."""
    photo = noise(128, 128, 3)
    both = np.concatenate([photo, np.full_like(photo, 200)], axis=1)
    inspection = parser.inspect(both)
    windows = np.stack([both[top : top + 128, left : left + 128] for top, left in inspection.corners])
    kept = photographic(windows)
    assert 0 < kept.sum() < len(kept)
    logits = parser.network.run(windows[kept], ["generated"])["generated"]
    calibration = parser.bundle.calibration
    assert calibration is not None
    expected = 1 / (1 + np.exp(-(calibration.scale * logits.mean() + calibration.bias)))
    assert inspection.report.probability_generated == pytest.approx(expected, abs=1e-3)
