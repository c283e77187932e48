"""The command line in terminals and pipes: Ctrl-C, patterns, completion, help, suggestions, speed."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result

from edgeparse import BackendError, Parser
from edgeparse.cli.inputs import collect_inputs
from edgeparse.cli.main import main
from tests.conftest import ANY, ROOT, SAMPLES, comparing, encoded, noise, sample_files

if sys.platform != "win32":
    from tests.terminal import run_in_terminal

links = pytest.mark.skipif(sys.platform == "win32", reason="a link takes a privilege")
terminal_only = pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX's")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def run(*arguments: object, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], input=stdin)


def process(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgeparse", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, check=False)


def on_a_full_disk(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgeparse", *map(str, arguments)]
    with Path("/dev/full").open("w") as full:
        return subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)


def many(folder: Path, count: int) -> list[Path]:
    paths = [folder / f"{i:03d}.png" for i in range(count)]
    for path in paths:
        path.write_bytes(encoded(noise(140, 140, 1)))
    return paths


def test_version_is_quick() -> None:
    code = "import sys; from edgeparse.cli.main import main; main(['--version'], standalone_mode=False); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"numpy", "PIL", "rich", "onnxruntime", "jinja2"} & set(done.stdout.split())

    def milliseconds(*arguments: str) -> float:
        begun = time.perf_counter()
        subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
        return (time.perf_counter() - begun) * 1e3

    # Beside what click takes by itself (NumPy would more than double it); the best of five, since other load is no fault of the command.
    bare = min(milliseconds("-c", "import click") for _ in range(5))
    assert min(milliseconds("-m", "edgeparse", "--version") for _ in range(5)) < 2 * bare + 100


def commands(group: click.Group, *path: str) -> list[tuple[str, ...]]:
    context = click.Context(group)
    found = []
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        found += commands(command, *path, name) if isinstance(command, click.Group) else [(*path, name)]
    return found


def test_every_command_has_help_with_examples() -> None:
    every = commands(main)
    assert {"check", "compare", "fingerprint", "doctor", "completion"} <= {path[0] for path in every}
    assert ("gallery", "import") in every
    for path in [(), ("gallery",), *every]:
        text = run(*path, "--help").stdout
        assert re.search(rf"Examples:\n    edgeparse {' '.join(path)}", text), path


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["chek", "a.jpg"], "check"),
        (["galery"], "gallery"),
        (["compere"], "compare"),
        (["gallery", "lst"], "list"),
        (["check", "--explian", "a.jpg"], "--explain"),
        (["compare", "--matrx", "a.svg"], "--matrix"),
    ],
)
def test_did_you_mean(typed: list[str], meant: str) -> None:
    done = run(*typed)
    assert done.exit_code == 2
    assert f"Did you mean '{meant}'?" in done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str) -> None:
    script = run("completion", shell).stdout
    assert "_EDGEPARSE_COMPLETE" in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True)


def complete(*words: str) -> list[str]:
    """Return the completions of the last word."""
    asked = {"_EDGEPARSE_COMPLETE": "bash_complete", "COMP_WORDS": "\n".join(words), "COMP_CWORD": str(len(words) - 1)}
    # A shell calls the program by its name.
    code = "import sys; sys.argv[0] = 'edgeparse'; from edgeparse.cli.main import main; main(prog_name='edgeparse')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | asked | {"COMP_WORDS": " ".join(words)},
        check=True,
    )
    return done.stdout.split()


def test_completion_knows_commands_options_and_enrolled_names(own_gallery: Path) -> None:
    assert complete("edgeparse", "c") == ["plain,check", "plain,compare", "plain,completion"]
    assert "plain,--report" in complete("edgeparse", "check", "--re")
    assert complete("edgeparse", "check", "--backend", "cp") == ["plain,cpu"]
    assert complete("edgeparse", "check", "x") == ["file,x"]
    assert complete("edgeparse", "gallery", "show", "") == []
    enrol(own_gallery, "noisy")
    assert complete("edgeparse", "gallery", "show", "n") == ["plain,noisy"]


def test_patterns_that_the_shell_left_alone(tmp_path: Path) -> None:
    many(tmp_path, 3)
    (tmp_path / "deep").mkdir()
    many(tmp_path / "deep", 1)
    done = json.loads(run("check", "--json", tmp_path / "*.png").stdout)
    assert [Path(report["source"]).name for report in done] == ["000.png", "001.png", "002.png"]
    assert len(json.loads(run("check", "--json", tmp_path / "**" / "*.png").stdout)) == 4
    odd = tmp_path / "a[1].png"
    odd.write_bytes(encoded(noise(64, 64)))
    assert [r["status"] for r in json.loads(run("check", "--json", odd).stdout)] == ["ok"]
    # Folders that a pattern means are looked into with -r, each picture once, and are not left out in silence without.
    assert len(json.loads(run("check", "--json", "-r", tmp_path / "d*").stdout)) == 1
    assert len(json.loads(run("check", "--json", "-r", tmp_path / "**").stdout)) == 5
    alone = run("check", tmp_path / "d*")
    assert alone.exit_code == 2
    assert "add -r" in alone.stderr
    nothing = run("check", "--json", tmp_path / "*.gif")
    assert nothing.exit_code == 1
    assert json.loads(nothing.stdout)[0]["error"]["kind"] == "not_found"


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="may look everywhere")
def test_a_folder_that_may_not_be_looked_into(tmp_path: Path) -> None:
    (path,) = many(tmp_path, 1)
    tmp_path.chmod(0o600)
    try:
        done = run("check", "--json", path)
    finally:
        tmp_path.chmod(0o700)
    assert done.exit_code == 1
    assert json.loads(done.stdout)[0]["error"]["kind"] == "unreadable"


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="may look everywhere")
def test_a_folder_in_a_folder_that_may_not_be_looked_into_fails(tmp_path: Path) -> None:
    (path,) = many(tmp_path, 1)
    locked = tmp_path / "locked"
    locked.mkdir(mode=0)
    done = run("check", "--json", "-r", tmp_path)
    assert done.exit_code == 1
    assert {r["source"]: r["status"] for r in json.loads(done.stdout)} == {str(path): "ok", str(locked): "error"}
    assert "may not be looked into" in json.loads(done.stdout)[1]["error"]["message"]


def test_a_folder_that_cannot_be_listed_is_among_the_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Like the test above, for root."""
    (path,) = many(tmp_path, 1)
    locked = tmp_path / "locked"
    locked.mkdir()
    scandir = os.scandir

    def refusing(folder: str) -> Any:
        if Path(folder) == locked:
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refusing)
    assert collect_inputs([str(tmp_path)], recursive=True) == [str(path), str(locked)]


