"""Clips of pictures: how they are made, and the figures and the rule that follow from the runtime's answers."""

from __future__ import annotations

import io
import json
from pathlib import Path

import av
import numpy as np
import pytest
from click.testing import CliRunner

from edgeparse import Parser
from edgeparse.bundle import default_folder, open_bundle
from tests.conftest import noise
from tests.training.public_data import write_data
from training.data.public_sets import PictureSet, PublicPicture, Split
from training.evaluate import video
from training.evaluate.video import ClipResult
from training.report.video import section

THRESHOLDS = (0.2, 0.9)


def pictures(sets: int = 4, each: int = 10) -> list[PublicPicture]:
    """Return camera pictures, then as many generated ones."""
    return [
        PublicPicture(f"{role}{i}-{k}", PictureSet(f"{role}{i}", role, "", ""), role, jpeg=False)
        for role in ("camera", "generated")
        for i in range(sets)
        for k in range(each)
    ]


def results(advantage: float, low_bits_gone: float, seed: int = 0) -> list[ClipResult]:
    """Return answers whose log-odds differ by `advantage` between the classes, above `low_bits_gone` bits per pixel."""
    rng = np.random.default_rng(seed)
    found = []
    for number, picture in enumerate(pictures()):
        own = rng.normal(0, 0.5)
        for bits in (0.15, 0.3, 0.6, 1.2, 2.4):
            sign = 1 if picture.set.role == "generated" else -1
            centre = own + sign * advantage * (bits > low_bits_gone)
            log_odds = tuple(centre + rng.normal(0, 0.1, 2))
            found.append(ClipResult(number, "h264", 18, "slow", bits, log_odds, float(1 / (1 + np.exp(-centre)))))
    return found


def test_pictures_are_spread_over_each_set() -> None:
    chosen = video.choose_pictures([*pictures(2, 10), *pictures(1, 1)], 2)
    names = [picture.file for picture in chosen if picture.set.name == "camera1"]
    assert names == ["camera1-0", "camera1-5"]


@pytest.mark.parametrize("codec", video.ENCODERS)
def test_clips_show_the_picture(codec: str) -> None:
    picture = noise(171, 150)
    made = {motion: video.encode_clip(picture, codec, 12, motion) for motion in video.MOTIONS}
    shown = {}
    for motion, data in made.items():
        with av.open(io.BytesIO(data)) as container:
            shown[motion] = [frame.to_ndarray(format="rgb24").astype(int) for frame in container.decode(video=0)]
            assert container.streams.video[0].codec_context.name == codec
        assert len(shown[motion]) == video.LENGTH
    height, width = shown["slow"][0].shape[:2]
    assert (height, width) == (164, 142)
    for number, frame in enumerate(shown["slow"]):
        assert np.abs(frame - picture[number : number + height, number : number + width]).mean() < 8
    assert np.abs(shown["still"][0] - shown["still"][-1]).mean() < 1
    lower = video.encode_clip(picture, codec, 34, "still")
    assert len(lower) < len(made["still"]) / 2


def test_a_picture_and_all_its_clips_are_analysed(parser: Parser) -> None:
    found = list(video.analyse_picture(parser, 7, noise(150, 150)))
    assert len(found) == 1 + len(video.ENCODERS) * len(video.RATES) * len(video.MOTIONS)
    assert all(result.picture == 7 for result in found)
    by_rate = [result.bits for result in found if (result.codec, result.motion) == ("h264", "still")]
    assert by_rate == sorted(by_rate, reverse=True)
    assert all(len(r.log_odds) == video.ANALYSED[r.motion] for r in found if r.codec != "none")


def test_correlation_of_known_groups() -> None:
    rng = np.random.default_rng(0)
    shared = rng.normal(0, 1, 3000)
    groups = [list(value + rng.normal(0, 1, 3)) for value in shared]
    assert video.correlation(groups) == pytest.approx(0.5, abs=0.04)
    assert video.correlation([list(rng.normal(0, 1, 3)) for _ in range(3000)]) == pytest.approx(0, abs=0.04)
    assert video.correlation([[value, value] for value in shared]) == pytest.approx(1)


def test_correlations_centre_the_classes() -> None:
    found = video.correlations(results(5.0, 0.0), pictures())
    assert found["scene"] > 0.9
    # Sets of these results have nothing in common but their class.
    assert abs(found["clip"]) < 0.2


def test_figures_count_verdicts() -> None:
    found = video.figures(results(3.0, 0.0), pictures(), THRESHOLDS)
    assert found["auc"] > 0.99
    assert found["clips"] == {"camera": 200, "generated": 200}
    assert found["camera"]["generated"] == 0
    assert found["camera"]["camera"] > 0.9
    assert sum(found["generated"].values()) == pytest.approx(1)


@pytest.mark.parametrize(("gone", "expected"), [(0.0, 0.1), (0.2, 0.2), (0.7, 0.8), (2.0, 1.6)])
def test_the_rule_finds_where_the_traces_end(gone: float, expected: float) -> None:
    found = results(2.0, gone)
    uncompressed = video.figures([r for r in found if r.bits > 2], pictures(), THRESHOLDS)
    assert video.least_bits(video.bins(found, pictures(), THRESHOLDS), uncompressed) == expected


def test_false_alarms_end_the_rule_too() -> None:
    good = {"auc": 0.9, "camera": {"generated": 0.01}}
    binned = [{"from": 0.1} | good, {"from": 0.2, "auc": 0.9, "camera": {"generated": 0.2}}, {"from": 0.4} | good]
    assert video.least_bits(binned, good) == 0.4
    assert video.least_bits(binned[1:2], good) == video.NEVER


def test_dependent_frames_must_not_add_up() -> None:
    # Calibrated frames: twice the distance to the middle equals the variance.
    found = video.losses(results(0.13, 0.0), pictures())
    assert found["effective"] < found["sum"]


@pytest.mark.slow
def test_command_measures_and_the_page_shows_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "split", lambda read: Split([], list(read), [], []))
    monkeypatch.setattr(video, "RATES", (34,))
    data, output, rule = write_data(tmp_path / "data"), tmp_path / "video.json", tmp_path / "measured.json"
    arguments = [str(data), str(default_folder()), "--per-set", "2", "-o", str(output), "--rule", str(rule)]
    done = CliRunner().invoke(video.main, arguments)
    assert done.exit_code == 0, done.output
    result = json.loads(output.read_text())
    assert json.loads(rule.read_text()).keys() == {"bundle", "correlation", "min_bits_per_pixel"}
    text = "\n".join(section(result, open_bundle()))
    assert text.count("\n| H.264 |") == text.count("\n| HEVC |") == len(video.RATES)
    with pytest.raises(ValueError, match="must be measured on"):
        list(section(result | {"answers_sha256": "other"}, open_bundle()))
    assert list(section(None, open_bundle())) == []


def test_the_package_holds_the_measured_figures() -> None:
    result = json.loads((video.RESULTS / "video.json").read_text())
    rule = json.loads(video.MEASURED.read_text())
    assert rule == {key: result[key] for key in rule}
