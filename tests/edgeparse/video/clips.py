"""Clips that tests encode themselves."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence

import av
import numpy as np

from edgeparse import images
from tests.conftest import SAMPLES

# Encoder -> options of a rate that keeps most detail, and threads that give the same bytes on every machine.
ENCODERS: dict[str, dict[str, str]] = {
    "libx264": {"crf": "12", "preset": "ultrafast", "threads": "1"},
    "libx265": {"crf": "12", "preset": "ultrafast", "x265-params": "pools=1:frame-threads=1:log-level=none"},
    "libvpx-vp9": {"crf": "12", "b": "0", "cpu-used": "8", "deadline": "realtime", "threads": "1"},
}


def encode(
    pictures: Iterable[np.ndarray],
    codec: str = "libx264",
    form: str = "mp4",
    *,
    fps: int = 24,
    rotation: int = 0,
    stamps: Sequence[int] | None = None,
    **options: str,
) -> bytes:
    """Return a clip of uint8[H, W, 3] pictures with even sides.

    Args:
        pictures: one per frame.
        codec: FFmpeg's name of the encoder.
        form: FFmpeg's name of the container.
        fps: frames per second.
        rotation: clockwise rotation that a player applies, in degrees.
        stamps: time of each frame in 1 / fps; by default 0, 1, 2, ...
        options: options of the encoder, besides those of `ENCODERS`.
    """
    frames = list(pictures)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=form) as container:
        stream = container.add_stream(codec, rate=fps, options=ENCODERS.get(codec, {}) | options)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        if rotation:
            stream.set_display_rotation(rotation)
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.pts = number if stamps is None else stamps[number]
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def remux(clip: bytes, form: str) -> bytes:
    """Return the same coded frames in another container."""
    buffer = io.BytesIO()
    with av.open(io.BytesIO(clip)) as source, av.open(buffer, "w", format=form) as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    return buffer.getvalue()


def sound(form: str = "mp4") -> bytes:
    """Return a second of silence without a picture."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=form) as container:
        stream = container.add_stream("aac", rate=48000)
        for number in range(46):
            frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
            frame.sample_rate, frame.pts = 48000, number * 1024
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def sample(name: str, side: int = 320) -> np.ndarray:
    """Return the upper left part of a sample, uint8[side, side, 3]."""
    return images.read(SAMPLES / name).pixels[:side, :side]


def pan(pixels: np.ndarray, count: int, side: int, step: int = 1) -> list[np.ndarray]:
    """Return `count` views of a picture, uint8[side, side, 3], each moved by `step` pixels."""
    return [pixels[i * step : i * step + side, i * step : i * step + side] for i in range(count)]
