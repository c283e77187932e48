"""`edgeparse check` beside what files say about their origin."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image, PngImagePlugin

from edgeparse import Parser
from edgeparse.cli.main import main
from tests.conftest import noise

PARAMETERS = "a cat\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x512, Model: dreamshaper_8"


@pytest.fixture
def declared(tmp_path: Path) -> Path:
    """Return a picture with the generation parameters of a Stable Diffusion front end."""
    text = PngImagePlugin.PngInfo()
    text.add_text("parameters", PARAMETERS)
    path = tmp_path / "declared.png"
    Image.fromarray(noise(160, 160)).save(path, pnginfo=text)
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["check", *map(str, arguments)], catch_exceptions=False)


def test_json_keeps_evidence_apart_from_the_verdict(declared: Path) -> None:
    (report,) = json.loads(run(declared, "--json").stdout)
    (without,) = json.loads(run(declared, "--json", "--no-evidence").stdout)
    assert [signal["says"] for signal in report["evidence"]["signals"]] == ["generated"]
    assert report["conclusion"]["finding"] == "generated"
    assert without["evidence"] is without["conclusion"] is None
    for key in ("verdict", "probability_generated"):
        assert report[key] == without[key]


def test_terminal_shows_what_the_file_declares(declared: Path) -> None:
    assert "The file declares: made with AI" in run(declared).stdout
    assert "The file declares" not in run(declared, "--no-evidence").stdout


def test_page_lists_signals(declared: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    run(declared, "--report", page)
    assert "What the file says" in page.read_text()
    assert "Generation parameters: made with AI" in page.read_text()


def test_a_picture_that_is_too_small_still_has_evidence(tmp_path: Path) -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("parameters", PARAMETERS)
    Image.fromarray(noise(8, 8)).save(tmp_path / "small.png", pnginfo=text)
    done = run(tmp_path / "small.png", "--json")
    assert done.exit_code == 1
    (report,) = json.loads(done.stdout)
    assert report["status"] == "error"
    assert report["evidence"]["signals"]


def test_arrays_have_no_evidence() -> None:
    report = Parser().parse(noise(160, 160))
    assert report.evidence is report.conclusion is None
