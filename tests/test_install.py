"""A new user's first steps in an empty environment, and an app for machines without Python."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ANY, ROOT, SAMPLES, comparing, encoded, noise

MINUTES = 2


class Clean:
    """A virtual environment and home without packages or settings."""

    def __init__(self, folder: Path) -> None:
        subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
        self.folder = folder
        self.bin = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
        self.home = folder / "home"
        self.home.mkdir()

    def run(self, program: str, *arguments: object, check: bool = True) -> str:
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("EDGEPARSE", "PYTHON", "COVERAGE"))}
        environment |= {"HOME": str(self.home), "XDG_DATA_HOME": str(self.home / "data")}
        done = subprocess.run(
            [self.bin / program, *map(str, arguments)],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert not check or done.returncode == 0, done.stderr[-2000:]
        return done.stdout


def children_cpu_seconds() -> float:
    """CPU seconds of finished child processes, which other load does not affect."""
    times = os.times()
    return times.children_user + times.children_system


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Clean:
    return Clean(tmp_path_factory.mktemp("clean"))


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows does not count the time of children")
def test_first_steps_in_two_minutes(clean: Clean, bundle_copy: Path) -> None:
    start = children_cpu_seconds()
    clean.run("python", "-m", "pip", "install", "-q", "--disable-pip-version-check", f"{ROOT}[cpu]")
    installed = clean.run("python", "-m", "pip", "list", "--format=freeze").lower()
    assert not {"torch", "scipy", "onnx", "opencv-python"} & {line.split("==")[0] for line in installed.splitlines()}

    photo = SAMPLES / "camera-dog.jpg"
    assert "probability generated" in clean.run("edgeparse", "check", photo)
    clean.run("edgeparse", "check", photo, "--report", "report.html")
    assert "camera-dog.jpg" in (clean.folder / "report.html").read_text()

    # A bundle that compares and names, whatever the default bundle does.
    bundle = ("--bundle", comparing(bundle_copy, known=ANY))
    paths = [clean.folder / f"{i}.png" for i in range(12)]
    for i, path in enumerate(paths):
        path.write_bytes(encoded(noise(160, 160, i)))
    compared = json.loads(clean.run("edgeparse", "compare", paths[0], paths[0], "--json", *bundle))
    assert compared["groups"] == [[0, 1]]
    assert "11 images" in clean.run("edgeparse", "gallery", "add", "noise maker", *paths[:11], *bundle)
    (named,) = json.loads(clean.run("edgeparse", "check", paths[11], "--json", *bundle))
    assert named["generator"]["name"] == "noise maker"
    assert list((clean.home / "data" / "edgeparse").glob("gallery-*.npz"))
    assert 1 < children_cpu_seconds() - start < MINUTES * 60


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the root file system is made for Linux")
def test_packaged_app_runs_without_python(clean: Clean) -> None:
    clean.run("python", "-m", "pip", "install", "-q", "--disable-pip-version-check", f"{ROOT}[cpu]", "pyinstaller")
    result = json.loads(clean.run("python", ROOT / "examples" / "package_app.py", clean.folder / "app"))
    assert result["said"].startswith("picture.jpg: ")
    assert 20 < result["size_mb"] < 250
    inside = {path.name for path in (clean.folder / "app" / "app" / "_internal").iterdir()}
    assert "edgeparse" in inside
    # Unused packages stay out. PyInstaller's hook excludes scipy, which the API imports only if it is installed.
    assert not {"torch", "scipy", "rich", "click"} & inside
