"""A build that is killed and started again ends with the zoo of one that was left alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from edgeparse.bundle import default_folder
from tests.test_pipeline import make_data
from training.zoo.description import describe
from training.zoo.document import render
from training.zoo.files import generator_files

COUNT = 7
OPTIONS = ["--count", str(COUNT), "--size", "64", "--pictures", "2,1,1", "--tera-macs", "1e-6", "--min-steps", "4"]


def start(data: Path, zoo: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "training.zoo", "build", str(data), "--out", str(zoo), "--workers", "2", *OPTIONS]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def wait_for(condition: object, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.05)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_killed_twice_ends_with_the_same_zoo(tmp_path: Path) -> None:
    data, whole, broken = tmp_path / "data", tmp_path / "whole", tmp_path / "broken"
    make_data(data)
    assert start(data, whole).wait() == 0
    for finished in (1, 3):
        build = start(data, broken)
        wait_for(lambda finished=finished: len(generator_files(broken)) >= finished)
        workers = children(build.pid)
        os.kill(build.pid, signal.SIGKILL)
        build.wait()
        # Nor does a worker go on alone.
        wait_for(lambda workers=workers: not any(Path(f"/proc/{pid}").exists() for pid in workers), 30)
    assert len(generator_files(broken)) < COUNT
    assert start(data, broken).wait() == 0
    described = describe(whole)["generators"]
    assert described == describe(broken)["generators"]
    assert len(described) == COUNT


def test_the_document_is_rendered_from_the_results() -> None:
    root = Path(__file__).parent.parent
    names = ("zoo", "zoo-probe", "leakage", "data")
    found, probed, leaks, stream = (json.loads((root / f"training/results/{name}.json").read_text()) for name in names)
    manifest = json.loads((default_folder() / "bundle.json").read_text())
    assert (root / "docs/zoo.md").read_text() == render(found, probed, manifest, leaks, stream)
