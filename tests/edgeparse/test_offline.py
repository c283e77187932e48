"""Nothing leaves the machine, and nothing is written that the user did not name."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgeparse import __pyinstaller
from tests.conftest import ROOT, sample_files

# Raises on every network call that Python makes. Native libraries are watched by strace where it is installed.
GUARD = """
import sys
def refuse(event, args):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto", "socket.gethostbyname"):
        raise RuntimeError(f"network use: {event} {args}")
sys.addaudithook(refuse)
"""
COMMAND = GUARD + "from edgeparse.cli.main import main; main()"
PARSER = (
    GUARD
    + """
import time
from edgeparse import Parser
parser = Parser()
print(parser.parse(sys.argv[1]).verdict)
time.sleep(2)
"""
)
WORKERS = (
    GUARD
    + """
import multiprocessing
from edgeparse import Parser
def verdict(path):
    return Parser(threads=1).parse(path).verdict
if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.map(verdict, [sys.argv[1]]))
"""
)
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="namespaces and strace are Linux's")


def _isolated(trace: Path, *command: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command without a network where that is permitted, with all user folders in `home`."""
    prefix: list[str] = []
    if (
        shutil.which("unshare")
        and subprocess.run(["unshare", "-n", "true"], capture_output=True, check=False).returncode == 0
    ):
        prefix += ["unshare", "-n"]
    traceable = (
        shutil.which("strace") and subprocess.run(["strace", "true"], capture_output=True, check=False).returncode == 0
    )
    if traceable:
        prefix += ["strace", "-f", "-qq", "-o", str(trace), "-e", "trace=network"]
    kept = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
    folders = {
        name: str(home / name) for name in ("XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME")
    }
    environment = (
        kept | folders | {"HOME": str(home), "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"} | environment
    )
    environment.pop("EDGEPARSE_GALLERY", None)
    return subprocess.run([*prefix, *command], capture_output=True, text=True, env=environment, cwd=home, check=False)


@linux_only
@pytest.mark.parametrize(
    ("code", "arguments"),
    [
        (COMMAND, ["check", "--json"]),
        (COMMAND, ["bench", "--runs", "1", "--cold", "1", "--quiet"]),
        (COMMAND, ["check", "--json", "--backend", "openvino"]),
        (PARSER, []),
        (WORKERS, []),
    ],
    ids=["check", "bench", "openvino", "Parser", "workers"],
)
def test_no_network_and_no_file_outside_of_what_is_named(tmp_path: Path, code: str, arguments: list[str]) -> None:
    if "openvino" in arguments:
        pytest.importorskip("openvino")
    home, trace = tmp_path / "home", tmp_path / "trace"
    home.mkdir()
    script = tmp_path / "script.py"
    script.write_text(code)
    picture = str(sample_files()[0])
    done = _isolated(trace, sys.executable, str(script), *arguments, picture, home=home)
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert [str(path) for path in home.rglob("*")] == []
    if trace.exists():
        # Local sockets, such as those of multiprocessing, stay on the machine.
        assert [line for line in trace.read_text().splitlines() if re.search(r"AF_INET6?\b|AF_PACKET", line)] == []


@pytest.mark.parametrize(("given", "expected"), [(None, "1"), ("0", "0")])
def test_telemetry_is_off_unless_the_user_decided(given: str | None, expected: str) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
    if given is not None:
        environment["ORT_DISABLE_TELEMETRY"] = given
    code = "import os, edgeparse; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=ROOT, check=True
    )
    assert done.stdout.strip() == expected


def test_packaged_apps_switch_telemetry_off_before_any_import() -> None:
    (folder,) = map(Path, __pyinstaller.get_hook_dirs())
    hooks = eval((folder / "rthooks.dat").read_text(), {})
    for name in hooks["onnxruntime"]:
        assert 'setdefault("ORT_DISABLE_TELEMETRY", "1")' in (folder / "rthooks" / name).read_text()


@pytest.mark.parametrize("module", ["engines.triton", "export.fp16", "export.bias_correction"])
def test_tools_switch_telemetry_off_first(module: str) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
    code = f"import {module}, os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "1"
