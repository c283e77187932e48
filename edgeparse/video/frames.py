"""Decode a few frames of a clip with PyAV, at native resolution, upright and in RGB.

A short clip is read twice: once for the list of its packets, from which `selection.choose` picks the frames, and once to decode
those. This needs no index and no seeking, so that every container of the same stream gives the same frames. A long clip is not read
as a whole; the reader seeks to evenly spread times and decodes the keyframe there.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

import numpy as np

from edgeparse.errors import ImageError
from edgeparse.images import CHUNK, MAX_BYTES, MAX_PIXELS, Picture, source_name
from edgeparse.video.selection import PacketInfo, choose, keyframes_of
from edgeparse.video.sniff import HEAD, clip_format

if TYPE_CHECKING:
    import av
    from av.container import InputContainer
    from av.video.stream import VideoStream

    ClipSource: TypeAlias = str | os.PathLike[str] | bytes | BinaryIO

MAX_FRAMES = 256
# A clip is read as a whole up to this length and size, and up to this number of packets.
SCAN_SECONDS, SCAN_BYTES, SCAN_PACKETS = 600.0, 512 * 1024 * 1024, 100_000
# Pixels to decode for frames that are no keyframes: 240 frames of 1080p.
DECODED_PIXELS = 500_000_000
# Packets to read after a seek until a keyframe.
SEEK_PACKETS = 1500
# Frames of this height and above are coded with the colours of BT.709 if the clip does not say, smaller ones with BT.601.
HD_HEIGHT = 720
_UNSPECIFIED = 2
# Counter-clockwise rotation in degrees -> EXIF orientation.
_ORIENTATIONS = {90: 8, -90: 6, -270: 8, 270: 6, 180: 3, -180: 3}
# Chroma is interpolated exactly and alike on every CPU. PyAV 16, the last for Python 3.10, lacks these flags.
_EXACT = ("FULL_CHR_H_INT", "FULL_CHR_H_INP", "ACCURATE_RND", "BITEXACT")
_BUFFER = 256 * 1024


@dataclass(frozen=True)
class VideoLimits:
    """How much of a clip is looked at.

    Attributes:
        frames: largest number of frames to analyse, 1 to 256.
        seconds: time for reading and analysing a clip. Later frames are left out, and the report is marked as not complete.

    Raises:
        ValueError: a limit is out of its range.
    """

    frames: int = 24
    seconds: float = 60.0

    def __post_init__(self) -> None:
        if not 1 <= self.frames <= MAX_FRAMES:
            raise ValueError(f"frames must be between 1 and {MAX_FRAMES}, got {self.frames}")
        if not self.seconds > 0:
            raise ValueError(f"seconds must be above 0, got {self.seconds}")


@dataclass(frozen=True)
class Frame:
    """A decoded frame.

    Attributes:
        time: seconds from the clip's first frame.
        picture: the frame, upright.
        keyframe: whether it was coded without reference to other frames.
        bits_per_pixel: size of the keyframe that it decodes from, in bits per pixel.
    """

    time: float
    picture: Picture
    keyframe: bool
    bits_per_pixel: float


class Deadline:
    """A point in time; `passed()` tells whether it is over."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def passed(self) -> bool:
        """Return whether the time is over."""
        return time.monotonic() > self._end


