"""Frames are decoded at native resolution, upright, with the clip's colours, whatever the container."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace

from edgeparse.errors import ImageError
from edgeparse.video import frames
from edgeparse.video.frames import Deadline, Frame, VideoLimits, open_clip
from edgeparse.video.sniff import HEAD, clip_format, is_clip
from tests.conftest import encoded, noise
from tests.edgeparse.video.clips import ENCODERS, encode, pan, remux, sound


def read(clip: bytes | Path, count: int = 24) -> list[Frame]:
    with open_clip(clip, Deadline(60)) as opened:
        return list(opened.frames(VideoLimits(count), Deadline(60)))


def times(found: list[Frame]) -> list[float]:
    return [round(frame.time, 3) for frame in found]


@pytest.fixture(scope="module")
def moving() -> list[np.ndarray]:
    return pan(noise(360, 360), 96, 256)


@pytest.fixture(scope="module")
def clip(moving: list[np.ndarray]) -> bytes:
    """Return four seconds with a keyframe every second."""
    return encode(moving, g="24", keyint_min="24", sc_threshold="0")


def test_golden_frame_times(clip: bytes) -> None:
    assert times(read(clip, 4)) == [0.0, 1.0, 2.0, 3.0]
    assert times(read(clip, 8)) == [0.0, 0.75, 1.0, 1.75, 2.0, 2.75, 3.0, 3.75]
    assert [frame.keyframe for frame in read(clip, 8)] == [True, False] * 4


@pytest.mark.parametrize(("codec", "form"), [("libx264", "mp4"), ("libx265", "mov"), ("libvpx-vp9", "webm")])
def test_decodes_the_frame_that_was_encoded(moving: list[np.ndarray], codec: str, form: str) -> None:
    found = read(encode(moving, codec, form, g="24"), 8)
    assert len(found) == 8
    for frame in found:
        assert (frame.picture.width, frame.picture.height) == (256, 256)
        original = moving[round(frame.time * 24)].astype(int)
        others = moving[round(frame.time * 24) - 2].astype(int)
        error = np.abs(frame.picture.pixels - original).mean()
        assert error < 6
        assert frame.time == 0 or error < np.abs(frame.picture.pixels - others).mean()


@pytest.mark.parametrize("form", ["mov", "matroska", "mpegts"])
def test_a_remuxed_clip_gives_the_same_frames(clip: bytes, form: str) -> None:
    before, after = read(clip, 8), read(remux(clip, form), 8)
    assert times(after) == pytest.approx(times(before), abs=0.002)
    assert all(np.array_equal(a.picture.pixels, b.picture.pixels) for a, b in zip(before, after, strict=True))


def test_seeks_in_a_long_clip(clip: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = read(clip, 4)
    monkeypatch.setattr(frames, "SCAN_SECONDS", 1.0)
    for form in ("mp4", "matroska"):
        found = read(clip if form == "mp4" else remux(clip, form), 4)
        assert times(found) == times(expected)
        assert all(np.array_equal(a.picture.pixels, b.picture.pixels) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_rotates_upright(rotation: int) -> None:
    wide = noise(128, 192)
    wide[:40, :40] = (255, 0, 0)
    plain = read(encode([wide] * 3))[0].picture
    turned = read(encode([wide] * 3, rotation=rotation))[0].picture
    # FFmpeg's own reading of the same file decides which way is up.
    with av.open(io.BytesIO(encode([wide] * 3, rotation=rotation))) as container:
        degrees = next(container.decode(video=0)).rotation
    assert degrees % 360 in (rotation, 360 - rotation)
    assert np.array_equal(turned.pixels, np.rot90(plain.pixels, degrees // 90))


@pytest.mark.parametrize("space", [Colorspace.ITU709, Colorspace.ITU601])
@pytest.mark.parametrize("colour_range", [ColorRange.MPEG, ColorRange.JPEG])
def test_respects_colour_space_and_range(space: Colorspace, colour_range: ColorRange) -> None:
    colours = ((200, 30, 40), (30, 180, 60), (20, 40, 220), (240, 240, 240), (10, 10, 10))
    flat = np.repeat(np.array(colours, np.uint8), 64, axis=0)[None].repeat(128, axis=0)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=24, options={"crf": "4"})
        stream.height, stream.width, stream.pix_fmt = 128, 320, "yuv420p"
        stream.codec_context.color_range = colour_range.value
        stream.codec_context.colorspace = 1 if space == Colorspace.ITU709 else 6
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(flat), format="rgb24").reformat(
            format="yuv420p",
            src_colorspace=space,
            dst_colorspace=space,
            src_color_range=ColorRange.JPEG,
            dst_color_range=colour_range,
        )
        frame.pts = 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    pixels = read(buffer.getvalue())[0].picture.pixels
    for i, colour in enumerate(colours):
        assert pixels[64, 64 * i + 32].astype(int) == pytest.approx(colour, abs=4)


def test_variable_frame_rate() -> None:
    stamps = [0, 1, 2, 3, 40, 41, 90, 95]
    found = read(encode(pan(noise(200, 200), 8, 128), stamps=stamps, g="1"), 4)
    # Slots of 27 units; nothing is shown first in the third.
    assert [round(frame.time * 24) for frame in found] == [3, 41, 95]


def test_broken_time_stamps_are_replaced_by_the_frame_rate() -> None:
    pictures = pan(noise(200, 200), 12, 128)
    buffer = io.BytesIO()
    with av.open(io.BytesIO(encode(pictures, "mjpeg", "avi"))) as source, av.open(buffer, "w", format="avi") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream, packet.pts, packet.dts = stream, 0, 0
                target.mux(packet)
    found = read(buffer.getvalue(), 4)
    assert len(found) == 4
    assert times(found) == sorted(set(times(found)))
    assert frames._reliable([5] * 10, 1.0) == []
    assert frames._reliable([0, None], 1.0) == []
    assert frames._reliable([0, 10**9], 1.0) == []
    assert frames._reliable([7, 8], 1.0) == [7, 8]


def test_a_truncated_clip_gives_what_is_left(clip: bytes) -> None:
    stream = remux(clip, "matroska")
    with open_clip(stream[: len(stream) // 2], Deadline(60)) as opened:
        found = list(opened.frames(VideoLimits(4), Deadline(60)))
        assert 1 <= len(found) < 5
        assert found[-1].time < 3
    # An MP4 keeps its index at the end.
    with pytest.raises(ImageError, match="truncated or damaged") as error:
        read(clip[: len(clip) // 2])
    assert error.value.kind == "truncated"


def test_damaged_frames_are_left_out(clip: bytes) -> None:
    rng = np.random.default_rng(0)
    damaged = bytearray(remux(clip, "mpegts"))
    for at in rng.integers(2000, len(damaged), 60):
        damaged[at] ^= 0xFF
    with open_clip(bytes(damaged), Deadline(60)) as opened:
        for frame in opened.frames(VideoLimits(8), Deadline(60)):
            assert frame.picture.pixels.shape == (256, 256, 3)


@pytest.mark.parametrize(
    ("data", "kind", "message"),
    [
        (b"", "empty", "the file is empty"),
        (sound(), "unsupported", "must have a video stream, got audio"),
        (sound("matroska"), "unsupported", "must have a video stream, got audio"),
        (b"\x1aE\xdf\xa3" + bytes(500), "truncated", "truncated or damaged"),
        (b"#EXTM3U\nhttp://example.org/clip.ts\n", "not_an_image", "no clip"),
        (encoded(noise(128, 128)), "not_an_image", "no clip"),
    ],
)
def test_what_is_no_clip_says_so(data: bytes, kind: str, message: str) -> None:
    with pytest.raises(ImageError, match=message) as error:
        read(data)
    assert error.value.kind == kind


def test_a_clip_without_frames_is_refused() -> None:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.width = stream.height = 128
        stream.pix_fmt = "yuv420p"
        container.start_encoding()
    with pytest.raises(ImageError, match="must have a video stream, got nothing"):
        read(buffer.getvalue())


def test_missing_and_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="there is no file") as error:
        read(tmp_path / "none.mp4")
    assert error.value.kind == "not_found"
    with pytest.raises(ImageError, match="cannot be opened") as error:
        read(tmp_path)
    assert error.value.kind == "unreadable"


def test_too_large_frames_are_refused(monkeypatch: pytest.MonkeyPatch, clip: bytes) -> None:
    monkeypatch.setattr(frames, "MAX_PIXELS", 10_000)
    with pytest.raises(ImageError, match="megapixels") as error:
        read(clip)
    assert error.value.kind == "too_large"


class Endless(io.RawIOBase):
    """A pipe that repeats a transport stream for ever."""

    def __init__(self, clip: bytes) -> None:
        self._clip, self.delivered = clip, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def read(self, size: int = -1) -> bytes:
        self.delivered += len(self._clip)
        return self._clip


def test_an_endless_stream_ends_at_the_limit(clip: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "MAX_BYTES", 3_000_000)
    pipe = Endless(remux(clip, "mpegts"))
    with open_clip(pipe, Deadline(60)) as opened:
        assert not opened.complete
        assert list(opened.frames(VideoLimits(4), Deadline(60)))
    assert pipe.delivered < 4_000_000


def test_time_runs_out(clip: bytes) -> None:
    with open_clip(clip, Deadline(60)) as opened:
        assert len(list(opened.frames(VideoLimits(8), Deadline(-1)))) < 8
        assert not opened.complete


@pytest.mark.parametrize(("frame_count", "seconds"), [(0, 1.0), (257, 1.0), (24, 0.0)])
def test_limits_are_checked(frame_count: int, seconds: float) -> None:
    with pytest.raises(ValueError, match="must be"):
        VideoLimits(frame_count, seconds)


def test_without_the_library_the_error_names_it(monkeypatch: pytest.MonkeyPatch, clip: bytes) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImageError, match="pip install"):
        read(clip)


def test_formats_are_recognised_by_their_bytes(clip: bytes) -> None:
    made = {form: remux(clip, form) for form in ("mp4", "mov", "matroska", "mpegts")}
    made |= {"avi": encode([noise(64, 64)], "mjpeg", "avi"), "flv": encode([noise(64, 64)], form="flv")}
    made["webm"] = encode([noise(64, 64)], "libvpx-vp9", "webm")
    names = {"matroska": "MKV", "mpegts": "TS"}
    for form, data in made.items():
        name = names.get(form, form.upper())
        found = clip_format(data[:HEAD])
        assert found is not None
        assert found[1] == name
    assert is_clip(clip)
    assert is_clip(io.BytesIO(clip))
    assert not is_clip(encoded(noise(64, 64), "AVIF"))
    assert not is_clip(encoded(noise(64, 64), "WEBP"))
    assert not is_clip("missing.mp4")
    assert not is_clip(noise(64, 64))


def test_a_peeked_file_is_read_from_its_beginning(clip: bytes) -> None:
    file = io.BytesIO(clip)
    assert is_clip(file)
    assert file.tell() == 0


def test_every_encoder_of_these_tests_exists() -> None:
    assert set(ENCODERS) <= av.codecs_available
