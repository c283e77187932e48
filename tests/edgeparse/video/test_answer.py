"""Frames become one answer: dependent frames count less, and low rates are inconclusive."""

from __future__ import annotations

import dataclasses

import pytest

from edgeparse import Parser
from edgeparse.images import Picture
from edgeparse.postprocess import logit, sigmoid
from edgeparse.video import answer
from edgeparse.video.report import FrameAnswer, Stretch
from tests.edgeparse.video.clips import sample


def test_frames_that_are_copies_count_once() -> None:
    assert answer.effective_frames([0] * 24, in_scene=1.0) == pytest.approx(1)
    assert answer.effective_frames([0], in_scene=0.5) == pytest.approx(1)


def test_independent_frames_all_count() -> None:
    assert answer.effective_frames(range(24), in_clip=0.0) == pytest.approx(24)
    # Two independent scenes of two copies each.
    assert answer.effective_frames([0, 0, 1, 1], in_scene=1.0, in_clip=0.0) == pytest.approx(2)


def test_more_scenes_never_count_less() -> None:
    counts = [answer.effective_frames([i * scenes // 24 for i in range(24)]) for scenes in (1, 2, 4, 24)]
    assert counts == sorted(counts)
    assert counts[0] >= 1
    assert counts[-1] < 24


def test_a_clip_of_one_frame_has_the_frames_probability() -> None:
    assert answer.clip_probability([logit(0.8)], [0]) == pytest.approx(0.8)


def test_scenes_that_agree_are_surer_than_one() -> None:
    one = answer.clip_probability([1.0] * 4, [0] * 4)
    four = answer.clip_probability([1.0] * 4, [0, 1, 2, 3])
    assert sigmoid(1.0) <= one < four
    assert answer.clip_probability([1.0, -1.0], [0, 1]) == pytest.approx(0.5)


def test_low_rates_are_inconclusive(parser: Parser) -> None:
    calibration = parser.bundle.calibration
    assert calibration is not None
    for codec in ("h264", "hevc", "vp9"):
        least = answer.measured().least(codec)
        verdict, reason = answer.clip_verdict(0.999, calibration, codec, least * 0.99)
        assert verdict == "inconclusive"
        assert reason is not None
        assert codec in reason
        assert answer.clip_verdict(0.999, calibration, codec, least) == ("generated", None)


def frames(marks: str) -> list[FrameAnswer]:
    names = {"G": "generated", "c": "camera", "-": "inconclusive"}
    return [FrameAnswer(float(i), 0, True, names[mark], 0.5) for i, mark in enumerate(marks)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("marks", "expected"),
    [
        ("cc--", None),
        ("", None),
        ("-G-", Stretch(1, 1, 1)),
        ("GG-GGGc", Stretch(3, 5, 3)),
        ("cGG", Stretch(1, 2, 2)),
    ],
)
def test_longest_stretch(marks: str, expected: Stretch | None) -> None:
    assert answer.longest_stretch(frames(marks)) == expected


def test_a_longer_stretch_wins_over_one_with_more_frames() -> None:
    times = (0.0, 0.1, 0.2, 5.0, 6.0, 9.0)
    found = [dataclasses.replace(f, time=t) for f, t in zip(frames("GGG-GG"), times, strict=True)]
    assert answer.longest_stretch(found) == Stretch(6.0, 9.0, 2)


def test_scenes_are_told_apart_by_their_colours() -> None:
    dog = sample("camera-dog.jpg")
    first, moved, other = (answer.colours(Picture(p)) for p in (dog, dog[20:, 20:], sample("camera-window.jpg")))
    assert first.sum() == pytest.approx(1)
    assert not answer.begins_scene(first, moved)
    assert answer.begins_scene(first, other)