class Clip:
    """An open clip.

    Attributes:
        width, height: size in pixels, as stored.
        format: container ("MP4", "MKV", ...).
        codec: name of the codec ("h264", "hevc", ...).
        duration: length in seconds, or None if unknown. Known after `frames()` has started.
        complete: False if a limit, damage or a missing end kept frames from being analysed.
    """

    def __init__(self, container: InputContainer, stream: VideoStream, form: str, size: int | None) -> None:
        self._container, self._stream, self._size = container, stream, size
        context = stream.codec_context
        self.format, self.codec = form, context.name.removeprefix("lib")
        self.width, self.height = context.width, context.height
        self.duration = _header_duration(container, stream)
        self.complete = True

    def frames(self, limits: VideoLimits, deadline: Deadline) -> Iterator[Frame]:
        """Yield the chosen frames in order of time. A frame that is damaged is left out."""
        long = self.duration is not None and self.duration > SCAN_SECONDS
        if (long or (self._size or 0) > SCAN_BYTES) and self.duration:
            yield from self._seek(limits.frames, self.duration, deadline)
        else:
            yield from self._scan(limits.frames, deadline)

    def every_frame(self) -> Iterator[Frame]:
        """Yield every frame in order, for a live view; damaged ones are left out."""
        first: int | None = None
        unit, pixels, bits = float(self._stream.time_base or 0), self.width * self.height, 0.0
        for number, packet in enumerate(self._packets()):
            if packet.is_keyframe and packet.size:
                bits = 8 * packet.size / pixels
            for frame in self._decode(packet if packet.size else None):
                stamp = frame.pts
                first = stamp if first is None else first
                at = number / self._rate() if stamp is None or first is None else (stamp - first) * unit
                if not frame.is_corrupt:
                    yield self._frame(frame, at, bool(frame.key_frame), bits)

    def _scan(self, count: int, deadline: Deadline) -> Iterator[Frame]:
        packets, stamps = self._read_packets(deadline)
        # Without reliable time stamps, only a keyframe is recognised among decoded frames: it is the first.
        most_decoded = DECODED_PIXELS // max(1, self.width * self.height) if stamps else 0
        groups = keyframes_of(packets, choose(packets, count, most_decoded))
        if packets:
            self.duration = _length(packets)
        self._rewind()
        source = self._numbered_packets(deadline)
        for key, wanted in groups.items():
            bits = 8 * packets[key].size / (self.width * self.height)
            if wanted == [key]:
                first = self._decode_first(source, key)
                frames = {} if first is None else {key: first}
            else:
                frames = self._decode_until(source, key, {stamps[i]: i for i in wanted})
            for i in sorted(wanted, key=lambda i: packets[i].time):
                frame = frames.get(i)
                if frame is None or frame.is_corrupt:
                    self.complete = False
                else:
                    yield self._frame(frame, packets[i].time, packets[i].key, bits)

    def _read_packets(self, deadline: Deadline) -> tuple[list[PacketInfo], list[int]]:
        """Return the stream's packets, and their time stamps in the stream's unit; no stamps if those are unreliable."""
        found: list[tuple[int | None, int, bool, bool]] = []
        read = 0
        for packet in self._packets():
            if packet.size:
                stamp = packet.pts if packet.pts is not None else packet.dts
                found.append((stamp, packet.size, packet.is_keyframe, not packet.is_discard))
                read += packet.size
            if len(found) >= SCAN_PACKETS or read > SCAN_BYTES or deadline.passed():
                self.complete = False
                break
        stamps = _reliable([stamp for stamp, *_ in found], float(self._stream.time_base or 0))
        if stamps:
            first, unit = min(stamps), float(self._stream.time_base or 0)
            times = [round((stamp - first) * unit, 6) for stamp in stamps]
        else:
            times = [number / self._rate() for number in range(len(found))]
        packets = [PacketInfo(at, size, key, shown) for at, (_, size, key, shown) in zip(times, found, strict=True)]
        return packets, stamps

    def _rate(self) -> float:
        rate = self._stream.average_rate or self._stream.guessed_rate
        return float(rate) if rate else 25.0

    def _packets(self) -> Iterator[av.Packet[VideoStream]]:
        """Yield the stream's packets; damage ends them."""
        from av.error import FFmpegError

        try:
            yield from self._container.demux(self._stream)
        except (FFmpegError, OSError, ValueError):
            self.complete = False

    def _numbered_packets(self, deadline: Deadline) -> Iterator[tuple[int, av.Packet[VideoStream]]]:
        number = 0
        for packet in self._packets():
            if deadline.passed():
                self.complete = False
                return
            if packet.size:
                yield number, packet
                number += 1

    def _rewind(self) -> None:
        from av.error import FFmpegError

        self._flush()
        try:
            self._container.seek(0, backward=True, any_frame=True)
        except (FFmpegError, OSError):
            self.complete = False

    def _decode_first(self, source: Iterator[tuple[int, av.Packet[VideoStream]]], key: int) -> av.VideoFrame | None:
        """Decode a keyframe."""
        for number, packet in source:
            if number == key:
                return self._decode_alone(packet)
        return None

    def _decode_alone(self, packet: av.Packet[VideoStream]) -> av.VideoFrame | None:
        decoded = [*self._decode(packet), *self._decode(None)]
        self._flush()
        return decoded[0] if decoded else None

    def _decode_until(
        self, source: Iterator[tuple[int, av.Packet[VideoStream]]], key: int, wanted: dict[int, int]
    ) -> dict[int, av.VideoFrame]:
        """Decode from a keyframe up to the last wanted frame; return the wanted ones by position.

        Args:
            source: the packets with their positions.
            key: position of the keyframe.
            wanted: positions by time stamp.
        """
        found: dict[int, av.VideoFrame] = {}
        last = max(wanted.values())

        def keep(frames: list[av.VideoFrame]) -> None:
            # All others are dropped at once: a group of 1080p frames would fill a gigabyte.
            found.update({wanted[frame.pts]: frame for frame in frames if frame.pts in wanted})

        for number, packet in source:
            if number >= key:
                keep(self._decode(packet))
            if number >= last:
                break
        keep(self._decode(None))
        self._flush()
        return found

    def _seek(self, count: int, duration: float, deadline: Deadline) -> Iterator[Frame]:
        start, seen = self._stream.start_time or 0, set()
        for slot in range(count):
            if deadline.passed():
                self.complete = False
                return
            target = start + round((slot + 0.5) / count * duration / float(self._stream.time_base or 1))
            packet = self._keyframe_at(target)
            stamp = None if packet is None else packet.pts if packet.pts is not None else packet.dts
            if packet is None or stamp is None:
                self.complete = False
                continue
            if stamp in seen:
                continue
            seen.add(stamp)
            frame = self._decode_alone(packet)
            if frame is None or frame.is_corrupt:
                self.complete = False
                continue
            bits = 8 * packet.size / (self.width * self.height)
            yield self._frame(frame, float((stamp - start) * (self._stream.time_base or 0)), True, bits)

    def _keyframe_at(self, target: int) -> av.Packet[VideoStream] | None:
        """Return the last keyframe up to a time stamp, or the first after it."""
        from av.error import FFmpegError

        best = None
        try:
            self._container.seek(target, stream=self._stream, backward=True)
            for number, packet in enumerate(self._packets()):
                stamp = packet.pts if packet.pts is not None else packet.dts
                late = stamp is not None and stamp > target
                if packet.size and packet.is_keyframe and (best is None or not late):
                    best = packet
                    # Containers with an index seek to the keyframe itself.
                    if number == 0 or late:
                        break
                if (best is not None and late) or number >= SEEK_PACKETS:
                    break
        except (FFmpegError, OSError):
            return best
        return best

    def _decode(self, packet: av.Packet[VideoStream] | None) -> list[av.VideoFrame]:
        from av.error import FFmpegError

        try:
            return list(self._stream.codec_context.decode(packet))
        except FFmpegError:
            return []

    def _flush(self) -> None:
        self._stream.codec_context.flush_buffers()

    def _frame(self, frame: av.VideoFrame, at: float, keyframe: bool, bits: float) -> Frame:
        _check_size(frame.width, frame.height)
        orientation = _ORIENTATIONS.get(round(frame.rotation), 1)
        return Frame(at, Picture(to_rgb(frame), orientation=orientation), keyframe, bits)


