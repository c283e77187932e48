"""The command line: JSON contract, exit statuses, streams."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from rich.console import Console

import edgeparse
from edgeparse.bundle import open_bundle
from edgeparse.cli.main import main
from edgeparse.errors import NoDeviceError
from edgeparse.parser import Parser
from edgeparse.render.terminal import report_panel
from edgeparse.report import Candidate, Choice, FamilyAnswer, GeneratorAnswer, Report
from tests.conftest import SAMPLES, comparing, edit_manifest, encoded, noise, sample_files

SCHEMA = json.loads((Path(edgeparse.__file__).parent / "report.schema.json").read_text())


def run(*arguments: object, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], input=stdin)


def test_samples_follow_the_schema() -> None:
    done = run("check", "-r", SAMPLES, "--json")
    assert done.exit_code == 0, done.stderr
    reports = json.loads(done.stdout)
    jsonschema.validate(reports, SCHEMA)
    assert [Path(report["source"]).name for report in reports] == [path.name for path in sample_files()]


def test_failures_follow_the_schema_and_the_run_goes_on(tmp_path: Path) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"junk")
    done = run("check", "--json", bad, tmp_path / "missing.png", sample_files()[0])
    assert done.exit_code == 1
    reports = json.loads(done.stdout)
    jsonschema.validate(reports, SCHEMA)
    assert [report["status"] for report in reports] == ["error", "error", "ok"]
    assert [report["error"]["kind"] for report in reports[:2]] == ["not_an_image", "not_found"]


def test_schema_refuses_what_it_should() -> None:
    report = json.loads(run("check", "--json", sample_files()[0]).stdout)[0]
    for change in (
        {"verdict": "fake"},
        {"probability_generated": 1.5},
        {"extra": 1},
        {"error": {"kind": "empty", "message": "x"}},
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate([report | change], SCHEMA)


def test_jsonl_is_a_report_a_line() -> None:
    done = run("check", "--jsonl", *sample_files())
    assert done.exit_code == 0
    jsonschema.validate([json.loads(line) for line in done.stdout.splitlines()], SCHEMA)
    assert len(done.stdout.splitlines()) == len(sample_files())


def test_standard_input() -> None:
    done = run("check", "--json", "-", stdin=encoded(noise(150, 150)))
    assert done.exit_code == 0
    assert json.loads(done.stdout)[0]["image"] == {"width": 150, "height": 150, "format": "PNG"}


def test_table_for_people(tmp_path: Path) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"")
    done = run("check", *sample_files(), bad)
    assert done.exit_code == 1
    assert "probability generated" in done.stdout
    assert "empty: the file is empty" in done.stdout
    assert "\x1b[" not in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ["check"],
        ["check", "--json", "--jsonl", "x.jpg"],
        ["check", "--backend", "abacus", "x.jpg"],
        ["check", "--windows", "0", "x.jpg"],
        ["check", str(SAMPLES)],
        ["check", "--fingerprint", "out.png", "a.jpg", "b.jpg"],
        ["check", "--fingerprint", "out.jpg", "a.jpg"],
        ["check", "https://example.org/a.jpg?x=1"],
        ["fingerprint", "x.jpg"],
        ["fingerprint", "x.jpg", "-o", "out.jpg"],
        ["fingerprint", str(SAMPLES), "-o", "out.png"],
        ["fingerprint", "https://example.org/a.jpg", "-o", "out.png"],
        ["bench", "--precision", "fp99"],
        ["build", "--batch", "a"],
        ["nonsense"],
    ],
)
def test_wrong_usage(arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert "Error" in done.stderr


def test_an_address_is_told_how_to_be_fetched() -> None:
    done = run("check", "https://example.org/a.jpg?x=1&y=2")
    assert "curl -s 'https://example.org/a.jpg?x=1&y=2' | edgeparse check -" in " ".join(done.stderr.split())


def test_a_batch_that_is_no_number_is_told_what_it_should_be() -> None:
    said = " ".join(run("build", "--batch", "a").stderr.split())
    assert "--batch" in said
    assert "as 1,8,32" in said
    assert "literal" not in said


def test_a_picture_that_may_not_be_read_is_one_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    # As root everything may be read, so the question is answered for it.
    monkeypatch.setattr(os, "access", lambda *_arguments, **_options: False)
    assert run("check", "--json", sample_files()[0]).exit_code == 0


def test_a_gallery_that_is_named_has_to_be_there(tmp_path: Path) -> None:
    done = run("check", "--gallery", tmp_path / "typo", sample_files()[0])
    assert done.exit_code == 3
    assert "there is no gallery" in done.stderr
    (tmp_path / "empty").mkdir()
    assert run("check", "--gallery", tmp_path / "empty", sample_files()[0]).exit_code == 0


def test_an_encoding_without_a_letter_loses_the_letter_alone(tmp_path: Path) -> None:
    (tmp_path / "\u65e5.png").write_bytes(encoded(noise(140, 140)))
    command = [sys.executable, "-m", "edgeparse", "check", "-r", str(tmp_path)]
    done = subprocess.run(
        command, capture_output=True, check=False, env=os.environ | {"PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0"}
    )
    assert done.returncode == 0, done.stderr
    assert b"?.png" in done.stdout


def test_what_a_bundle_says_steers_no_terminal(bundle_copy: Path, tmp_path: Path) -> None:
    comparing(bundle_copy, reported=True)
    steering = "\x1b]0;owned\x07"

    def change(fields: dict[str, Any]) -> None:
        fields["name"] = steering
        fields["labels"]["family"] = [steering + name for name in fields["labels"]["family"]]
        for entry in fields["labels"]["discrete"]:
            entry["values"] = [steering + value for value in entry["values"]]

    edit_manifest(bundle_copy, change)
    with_bundle = ("--bundle", bundle_copy)
    picture = sample_files()[0]
    for arguments in (
        ["check", picture, "--explain"],
        ["doctor"],
        ["gallery", "list"],
        ["gallery", "show", "nobody"],
        ["bench", "--runs", "1", "--cold", "0", picture],
    ):
        done = run(*arguments, *with_bundle)
        assert "\x1b" not in done.output, arguments
    (bundle_copy / "model.int8.onnx").write_bytes(b"")
    failed = run("check", "--bundle", bundle_copy, tmp_path / f"{steering}.png")
    assert failed.exit_code == 3
    assert "\x1b" not in failed.output


def test_names_in_a_panel_steer_no_terminal(parser: Parser) -> None:
    name = "\x1b]0;owned\x07"
    report = replace(
        parser.parse(sample_files()[0]),
        verdict="generated",
        generator=GeneratorAnswer(name, True, 0.9, (Candidate(name, 0.9, 0.8),)),
        family=FamilyAnswer(name, {name: 1.0}),
        architecture={name: Choice(name, 1.0)},
        losses=None,
        bundle=name,
    )
    console = Console(file=io.StringIO(), width=200)
    console.print(report_panel(report, parser, explain=True))
    shown = console.file.getvalue()
    assert shown.count("owned") >= 6
    assert "\x1b" not in shown


def test_camera_verdicts_and_model_parsing_are_explained(bundle_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")

    def camera(fields: dict[str, Any]) -> None:
        fields["calibration"] |= {"camera": 1.0, "generated": 1.0}

    edit_manifest(bundle_copy, camera)
    done = run("check", "--explain", "--bundle", bundle_copy, sample_files()[0])
    assert "the image looks like a camera photo" in done.stdout
    comparing(bundle_copy, reported=True)
    assert "a hint at best" in run("check", "--explain", "--bundle", bundle_copy, sample_files()[0]).stdout


def test_lines_of_json_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[weakref.ref[Report]] = []
    alive: list[int] = []
    parse = Parser.parse

    def counted(self: Parser, *arguments: Any) -> Report:
        alive.append(sum(reference() is not None for reference in made))
        report = parse(self, *arguments)
        made.append(weakref.ref(report))
        return report

    monkeypatch.setattr(Parser, "parse", counted)
    assert run("check", "--jsonl", *[sample_files()[0]] * 6).exit_code == 0
    assert max(alive) <= 2


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="file names are text there")
def test_a_file_whose_name_is_no_text_is_one_more_picture(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"\xff.png")).write_bytes(encoded(noise(64, 64)))
    (tmp_path / os.fsdecode(b"\xfe.png")).write_bytes(b"junk")
    page = tmp_path / "page.html"
    command = [sys.executable, "-m", "edgeparse", "check", "-r", str(tmp_path), "--report", str(page)]
    done = subprocess.run(command, capture_output=True, check=False, env=os.environ | {"PYTHONUTF8": "1"})
    assert done.returncode == 1, done.stderr
    assert done.stdout.decode().count("\ufffd.png") == 2
    assert "\ufffd.png" in page.read_text(encoding="utf-8")


def test_names_that_a_bundle_gives_are_no_markup(bundle_copy: Path) -> None:
    comparing(bundle_copy, reported=True)

    def change(fields: dict[str, Any]) -> None:
        fields["labels"]["family"] = [f"[red]{name}[/]" for name in fields["labels"]["family"]]
        fields["labels"]["losses"] = [loss | {"name": f"[/x]{loss['name']}"} for loss in fields["labels"]["losses"]]

    edit_manifest(bundle_copy, change)
    done = run("check", "--explain", "--bundle", bundle_copy, sample_files()[0])
    assert done.exit_code == 0, done.output
    assert "[red]" in done.stdout


def test_losses_are_said_from_their_own_thresholds(bundle_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    comparing(bundle_copy, reported=True)

    def change(fields: dict[str, Any]) -> None:
        for i, loss in enumerate(fields["labels"]["losses"]):
            loss["threshold"] = i % 2

    edit_manifest(bundle_copy, change)
    monkeypatch.setenv("COLUMNS", "400")
    done = run("check", "--explain", "--bundle", bundle_copy, SAMPLES / "generated-zoo-autoencoder.jpg")
    names = [loss.name for loss in open_bundle(bundle_copy).losses]
    (said,) = (line for line in done.stdout.splitlines() if " losses " in line)
    assert all((name in said) == (i % 2 == 0) for i, name in enumerate(names))


def test_empty_folder(tmp_path: Path) -> None:
    assert run("check", "-r", tmp_path).exit_code == 2


def test_no_bundle(tmp_path: Path) -> None:
    done = run("check", "--bundle", tmp_path, sample_files()[0])
    assert done.exit_code == 3
    assert "bundle.json" in done.stderr
    assert done.stdout == ""


def test_fingerprint_pictures(tmp_path: Path) -> None:
    for extra, size in ((["--windows", "2"], (256, 128)), (["--spectrum"], (128, 128))):
        out = tmp_path / "out.png"
        assert run("fingerprint", sample_files()[0], "-o", out, *extra).exit_code == 0
        with Image.open(out) as image:
            assert image.size == size
            assert len(image.getcolors(1 << 20) or []) > 50
    assert run("fingerprint", sample_files()[0], "-o", tmp_path / "alone.png").exit_code == 0
    data = sample_files()[0].read_bytes()
    for name, stdin in ((sample_files()[0], None), ("-", data)):  # what was read once for the report is enough
        assert run("check", "--fingerprint", tmp_path / "f.png", name, stdin=stdin).exit_code == 0
        assert (tmp_path / "f.png").read_bytes() == (tmp_path / "alone.png").read_bytes()
        (tmp_path / "f.png").unlink()
    assert run("check", "--fingerprint", tmp_path / "f.png", tmp_path / "none.png").exit_code == 1
    assert not (tmp_path / "f.png").exists()


def test_fingerprint_failures(tmp_path: Path) -> None:
    done = run("fingerprint", tmp_path / "none.png", "-o", tmp_path / "out.png")
    assert done.exit_code == 1
    assert "not_found" in done.stderr
    assert run("fingerprint", sample_files()[0], "-o", tmp_path / "no" / "out.png").exit_code == 2


def test_doctor(bundle_copy: Path) -> None:
    done = run("doctor")
    assert done.exit_code == 0
    for word in ("onnxruntime", "backend cpu", "backend openvino", "correct hashes", "chooses onnxruntime-"):
        assert word in done.stdout
    (bundle_copy / "model.onnx").write_bytes(b"")
    done = run("doctor", "--bundle", bundle_copy)
    assert done.exit_code == 3
    assert "model.onnx" in done.stdout


def test_help_and_version() -> None:
    assert edgeparse.__version__ in run("--version").stdout
    for command in ("bundle", "check", "fingerprint", "doctor"):
        assert "Usage" in run(command, "--help").stdout


def test_as_a_process_in_a_pipe() -> None:
    command = [sys.executable, "-m", "edgeparse", "check", "--jsonl", *map(str, sample_files())]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 0
    assert done.stderr == b""
    jsonschema.validate([json.loads(line) for line in done.stdout.splitlines()], SCHEMA)


def test_a_picture_takes_at_most_six_lines() -> None:
    done = run("check", "-r", SAMPLES)
    panels = done.stdout.split("╭")[1:]
    assert len(panels) == len(sample_files())
    for panel in panels:
        assert panel.count("│\n") <= 6
        assert "generated from 0." in panel


def test_nothing_readable_is_not_compared() -> None:
    done = run("compare", "/missing/1.png", "/missing/2.png", "/missing/3.png")
    assert "nothing to compare: no image could be read" in done.stdout


def test_the_page_lists_the_most_suspicious_first(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    run("check", "-r", SAMPLES, "--report", page)
    listed = re.findall(r'data-probability="([-0-9.]+)"', page.read_text())
    assert len(listed) == len(sample_files())
    assert [float(p) for p in listed] == sorted(map(float, listed), reverse=True)


def test_build_without_a_gpu_names_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def build_engine(*_: object) -> None:
        raise NoDeviceError("this machine has no NVIDIA driver")

    monkeypatch.setattr("edgeparse.backends.tensorrt.build.build_engine", build_engine)
    done = run("build", "--backend", "tensorrt-rtx")
    assert done.exit_code == 3
    assert "--compute-capability" in done.stderr
