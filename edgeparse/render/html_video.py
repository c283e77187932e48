"""A clip on the HTML page: its answer, and a timeline of the analysed frames with thumbnails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeparse.manifest import Calibration
from edgeparse.render import phrases
from edgeparse.video.report import FrameAnswer, VideoReport


@dataclass(frozen=True)
class FrameEntry:
    """A frame on the timeline.

    Attributes:
        answer: the answer about the frame.
        thumbnail: data URI.
        position: time as a share of the clip's length, 0 to 1.
    """

    answer: FrameAnswer
    thumbnail: str
    position: float


@dataclass(frozen=True)
class ClipEntry:
    """Everything that the page shows about one clip.

    Attributes:
        number: position on the page, from 1.
        report: the clip's report.
        reason: why the verdict is what it is.
        thumbnail: data URI of the middle frame, or None.
        frames: the timeline.
        stretch: begin and end of the longest generated stretch as shares of the clip's length, or None.
        evidence: what the container says, one line a signal, and the conclusion.
    """

    number: int
    report: VideoReport
    reason: str | None
    thumbnail: str | None
    frames: tuple[FrameEntry, ...]
    stretch: tuple[float, float] | None
    evidence: tuple[str, ...] = ()


def clip_entry(
    number: int,
    report: VideoReport,
    thumbnails: Sequence[NDArray[np.uint8]],
    calibration: Calibration,
    encode: Callable[[NDArray[np.uint8]], str],
) -> ClipEntry:
    """Prepare a clip for the page.

    Args:
        number: its position on the page.
        report: its report.
        thumbnails: one per analysed frame, uint8[H, W, 3]; empty if the clip could not be read.
        calibration: the bundle's.
        encode: turns a thumbnail into a data URI.
    """
    if report.video is None or not report.frames:
        return ClipEntry(number, report, None, None, (), None)
    length = max(report.video.duration or 0.0, report.frames[-1].time) or 1.0
    frames = tuple(
        FrameEntry(answer, encode(pixels), answer.time / length)
        for answer, pixels in zip(report.frames, thumbnails, strict=True)
    )
    longest = report.longest_generated
    return ClipEntry(
        number,
        report,
        report.reason or phrases.reason(report, calibration),
        frames[len(frames) // 2].thumbnail,
        frames,
        None if longest is None else (longest.start / length, longest.end / length),
        tuple(phrases.evidence_lines(report)),
    )
