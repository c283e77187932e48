"""A build that is killed and started again ends with the zoo of one that was left alone."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgeparse.bundle import default_folder
from tests.conftest import ROOT
from tests.training.public_data import write_data
from training.zoo.description import describe
from training.zoo.document import rendered
from training.zoo.files import generator_files

RESULTS = ROOT / "training/results"
COUNT = 7
OPTIONS = [
    "--count",
    str(COUNT),
    "--rounds",
    "1",
    "--size",
    "64",
    "--pictures",
    "2,1,1",
    "--tera-macs",
    "1e-6",
    "--min-steps",
    "4",
]


def start(data: Path, zoo: Path) -> subprocess.Popen:
    command = [
        sys.executable,
        "-m",
        "training",
        "zoo",
        "build",
        str(data),
        "--out",
        str(zoo),
        "--workers",
        "2",
        *OPTIONS,
    ]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def wait_for(condition: object, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.05)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.slow
def test_killed_twice_ends_with_the_same_zoo(tmp_path: Path) -> None:
    data, whole, broken = tmp_path / "data", tmp_path / "whole", tmp_path / "broken"
    write_data(data)
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
    assert (ROOT / "docs/zoo.md").read_text() == rendered(RESULTS, default_folder())


def test_what_leaks_is_shown_where_it_was_measured(tmp_path: Path) -> None:
    shutil.copytree(RESULTS, tmp_path, dirs_exist_ok=True)
    found = {
        name: [] for name in ("near_duplicates_across_splits", "contents_across_splits", "equal_labels_across_splits")
    }
    found["contents_across_splits"] = ["cq100/1.png"]
    leaks = found | {"format_floor_auc": 0.612}
    (tmp_path / "leakage.json").write_text(json.dumps(leaks))
    page = rendered(tmp_path, default_folder())
    assert "| photos whose content lies in more than one split | 1 |" in page
    assert "0.612" in page
    with pytest.raises(FileNotFoundError, match="zoo document"):
        rendered(tmp_path / "none", default_folder())
