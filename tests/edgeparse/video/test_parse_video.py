"""`Parser.parse_video`: one report a clip."""

from __future__ import annotations

import io
import json
import statistics
from importlib import resources
from itertools import pairwise

import av
import jsonschema
import numpy as np
import pytest

from edgeparse import ImageError, Parser, VideoLimits
from edgeparse.postprocess import logit
from edgeparse.video import answer
from edgeparse.video.frames import Deadline, open_clip
from edgeparse.video.report import VideoReport
from tests.conftest import noise
from tests.edgeparse.video.clips import ENCODERS, encode, pan, remux, sample

CLASSES = {"camera": "camera-dog.jpg", "generated": "generated-zoo-autoencoder.jpg"}
SCHEMA = json.loads(resources.files("edgeparse").joinpath("report.schema.json").read_text())


def check_schema(report: VideoReport) -> None:
    jsonschema.validate([json.loads(json.dumps(report.to_json(), allow_nan=False))], SCHEMA)


def without_times(report: VideoReport) -> dict[str, object]:
    fields = report.to_json()
    return {key: fields[key] for key in fields if key not in ("timing_ms", "source", "video")}


@pytest.mark.parametrize("codec", ENCODERS)
def test_both_classes_in_three_codecs(parser: Parser, codec: str) -> None:
    form = "webm" if codec == "libvpx-vp9" else "mp4"
    found = {}
    for kind, name in CLASSES.items():
        picture = sample(name, 192)
        report = found[kind] = parser.parse_video(encode([picture] * 6, codec, form), VideoLimits(2))
        check_schema(report)
        image = parser.parse(picture).probability_generated
        assert image is not None
        assert report.probability_generated == pytest.approx(image, abs=0.15)
    assert found["generated"].probability_generated > found["camera"].probability_generated + 0.3


def test_a_frame_has_the_answer_of_its_picture(parser: Parser) -> None:
    clip = encode(pan(noise(300, 300), 12, 160, 4), g="6")
    report = parser.parse_video(clip, VideoLimits(4))
    with open_clip(clip, Deadline(60)) as opened:
        pictures = [frame.picture.pixels for frame in opened.frames(VideoLimits(4), Deadline(60))]
    expected = [parser.parse(pixels).probability_generated for pixels in pictures]
    assert [frame.probability_generated for frame in report.frames] == pytest.approx(expected)
    scenes = [frame.scene for frame in report.frames]
    assert report.probability_generated == pytest.approx(
        answer.clip_probability([logit(p) for p in expected if p], scenes)
    )
    assert report.windows == sum(parser.parse(pixels).windows or 0 for pixels in pictures)


def test_scenes_stretch_and_times(parser: Parser) -> None:
    camera, generated = (sample(name, 192) for name in CLASSES.values())
    clip = encode([camera] * 24 + [generated] * 24 + [camera] * 24, g="12", keyint_min="12")
    report = parser.parse_video(clip, VideoLimits(6))
    assert [frame.scene for frame in report.frames] == [0, 0, 1, 1, 2, 2]
    assert all(a.time < b.time for a, b in pairwise(report.frames))
    assert report.video is not None
    assert report.video.duration == pytest.approx(3, abs=0.01)
    assert report.video.complete
    if all(frame.verdict == "generated" for frame in report.frames[2:4]):
        assert report.longest_generated is not None
        assert 1 <= report.longest_generated.start < report.longest_generated.end < 2
        assert report.longest_generated.frames == 2


@pytest.mark.parametrize("form", ["mov", "matroska", "mpegts"])
def test_a_remuxed_clip_gets_the_same_answer(parser: Parser, form: str) -> None:
    clip = encode(pan(noise(300, 300), 48, 192), g="12")
    before, after = (parser.parse_video(data, VideoLimits(4)) for data in (clip, remux(clip, form)))
    for report in (before, after):
        for frame in report.frames:
            assert frame.time == pytest.approx(round(frame.time * 24) / 24, abs=0.001)
    assert [f.probability_generated for f in after.frames] == [f.probability_generated for f in before.frames]
    assert after.probability_generated == before.probability_generated
    assert (after.verdict, after.reason is None) == (before.verdict, before.reason is None)


def test_the_same_clip_gets_the_same_answer_again(parser: Parser) -> None:
    clip = encode(pan(noise(300, 300), 24, 192), g="12")
    first, second = (parser.parse_video(clip, VideoLimits(3)) for _ in range(2))
    assert without_times(first) == without_times(second)


def test_few_bits_are_inconclusive(parser: Parser) -> None:
    report = parser.parse_video(encode([sample("generated-zoo-autoencoder.jpg", 192)] * 6, crf="51"), VideoLimits(2))
    assert report.video is not None
    assert report.video.bits_per_pixel < answer.measured().least("h264")
    assert report.verdict == "inconclusive"
    assert report.reason is not None
    assert report.longest_generated is None


def test_bits_per_pixel_are_those_of_keyframes(parser: Parser) -> None:
    clip = encode(pan(noise(300, 300), 24, 192), g="12")
    report = parser.parse_video(clip, VideoLimits(2))
    with av.open(io.BytesIO(clip)) as container:
        keys = [packet.size for packet in container.demux(video=0) if packet.size and packet.is_keyframe]
    assert report.video is not None
    assert report.video.bits_per_pixel == pytest.approx(8 * statistics.median(keys[:2]) / 192**2)


def test_an_inspection_has_a_thumbnail_of_every_frame(parser: Parser) -> None:
    inspection = parser.inspect_video(encode([noise(200, 400)] * 12, g="3"), VideoLimits(3))
    assert len(inspection.thumbnails) == len(inspection.report.frames) == 3
    assert all(pixels.shape == (96, 192, 3) and pixels.dtype == np.uint8 for pixels in inspection.thumbnails)


def test_small_frames_are_refused(parser: Parser) -> None:
    with pytest.raises(ImageError, match="at least 64 pixels"):
        parser.parse_video(encode([noise(48, 48)] * 3))


def test_failures_have_reports(parser: Parser) -> None:
    with pytest.raises(ImageError) as error:
        parser.parse_video(b"\x1aE\xdf\xa3" + bytes(300))
    report = parser.video_failure("clip.mkv", error.value)
    check_schema(report)
    assert (report.status, report.source, report.verdict) == ("error", "clip.mkv", None)
