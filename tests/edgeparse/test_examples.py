"""The examples run and do what their docstrings state."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
from fastapi.testclient import TestClient

from tests.conftest import ROOT, encoded, noise, sample_files

EXAMPLES = ROOT / "examples"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_server_reports_and_refuses() -> None:
    client = TestClient(load("server").app)
    path = sample_files()[0]
    answer = client.post("/check", files={"picture": (path.name, path.read_bytes())})
    assert answer.status_code == 200
    assert answer.json()["source"] == path.name
    assert answer.json()["verdict"] in ("camera", "generated", "inconclusive")
    refused = client.post("/check", files={"picture": ("x.jpg", b"junk")})
    assert refused.status_code == 422
    assert refused.json()["detail"]["kind"] == "not_an_image"
    assert client.get("/health").json()["bundle"]


def test_server_is_thirty_lines_of_code() -> None:
    lines = (EXAMPLES / "server.py").read_text().splitlines()
    assert len(lines) <= 36
    assert len([line for line in lines if line.strip()]) <= 30


def test_camera_loop_draws_on_every_frame(tmp_path: Path) -> None:
    video = str(tmp_path / "video.avi")
    writer = cv2.VideoWriter(video, cv2.VideoWriter_fourcc(*"MJPG"), 15, (320, 240))
    for i in range(5):
        writer.write(noise(240, 320, i))
    writer.release()
    example = load("camera_loop")
    plain = list(example.frames(video))
    drawn = list(example.annotated(video))
    assert len(drawn) == len(plain) == 5
    for before, (after, report) in zip(plain, drawn, strict=True):
        assert report.status == "ok"
        assert (before[:34] != after[:34]).mean() > 0.5
        assert np.array_equal(before[40:], after[40:])
    with pytest.raises(SystemExit, match="cannot be opened"):
        next(example.frames(str(tmp_path / "none.avi")))


def test_watcher_reports_what_arrives(tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / "watch_folder.py"), str(tmp_path)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}
    ) as watcher:
        assert watcher.stderr is not None
        assert watcher.stdout is not None
        assert "watching" in watcher.stderr.readline()
        (tmp_path / "note.txt").write_text("no picture")
        (tmp_path / "new.png").write_bytes(encoded(noise(150, 150)))
        report = json.loads(watcher.stdout.readline())
        watcher.terminate()
    assert Path(report["source"]).name == "new.png"
    assert report["status"] == "ok"


def test_app_writes_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.html"
    assert load("app").main([str(sample_files()[0]), "missing.png"], page) == 1
    assert "there is no file" in capsys.readouterr().out
    assert sample_files()[0].name in page.read_text()