@terminal_only
def test_what_a_folder_has_beside_pictures_is_said_in_a_terminal(tmp_path: Path) -> None:
    many(tmp_path, 1)
    (tmp_path / "notes.txt").write_text("x")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "linked").symlink_to(elsewhere)
    said = " ".join(COLOUR.sub("", run_in_terminal("check", "-r", tmp_path).text).split())
    assert "1 files with other suffixes, 1 links to folders" in said
    assert "skipped" not in run("check", "-r", tmp_path).stderr


@links
def test_what_is_named_as_a_picture_is_looked_for_and_fails_visibly(tmp_path: Path) -> None:
    (tmp_path / "IMG_1.HEIC").write_bytes(b"ftypheic")
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere")
    done = run("check", "--json", "-r", tmp_path)
    kinds = {Path(r["source"]).name: r["error"]["kind"] for r in json.loads(done.stdout)}
    assert kinds == {"IMG_1.HEIC": "not_an_image", "gone.jpg": "not_found"}


@links
def test_no_output_is_written_over_a_picture(tmp_path: Path, own_gallery: Path) -> None:
    first, second = many(tmp_path, 2)
    (tmp_path / "link.png").symlink_to(first)
    bare = tmp_path / "bare"
    bare.write_bytes(before := first.read_bytes())
    for why, *arguments in (
        ("one of the input images", "fingerprint", first, "-o", first),
        ("one of the input images", "fingerprint", first, "-o", tmp_path / "link.png"),
        ("one of the input images", "check", second, "--fingerprint", second),
        ("one of the input images", "check", "--report", bare, first, bare),
        ("one of the input images", "compare", "--matrix", bare, first, bare),
        ("one of the input images", "bench", "-r", tmp_path, "--plot", second),
        ("must end in", "check", "--report", first, second),
        ("must end in", "compare", "--matrix", first, second, first),
        ("must end in", "gallery", "export", first),
        ("must name different files", "check", second, "--report", tmp_path / "o", "--fingerprint", tmp_path / "o"),
        ("must be a file, got -", "check", second, "--report", "-"),
    ):
        done = run(*arguments)
        assert done.exit_code == 2, arguments
        assert why in " ".join(done.stderr.replace("│", " ").split()), arguments
        assert first.read_bytes() == second.read_bytes() == bare.read_bytes() == before
    assert not (tmp_path / "o").exists()
    assert own_gallery.exists() is False


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux's")
@pytest.mark.parametrize("form", [["--json"], ["--jsonl"], []])
def test_a_full_disk_is_said_and_the_page_is_kept(tmp_path: Path, form: list[str]) -> None:
    (path,) = many(tmp_path, 1)
    page = tmp_path / "page.html"
    done = on_a_full_disk("check", path, "--report", page, *form)
    assert done.returncode == 2
    assert done.stderr == "error: standard output cannot be written: No space left on device\n"
    assert "</html>" in page.read_text()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux's")