def to_rgb(frame: av.VideoFrame) -> np.ndarray:
    """Convert a decoded frame to uint8[H, W, 3], as its colour space and range say. Nothing is scaled but its chroma."""
    from av.video.reformatter import ColorRange, Colorspace, Interpolation

    space: Any = frame.colorspace
    if space in (_UNSPECIFIED, 0):
        space = Colorspace.ITU709 if frame.height >= HD_HEIGHT else Colorspace.ITU601
    flags: Any = Interpolation.BICUBIC
    for name in _EXACT:
        flags |= getattr(Interpolation, name, 0)
    full = frame.color_range == ColorRange.JPEG or frame.format.name.startswith("yuvj")
    rgb = frame.reformat(
        format="rgb24",
        src_colorspace=space,
        dst_colorspace=space,
        interpolation=flags,
        src_color_range=ColorRange.JPEG if full else ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
    )
    pixels: np.ndarray = rgb.to_ndarray()
    return pixels


@contextmanager
def open_clip(source: ClipSource, deadline: Deadline) -> Iterator[Clip]:
    """Open a clip.

    Args:
        source: a path, encoded bytes, or a binary file.
        deadline: an endless stream is read until then.

    Raises:
        ImageError: the file is no clip, is damaged, has no video, or is too large, or PyAV is not installed.
    """
    av = _library()
    with _opened(source) as file:
        seekable, complete = _seekable(file, deadline)
        head = seekable.read(HEAD)
        seekable.seek(0)
        form = clip_format(head)
        if not head:
            raise ImageError("empty", "the file is empty")
        if form is None:
            raise ImageError("not_an_image", "the file is no clip in a supported format; convert it to MP4")
        size = _size(seekable)
        try:
            # No protocol: a container must not make FFmpeg open other files.
            options = {"protocol_whitelist": "", "fflags": "+genpts"}
            container = av.open(
                seekable, format=form[0], container_options=options, metadata_errors="replace", buffer_size=_BUFFER
            )
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise ImageError("truncated", f"the {form[1]} is truncated or damaged: {_reason(error)}") from error
        with container:
            clip = Clip(container, _video_stream(container), form[1], size)
            _check_size(clip.width, clip.height)
            clip.complete = complete
            yield clip


