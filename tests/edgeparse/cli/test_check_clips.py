"""`edgeparse check` on clips: one report each, in every form of output."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner, Result

import edgeparse
from edgeparse.cli import inputs
from edgeparse.cli.main import main
from tests.conftest import noise, sample_files
from tests.edgeparse.provenance.build import LABEL
from tests.edgeparse.provenance.test_media import keyed
from tests.edgeparse.video.clips import encode, pan, sound

SCHEMA = json.loads((Path(edgeparse.__file__).parent / "report.schema.json").read_text())


def run(*arguments: object, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], input=stdin)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    path.write_bytes(encode(pan(noise(200, 200), 12, 160, 2), g="4"))
    return path


def test_a_clip_is_one_line(clip: Path) -> None:
    done = run("check", "--jsonl", "--frames", 2, clip, sample_files()[0])
    assert done.exit_code == 0, done.stderr
    video, image = (json.loads(line) for line in done.stdout.splitlines())
    jsonschema.validate([video, image], SCHEMA)
    assert video["kind"] == "video"
    assert "kind" not in image
    assert len(video["frames"]) == 2


def test_schema_refuses_a_damaged_clip_report(clip: Path) -> None:
    report = json.loads(run("check", "--json", "--frames", 1, clip).stdout)[0]
    jsonschema.validate([report], SCHEMA)
    for change in (
        {"kind": "film"},
        {"frames": [{}]},
        {"verdict": "fake"},
        {"extra": 1},
        {"video": None, "frames": None},
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate([report | change], SCHEMA)


def test_a_clip_is_recognised_by_its_bytes(clip: Path, tmp_path: Path) -> None:
    renamed = tmp_path / "photo.jpg"
    renamed.write_bytes(clip.read_bytes())
    assert json.loads(run("check", "--jsonl", "--frames", 1, renamed).stdout)["kind"] == "video"


def test_standard_input(clip: Path) -> None:
    done = run("check", "--jsonl", "--frames", 1, "-", stdin=clip.read_bytes())
    assert json.loads(done.stdout)["status"] == "ok"


def test_what_cannot_be_read_is_a_failed_input(tmp_path: Path) -> None:
    (tmp_path / "sound.mp4").write_bytes(sound())
    (tmp_path / "cut.mp4").write_bytes(encode([noise(128, 128)] * 8)[:900])
    done = run("check", "--json", tmp_path / "sound.mp4", tmp_path / "cut.mp4")
    assert done.exit_code == 1
    reports = json.loads(done.stdout)
    jsonschema.validate(reports, SCHEMA)
    assert [report["error"]["kind"] for report in reports] == ["unsupported", "truncated"]
    assert "video stream" in run("check", tmp_path / "sound.mp4").stdout


def test_folders_are_searched_for_clips_if_they_can_be_read(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.mp4").write_bytes(clip.read_bytes())
    (tmp_path / "b.png").write_bytes(b"")
    assert [Path(name).name for name in inputs.collect_inputs([str(tmp_path)], True, clips=True)] == ["a.mp4", "b.png"]
    assert [Path(name).name for name in inputs.collect_inputs([str(tmp_path)], True)] == ["b.png"]
    monkeypatch.setattr(inputs, "find_spec", lambda _name: None)
    assert [Path(name).name for name in inputs.collect_inputs([str(tmp_path)], True, clips=True)] == ["b.png"]


def test_terminal_shows_a_mark_per_frame(clip: Path) -> None:
    text = run("check", "--frames", 3, clip).stdout
    marks = re.search(r"frames +([Gc-]+)", text)
    assert marks is not None
    assert len(marks[1]) == 3
    assert "bits per pixel" in text


@pytest.mark.parametrize("option", ["--fingerprint=f.png"])
def test_fingerprints_need_an_image(clip: Path, option: str) -> None:
    done = run("check", option, clip)
    assert done.exit_code == 2
    assert "need an image" in done.stderr


def test_the_page_has_a_timeline(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "sound.mp4").write_bytes(sound())
    page = tmp_path / "page.html"
    done = run("check", "--jsonl", "--frames", 3, clip, sample_files()[0], tmp_path / "sound.mp4", "--report", page)
    text = page.read_text()
    report = json.loads(done.stdout.splitlines()[0])
    embedded = json.loads(re.search(r'id="reports">(.*?)</script>', text, re.DOTALL)[1])  # type: ignore[index]
    assert [entry.get("kind") for entry in embedded] == ["video", None, "video"]
    timeline = re.search(r'<ol class="frames">(.*?)</ol>', text, re.DOTALL)
    assert timeline is not None
    assert timeline[1].count("data:image/jpeg") == 3
    shown = [float(value) for value in re.findall(r'<data value="([^"]+)">', timeline[1])]
    assert shown == [frame["probability_generated"] for frame in report["frames"]]
    assert "This clip could not be read" in text
    assert text.count("<circle") >= 3


def test_what_the_container_says_is_beside_the_answer(clip: Path, tmp_path: Path) -> None:
    labelled = tmp_path / "labelled.mp4"
    labelled.write_bytes(clip.read_bytes() + keyed({"AIGC": json.dumps(LABEL)}))
    page = tmp_path / "page.html"
    done = run("check", "--json", "--frames", 2, labelled, clip, "--report", page)
    told, plain = json.loads(done.stdout)
    jsonschema.validate([told, plain], SCHEMA)
    assert [signal["kind"] for signal in told["evidence"]["signals"]] == ["aigc"]
    assert told["conclusion"]["finding"] == "generated"
    assert told["probability_generated"] == plain["probability_generated"]
    assert plain["evidence"]["signals"] == []
    assert "AIGC label" in page.read_text()
    text = " ".join(run("check", "--frames", 2, labelled).stdout.split())
    assert "Made with AI" in text