def test_a_full_disk_leaves_the_matrix_and_is_said_by_every_command(tmp_path: Path, bundle_copy: Path) -> None:
    comparing(bundle_copy)
    first, second = many(tmp_path, 2)
    matrix = tmp_path / "m.svg"
    for arguments in (
        ("compare", first, second, "--bundle", bundle_copy, "--matrix", matrix),
        ("completion", "bash"),
        ("doctor",),
        ("bench", first, "--runs", 1, "--cold", 0, "--quiet"),
    ):
        done = on_a_full_disk(*arguments)
        assert done.returncode == 2, done.stderr
        assert "error: standard output cannot be written: No space left on device\n" in done.stderr
        assert "Traceback" not in done.stderr
    assert matrix.exists()


def test_another_failing_file_is_not_called_standard_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> None:
        raise OSError(28, "No space left on device", "somewhere")

    monkeypatch.setattr("edgeparse.cli.doctor.examine", failing)
    assert isinstance(run("doctor").exception, OSError)


def test_a_benchmark_says_which_picture_it_cannot_read(tmp_path: Path) -> None:
    many(tmp_path, 1)
    (tmp_path / "small.png").write_bytes(encoded(noise(9, 9)))
    done = run("bench", "-r", tmp_path, "--runs", 1, "--cold", 0)
    assert done.exit_code == 1
    assert f"{tmp_path / 'small.png'}: the image must have at least 64 pixels on each side, got 9x9" in done.stderr


@pytest.mark.parametrize("columns", [1, 6, 8])
def test_a_narrow_terminal_gets_what_fits(tmp_path: Path, columns: int) -> None:
    (path,) = many(tmp_path, 1)
    assert process("check", path, COLUMNS=str(columns)).returncode == 0