def _library() -> Any:
    try:
        import av
    except ImportError as error:
        raise ImageError(
            "unsupported", f'a clip needs PyAV ({error}); run pip install "av>=16", or extract frames as images'
        ) from error
    return av


@contextmanager
def _opened(source: ClipSource) -> Iterator[BinaryIO]:
    """Return a source as a binary file; close it if this opened it."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        yield io.BytesIO(source)
    elif isinstance(source, (str, os.PathLike)):
        name = source_name(source)
        try:
            file = open(source, "rb")  # noqa: PTH123, SIM115 (os.PathLike may be no Path)
        except FileNotFoundError as error:
            raise ImageError("not_found", f"there is no file {name}") from error
        except (OSError, ValueError) as error:
            raise ImageError("unreadable", f"{name} cannot be opened: {_reason(error)}") from error
        with file:
            yield file
    else:
        yield source


def _seekable(file: BinaryIO, deadline: Deadline) -> tuple[BinaryIO, bool]:
    """Return a file that can seek, and whether it is complete: a pipe is read into memory up to the limits."""
    with suppress(AttributeError):
        if file.seekable():
            return file, True
    parts: list[bytes] = []
    length = 0
    while length < MAX_BYTES and not deadline.passed():
        try:
            part = file.read(CHUNK)
        except (OSError, ValueError) as error:
            raise ImageError("unreadable", f"the file cannot be read: {_reason(error)}") from error
        if not part:
            return io.BytesIO(b"".join(parts)), True
        parts.append(part)
        length += len(part)
    return io.BytesIO(b"".join(parts)), False


def _size(file: BinaryIO) -> int:
    end = file.seek(0, os.SEEK_END)
    file.seek(0)
    return end


def _video_stream(container: InputContainer) -> VideoStream:
    """Return the first video stream that can be decoded; covers of audio files do not count.

    Raises:
        ImageError: there is none.
    """
    streams = [s for s in container.streams.video if not s.disposition & type(s.disposition).attached_pic]
    if not streams:
        others = sorted({stream.type for stream in container.streams})
        raise ImageError("unsupported", f"the file must have a video stream, got {' and '.join(others) or 'nothing'}")
    stream: VideoStream = streams[0]
    if getattr(stream, "codec_context", None) is None:
        raise ImageError("unsupported", "the clip's codec is not supported; convert it to H.264")
    stream.thread_type = "AUTO"
    return stream


def _check_size(width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise ImageError("truncated", f"the clip's frames have no size: {width}x{height}; its header is damaged")
    if width * height > MAX_PIXELS:
        raise ImageError(
            "too_large", f"a frame must have at most {MAX_PIXELS // 10**6} megapixels, got {width}x{height}"
        )


def _header_duration(container: InputContainer, stream: VideoStream) -> float | None:
    """Return the length in seconds that the headers state, or None."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return container.duration / 1e6 if container.duration else None


def _reliable(stamps: Sequence[int | None], unit: float) -> list[int]:
    """Return time stamps, or nothing if some are missing, many are equal, or they span more than a week."""
    known = [stamp for stamp in stamps if stamp is not None]
    if len(known) < len(stamps) or len(set(known)) * 10 < len(known) * 9:
        return []
    return known if known and (max(known) - min(known)) * unit <= 7 * 86400 else []


def _length(packets: list[PacketInfo]) -> float:
    """Return the clip's length in seconds: the last frame is shown as long as the others on average."""
    times = [packet.time for packet in packets]
    span = max(times) - min(times)
    return span * len(times) / (len(times) - 1) if len(times) > 1 else 0.0


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
