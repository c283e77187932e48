"""Documents name commands, options and files that exist, and stay short."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from PIL import Image

from edgeparse import errors
from edgeparse.cli.main import main as edgeparse
from engines import recipes
from engines.__main__ import main as engines
from export.__main__ import main as export
from tests.conftest import ROOT, noise, sample_files
from tests.edgeparse.video.clips import encode


@pytest.mark.parametrize(("document", "words"), [("README.md", 900), ("CONTRIBUTING.md", 1200), ("docs/gpu.md", 1800)])
def test_documents_stay_short(document: str, words: int) -> None:
    assert len((ROOT / document).read_text().split()) <= words


def test_every_sample_has_its_licence_named() -> None:
    text = (ROOT / "samples/README.md").read_text()
    for path in sample_files():
        assert f"`{path.name}`" in text


def blocks(document: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)


@pytest.mark.parametrize("document", ["README.md", "docs/usage.md"])
def test_python_in_documents_runs(document: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photo.jpg").write_bytes((ROOT / "samples/camera-dog.jpg").read_bytes())
    (tmp_path / "clip.mp4").write_bytes(encode([noise(128, 128)] * 4))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    found = blocks(document, "python")
    assert found
    for code in found:
        exec(compile(code, document, "exec"), {"pictures": [noise(150, 150, seed) for seed in range(10)]})


def test_links_between_documents_work() -> None:
    for document in (
        "README.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "docs/usage.md",
        "docs/accuracy.md",
        "docs/gpu.md",
        "docs/research-notes.md",
        "MODEL_CARD.md",
    ):
        text = (ROOT / document).read_text()
        for link in re.findall(r"\]\(([^)#]+)\)|(?:src|srcset)=\"([^\"]+)\"", text):
            target = link[0] or link[1]
            if not target.startswith("http"):
                assert ((ROOT / document).parent / target).exists(), f"{document}: {target}"


def test_command_lines_in_documents_are_understood() -> None:
    """Every option that a document names exists."""
    for line in "\n".join(blocks("README.md", "sh")).splitlines():
        if line.startswith("edgeparse "):
            words = line.split("#")[0].split()
            command = words[1:3] if words[1] == "gallery" else words[1:2]
            text = subprocess.run(
                [sys.executable, "-m", "edgeparse", *command, "--help"], capture_output=True, text=True, check=True
            ).stdout
            for option in (word for word in words if word.startswith("-")):
                assert option in text, line


def test_screenshots_are_small() -> None:
    pictures = sorted((ROOT / "docs").glob("report-*.webp"))
    assert len(pictures) == 3
    for path in pictures:
        assert path.stat().st_size < 150_000
        with Image.open(path) as image:
            assert image.width > 1000


def test_api_reference_has_every_public_name(tmp_path: Path) -> None:
    command = re.search(r"`python -m (pdoc [^`]*)`", (ROOT / "docs/usage.md").read_text())
    assert command is not None
    subprocess.run([sys.executable, "-m", *command[1].split(), "-o", str(tmp_path)], cwd=ROOT, check=True)
    pages = "".join(path.read_text() for path in tmp_path.rglob("*.html"))
    for name in (
        "Parser.parse",
        "Parser.compare",
        "Parser.inspect",
        "Report.to_json",
        "Comparison.matrix",
        "GalleryStore.add",
        "HtmlReport.render",
    ):
        assert f'id="{name}"' in pages, name


def test_gpu_page_names_existing_errors_recipes_and_options() -> None:
    text = (ROOT / "docs/gpu.md").read_text()
    for name in re.findall(r"`(\w+Error)`", text):
        assert issubclass(getattr(errors, name), errors.BackendError)
    for name in re.findall(r"`((?:jetson|rtx|l4|h[12]00)[\w-]*)`", text):
        assert name in recipes.names()
    programs = {"edgeparse": edgeparse, "python -m engines": engines, "python -m export": export}
    commands = re.findall(r"^(edgeparse|python -m engines|python -m export) (\w+)([^#\n]*)", text, re.MULTILINE)
    assert len(commands) > 8
    for program, command, rest in commands:
        group = programs[program]
        found = group.get_command(click.Context(group), command)
        assert found is not None, command
        known = {name for parameter in found.params for name in parameter.opts}
        assert set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", rest)) <= known, (program, command, rest)
