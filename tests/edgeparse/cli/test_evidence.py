"""The command `edgeparse evidence`."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import edgeparse
from tests.edgeparse.provenance import build


@pytest.fixture(scope="module")
def command() -> click.Command:
    # Loaded by its path, so that the test holds while the command line is still one module.
    path = Path(edgeparse.__file__).parent / "cli" / "evidence.py"
    spec = importlib.util.spec_from_file_location("edgeparse_cli_evidence", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: click.Command = module.evidence
    return found


def test_table(command: click.Command, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(build.png(build.text("parameters", build.A1111)))
    result = CliRunner().invoke(command, [str(path)])
    assert result.exit_code == 0
    assert "The file declares: made with AI (Stable Diffusion web UI (AUTOMATIC1111))." in result.output
    assert "SynthID and other closed watermarks cannot be checked offline." in result.output


def test_json_lines_and_a_file_that_is_missing(command: click.Command, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(build.jpeg())
    result = CliRunner().invoke(command, ["--json", str(path), str(tmp_path / "none.jpg")])
    assert result.exit_code == 1
    first, second = (json.loads(line) for line in result.stdout.splitlines())
    assert first["evidence"] == {"format": "JPEG", "signals": [], "problems": []}
    assert "error" in second
    assert "none.jpg" in result.stderr


def test_trust_must_be_a_file(command: click.Command, tmp_path: Path) -> None:
    assert CliRunner().invoke(command, ["--trust", str(tmp_path / "x.pem"), "a.jpg"]).exit_code == 2


def test_trust_anchors(command: click.Command, tmp_path: Path) -> None:
    pytest.importorskip("c2pa", reason="the extra `provenance` is not installed")
    from tests.edgeparse.provenance import signing

    signer = signing.credential()
    picture, anchors = tmp_path / "a.jpg", tmp_path / "root.pem"
    picture.write_bytes(signing.sign(build.jpeg(), "image/jpeg", signing.created("digitalCapture"), signer))
    anchors.write_text(signer.root)
    result = CliRunner().invoke(command, ["--trust", str(anchors), str(picture)])
    assert "taken with a camera" in result.output
    assert "signature valid, signer trusted" in result.output