@pytest.mark.skipif(sys.platform == "win32", reason="closed by a POSIX shell")
def test_closed_standard_input(tmp_path: Path) -> None:
    (path,) = many(tmp_path, 1)
    done = subprocess.run(
        [shutil.which("sh") or "sh", "-c", f"{sys.executable} -m edgeparse check --jsonl {path} - <&-"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "standard input is closed" in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    twice = run("check", "-", "-", stdin=b"")
    assert twice.exit_code == 2
    assert "can be given only once" in twice.stderr


def test_a_home_that_is_no_folder_has_no_gallery(tmp_path: Path) -> None:
    (path,) = many(tmp_path, 1)
    home = tmp_path / "home"
    home.touch()
    done = process("check", "--json", path, HOME=str(home), XDG_DATA_HOME=str(home / "data"))
    assert done.returncode == 0, done.stderr


def test_two_long_names_are_told_apart(tmp_path: Path) -> None:
    folder = tmp_path / ("evidence_" * 12)
    folder.mkdir()
    for path in many(folder, 2):
        path.rename(folder / f"{'item_' * 10}{path.name}")
    done = run("check", "-r", folder)
    titles = [line for line in done.stdout.splitlines() if line.startswith("╭")]
    assert [title.rstrip("─╮ ")[-7:] for title in titles] == ["000.png", "001.png"]
    assert all("…" in title for title in titles)
    assert len({len(title) for title in titles}) == 1
    # Whole, over as many lines as it takes.
    unfolded = "".join(line.strip("│ ") for line in done.stdout.splitlines())
    assert str(folder / f"{'item_' * 10}000.png") in unfolded


def test_a_backend_that_fails_late_leaves_what_was_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = many(tmp_path, 4)
    parse, inspect = Parser.parse, Parser.inspect

    def failing(method: Any) -> Any:
        def called(self: Parser, source: Any, *rest: Any) -> Any:
            if source == str(paths[3]):
                raise BackendError("the device is gone")
            return method(self, source, *rest)

        return called

    monkeypatch.setattr(Parser, "parse", failing(parse))
    monkeypatch.setattr(Parser, "inspect", failing(inspect))
    done = run("check", "--json", *paths)
    assert done.exit_code == 3
    assert len(json.loads(done.stdout)) == 3
    assert "the device is gone" in done.stderr
    page = tmp_path / "page.html"
    assert run("check", "--jsonl", "--report", page, *paths).exit_code == 3
    assert "002.png" in page.read_text()
    # Nothing done is nothing to write.
    first = run("check", "--json", paths[3], paths[0])
    assert (first.exit_code, first.stdout) == (3, "")


def test_a_pipe_gets_no_colours_and_no_messages(tmp_path: Path) -> None:
    paths = many(tmp_path, 8)
    done = process("check", *paths)
    assert done.returncode == 0
    assert "\x1b" not in done.stdout
    assert done.stderr == ""


@terminal_only
def test_a_terminal_gets_colours_unless_it_is_told_not_to() -> None:
    path = sample_files()[0]
    assert COLOUR.search(run_in_terminal("check", path).text)
    plain = run_in_terminal("check", path, environment={"NO_COLOR": "1"}).text
    assert "probability generated" in plain
    assert not re.search(r"\x1b\[[0-9;]*3[0-7][0-9;]*m", plain)


@terminal_only
def test_progress_with_time_left_only_on_long_runs_in_terminals(tmp_path: Path) -> None:
    paths, out = many(tmp_path, 12), str(tmp_path / "out.json")
    seen = run_in_terminal("check", "--json", *paths, stdout_to=out)
    assert seen.status == 0
    assert "12/12" in seen.text
    assert re.search(r"\d:\d\d:\d\d", seen.text)
    assert len(json.loads(Path(out).read_text())) == 12
    assert run_in_terminal("check", "--json", "--quiet", *paths, stdout_to=out).text == ""
    assert run_in_terminal("check", "--json", *paths[:2], stdout_to=out).text == ""
    both = run_in_terminal("check", *paths).text
    assert "/12" in both
    assert both.count("probability generated") == 12


@terminal_only
def test_interrupt_writes_what_was_done(tmp_path: Path) -> None:
    paths, out, page = many(tmp_path, 600), tmp_path / "out.json", tmp_path / "page.html"
    seen = run_in_terminal(
        "check", "--json", "--report", page, *paths, stdout_to=str(out), interrupt_after="/600", seconds=120
    )
    assert seen.status == 130
    assert "Traceback" not in seen.text
    reports = json.loads(out.read_text())
    assert 0 < len(reports) < 600
    assert f"interrupted: {len(reports)} of 600 images done" in seen.text
    assert f"{len(reports)} of 600 images were analysed" in page.read_text()


@terminal_only
def test_interrupt_compares_what_was_looked_at(tmp_path: Path, bundle_copy: Path) -> None:
    out = tmp_path / "out.json"
    seen = run_in_terminal(
        *("compare", "--json", *many(tmp_path, 400), "--bundle", comparing(bundle_copy)),
        stdout_to=str(out),
        interrupt_after=r"[2-9]/400",
        seconds=120,
    )
    assert seen.status == 130
    done = len(json.loads(out.read_text())["pictures"])
    assert 2 <= done < 400
    assert f"interrupted: {done} of 400 images done" in seen.text


@terminal_only
def test_interrupt_in_a_pipe_ends_the_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "edgeparse", "check", "--jsonl", *map(str, many(tmp_path, 600))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as begun:
        assert begun.stdout is not None
        first = begun.stdout.readline()
        begun.send_signal(signal.SIGINT)
        rest, errors = begun.communicate(timeout=60)
    assert begun.returncode == 130
    lines = [first, *rest.splitlines()]
    assert all(json.loads(line)["status"] == "ok" for line in lines)
    assert errors == f"interrupted: {len(lines)} of 600 images done\n"


@terminal_only
def test_show_draws_in_a_terminal_and_nowhere_else() -> None:
    seen = run_in_terminal("check", "--show", sample_files()[0], environment={"COLORTERM": "truecolor"})
    assert seen.status == 0
    assert seen.text.count("▀") == 64 * 16
    assert len(set(re.findall(r"38;2;\d+;\d+;\d+", seen.text))) > 50
    assert "Traceback" not in seen.text
    lost = run_in_terminal("check", "--show", sample_files()[0], columns=0)
    assert lost.status == 1
    assert "--fingerprint" in lost.text
    piped = run("check", "--show", sample_files()[0])
    assert piped.exit_code == 2
    assert "needs a terminal" in piped.stderr


def enrol(gallery: Path, name: str, bundle: Path | None = None) -> None:
    folder = gallery.parent / f"pictures-{name}"
    folder.mkdir(exist_ok=True)
    for i in range(10):
        (folder / f"{i}.png").write_bytes(encoded(noise(150, 150, i)))
    extra = ["--bundle", bundle] if bundle else []
    done = run("gallery", "add", name, folder / "*.png", *extra)
    assert done.exit_code == 0, done.stderr
    assert done.stdout == f"{name}: 10 images\n"


def test_gallery_from_adding_to_removing(own_gallery: Path, tmp_path: Path, bundle_copy: Path) -> None:
    comparing(bundle_copy, known=ANY)
    with_bundle = ("--bundle", bundle_copy)
    assert "you have enrolled no generator" in run("gallery", "list").stderr
    assert "sd1  from the bundle default-" in run("gallery", "list").stdout
    enrol(own_gallery, "noisy", bundle_copy)
    assert run("gallery", "list").stdout.startswith("noisy  10 images")
    listed = json.loads(run("gallery", "list", "--json").stdout)
    assert [entry["name"] for entry in listed["generators"]] == ["noisy"]
    assert "sd1" in listed["bundle"]

    other = tmp_path / "other.png"
    other.write_bytes(encoded(noise(170, 170, 77)))
    named = json.loads(run("check", "--json", other, *with_bundle).stdout)[0]["generator"]
    assert named["name"] == "noisy"
    assert named["known"]
    explained = run("check", "--explain", other, *with_bundle).stdout
    assert re.search(r"noisy +[01]\.\d+ +-?\d\.\d+ +reached +your gallery", explained)
    assert explained.count("the bundle") == 7
    (tmp_path / "none").mkdir()
    elsewhere = json.loads(run("check", "--json", other, *with_bundle, "--gallery", tmp_path / "none").stdout)
    assert elsewhere[0]["generator"]["name"] != "noisy"

    text = run("gallery", "show", "noisy", *with_bundle).stdout
    assert text.startswith("noisy: 10 images")
    shown = json.loads(run("gallery", "show", "noisy", "--json", *with_bundle).stdout)
    assert shown["similarity"]["min"] <= shown["similarity"]["mean"] <= 1.0001
    assert len(shown["nearest"]) == 5
    assert "noisy" not in [near["name"] for near in shown["nearest"]]

    assert run("gallery", "export", tmp_path / "out.npz").stdout == "noisy: 10 images\n"
    assert run("gallery", "remove", "noisy", "missing").exit_code == 1
    assert len(json.loads(run("gallery", "list", "--json").stdout)["generators"]) == 1
    assert run("gallery", "remove", "noisy").stdout == "removed noisy\n"
    assert json.loads(run("gallery", "list", "--json").stdout)["generators"] == []
    assert run("gallery", "import", tmp_path / "out.npz").stdout == "noisy: 10 images\n"


def test_gallery_failures(own_gallery: Path, tmp_path: Path) -> None:
    paths = many(tmp_path, 2)
    too_few = run("gallery", "add", "few", *paths)
    assert too_few.exit_code == 1
    assert "at least 10 different images, got" in too_few.stderr
    assert run("gallery", "add", "\x1b[31m", *paths).exit_code == 2
    missing = run("gallery", "show", "nobody")
    assert missing.exit_code == 1
    assert "'nobody'" in missing.stderr
    assert run("gallery", "import", tmp_path / "none.npz").exit_code == 1
    folder = tmp_path / "mixed"
    folder.mkdir()
    for i in range(10):
        (folder / f"{i}.png").write_bytes(encoded(noise(150, 150, i)))
    (folder / "bad.png").write_bytes(b"junk")
    mixed = run("gallery", "add", "mixed", "-r", folder)
    assert mixed.exit_code == 1
    assert "bad.png: not_an_image" in mixed.stderr
    assert mixed.stdout == "mixed: 10 images\n"
    next(own_gallery.glob("*.npz")).write_bytes(b"junk")
    damaged = run("check", paths[0])
    assert damaged.exit_code == 3
    assert "damaged" in damaged.stderr
    assert run("gallery", "list").exit_code == 1
    assert run("fingerprint", paths[0], "-o", tmp_path / "f.png").exit_code == 0


@terminal_only
def test_another_networks_names_are_noticed_in_a_terminal(own_gallery: Path, bundle_copy: Path) -> None:
    from dataclasses import replace

    from edgeparse.bundle import open_bundle
    from edgeparse.gallery_store import GalleryStore

    old = replace(open_bundle(), version="old", hashes=dict.fromkeys(open_bundle().hashes, "a" * 64))
    GalleryStore(own_gallery, old).add("yesterday's", np.eye(10, 16, dtype=np.float32))
    path = sample_files()[0]
    seen = " ".join(run_in_terminal("check", path, columns=400).text.split())
    assert "ignored: yesterday's, enrolled with the network of bundle default-old" in seen
    assert "yesterday's" not in run_in_terminal("check", "-q", path).text
    assert process("check", path).stderr == ""
    assert "enrol again for this bundle" in run("gallery", "list").stderr


@terminal_only
def test_removing_asks_in_a_terminal(own_gallery: Path) -> None:
    enrol(own_gallery, "noisy")
    assert run_in_terminal("gallery", "remove", "noisy", answer=b"n\n").status == 1
    assert len(json.loads(run("gallery", "list", "--json").stdout)["generators"]) == 1
    assert run_in_terminal("gallery", "remove", "noisy", "--yes").status == 0
    assert json.loads(run("gallery", "list", "--json").stdout)["generators"] == []


def test_compare_says_what_it_found(tmp_path: Path, bundle_copy: Path) -> None:
    import jsonschema

    import edgeparse

    comparing(bundle_copy)
    with_bundle = ("--bundle", bundle_copy)
    a, b, c = tmp_path / "a.png", tmp_path / "b.png", tmp_path / "c.png"
    a.write_bytes(encoded(noise(150, 150, 1)))
    b.write_bytes(encoded(noise(150, 150, 1)))
    c.write_bytes(SAMPLES.joinpath("camera-dog.jpg").read_bytes())
    two = run("compare", a, b, *with_bundle)
    assert two.exit_code == 0, two.stderr
    assert re.search(r"perhaps one generator +probability of one generator 1\.000", two.stdout)
    assert "assumes that generators made both" in " ".join(two.stdout.split())
    three = run("compare", a, b, c, "--matrix", tmp_path / "m.svg", *with_bundle)
    assert "group 1 (perhaps one generator): 1 2" in three.stdout
    assert (tmp_path / "m.svg").read_text().startswith("<svg")
    done = run("compare", a, b, c, tmp_path / "missing.png", "--json", *with_bundle)
    assert done.exit_code == 1
    fields = json.loads(done.stdout)
    jsonschema.validate(fields, json.loads((Path(edgeparse.__file__).parent / "compare.schema.json").read_text()))
    assert len(fields["pairs"]) == 6
    assert run("compare", "-", b, "--json", *with_bundle, stdin=a.read_bytes()).exit_code == 0
    not_one = run("compare", a, tmp_path / "missing.png", *with_bundle)
    assert "not comparable" in not_one.stdout


def test_compare_failures(tmp_path: Path, bundle_copy: Path) -> None:
    path = sample_files()[0]
    assert run("compare", path).exit_code == 2
    assert run("compare", "-", "-").exit_code == 2
    done = run("compare", path, path, "--bundle", comparing(bundle_copy, same=None))
    assert done.exit_code == 3
    assert "no calibration for comparing" in done.stderr
    comparing(bundle_copy)
    unwritable = run("compare", path, path, "--bundle", bundle_copy, "--matrix", tmp_path / "no" / "m.svg")
    assert unwritable.exit_code == 2
    many_pictures = run("compare", *many(tmp_path, 20), "--bundle", bundle_copy)
    assert "190 pairs" in many_pictures.stdout


def test_compare_states_its_calibration(bundle_copy: Path, tmp_path: Path) -> None:
    from tests.conftest import edit_manifest

    figures = {"auc": 0.9, "generators": 12, "pairs": 20000, "calibration_error": 0.031}
    comparing(bundle_copy)
    edit_manifest(
        bundle_copy, lambda m: m["metrics"].update(validation_same_generator={"zoo": figures, "public": None})
    )
    text = " ".join(run("compare", *many(tmp_path, 2), "--bundle", bundle_copy).stdout.split())
    assert "20000 pairs of 12 zoo generators for validation, with a mean error of 0.031." in text
    public = figures | {"generators": 3, "calibration_error": 0.2, "different_called_same": 0.25}
    edit_manifest(
        bundle_copy, lambda m: m["metrics"].update(validation_same_generator={"zoo": figures, "public": public})
    )
    text = " ".join(run("compare", *many(tmp_path, 2), "--bundle", bundle_copy).stdout.split())
    assert "On 3 public generators the mean error is 0.200, and 25% of pairs" in text


def test_report_from_the_command_line(tmp_path: Path) -> None:
    page = tmp_path / "out.html"
    done = run("check", "-r", SAMPLES, tmp_path / "missing.png", "--report", page, "--json")
    assert done.exit_code == 1
    text = page.read_text()
    embedded = re.search(r'<script type="application/json" id="reports">(.*?)</script>', text, re.DOTALL)
    assert embedded is not None
    answers = json.loads(embedded[1])
    assert [a["probability_generated"] for a in answers] == [
        r["probability_generated"] for r in json.loads(done.stdout)
    ]
    assert run("check", sample_files()[0], "--report", tmp_path / "no" / "out.html").exit_code == 2


def test_a_page_of_too_many_is_refused_before_the_run(tmp_path: Path) -> None:
    from edgeparse.render.html import MAX_PICTURES

    done = run("check", "--report", tmp_path / "page.html", *["missing.png"] * (MAX_PICTURES + 1))
    assert done.exit_code == 2
    assert f"at most {MAX_PICTURES} images" in " ".join(done.stderr.split())
    assert not (tmp_path / "page.html").exists()


def test_no_instruction_installs_from_pypi() -> None:
    """`edgeparse` on PyPI is another project, so instructions must install from a clone or from wheels."""
    files = [*(ROOT / "edgeparse").rglob("*.py"), *(ROOT / "examples").glob("*.py"), *(ROOT / "docs").glob("*.md")]
    for file in [*files, ROOT / "README.md"]:
        for line in file.read_text().splitlines():
            if "--no-index" not in line:
                assert not re.search(r"pip install (-\S+ )*[\"']?edgeparse\b", line), f"{file}: {line}"


def test_fingerprint_as_numbers(tmp_path: Path) -> None:
    path = sample_files()[0]
    assert run("fingerprint", path, "-o", tmp_path / "f.npy", "--windows", 3).exit_code == 0
    numbers = np.load(tmp_path / "f.npy", allow_pickle=False)
    assert numbers.shape == (3, 3, 128, 128)
    assert numbers.dtype == np.float32
    assert run("fingerprint", path, "-o", tmp_path / "s.npy", "--spectrum").exit_code == 0
    spectrum = np.load(tmp_path / "s.npy", allow_pickle=False)
    assert spectrum.shape == (128, 128)
    assert (spectrum >= 0).all()
