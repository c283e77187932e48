"""Closed streams, closed pipes and terminals with a narrow encoding."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, sample_files

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
EDGEPARSE = f"{sys.executable} -m edgeparse"


def _shell(line: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("needs bash")
    return subprocess.run(
        [bash, "-o", "pipefail", "-c", line], capture_output=True, cwd=ROOT, env=os.environ | environment, check=False
    )


def test_a_closed_standard_error_keeps_the_result() -> None:
    done = _shell(f"{EDGEPARSE} check --jsonl {sample_files()[0]} 2>&-")
    assert done.returncode == 0
    assert json.loads(done.stdout)["status"] == "ok"
    failed = _shell(f"{EDGEPARSE} check --jsonl missing.jpg 2>&-")
    assert failed.returncode == 1
    assert json.loads(failed.stdout)["error"]["kind"] == "not_found"
    assert _shell(f"{EDGEPARSE} chek 2>&-").returncode == 2


@pytest.mark.parametrize("form", ["--jsonl", ""])
def test_a_closed_standard_output_is_no_failed_image(form: str) -> None:
    done = _shell(f"{EDGEPARSE} check {form} {sample_files()[0]} >&-")
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("arguments", ["--help", "check --help", "doctor", f"check --jsonl {sample_files()[0]}"])
def test_a_reader_that_closes_the_pipe_ends_the_run_as_in_a_shell(arguments: str) -> None:
    done = _shell(f"{EDGEPARSE} {arguments} | true")
    assert done.returncode in (0, 141)
    assert done.stderr == b""


@pytest.mark.skipif(sys.platform == "darwin", reason="file names are text there")
@pytest.mark.parametrize("command", ["check -r {0}", "compare -r {0}"])
def test_an_ascii_terminal_shows_what_it_can(tmp_path: Path, command: str) -> None:
    for name in (b"b\xe9b\xe9.webp", "caf\u00e9.webp".encode(), b"plain.webp"):
        shutil.copy(sample_files()[0], os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    line = f"{EDGEPARSE} {command.format(tmp_path)}"
    done = _shell(line, LC_ALL="C", PYTHONUTF8="0", PYTHONIOENCODING="ascii", COLUMNS="400")
    assert done.returncode == 0, done.stderr
    assert b"plain.webp" in done.stdout
    assert b"b?b?.webp" in done.stdout
    assert b"Traceback" not in done.stderr
