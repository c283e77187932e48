"""The report about one clip: frozen dataclasses, and their JSON (`kind` "video" in `edgeparse/report.schema.json`)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgeparse.provenance import Conclusion, Evidence
from edgeparse.report import (
    SCHEMA,
    Choice,
    Failure,
    FamilyAnswer,
    GeneratorAnswer,
    Interval,
    Timing,
    Verdict,
    plain,
)


@dataclass(frozen=True)
class ClipInfo:
    """The clip as its file states it.

    Attributes:
        width, height: size of an upright frame in pixels.
        format: container, for example "MP4".
        codec: for example "h264".
        duration: length in seconds, or None if unknown.
        bits_per_pixel: median size of the keyframes behind the analysed frames, in bits per pixel.
        complete: False if damage or a limit kept a part of the clip from being analysed.
    """

    width: int
    height: int
    format: str
    codec: str
    duration: float | None
    bits_per_pixel: float
    complete: bool


@dataclass(frozen=True)
class FrameAnswer:
    """The answer about one frame.

    Attributes:
        time: seconds from the clip's first frame.
        scene: number of the scene, from 0; a frame that differs much from the one before begins another.
        keyframe: whether the frame was coded without reference to others.
        verdict: as if the frame were an image.
        probability_generated: as if the frame were an image.
    """

    time: float
    scene: int
    keyframe: bool
    verdict: Verdict | None
    probability_generated: float | None


@dataclass(frozen=True)
class Stretch:
    """A run of analysed frames that look generated: the times of the first and last, in seconds, and their number."""

    start: float
    end: float
    frames: int


@dataclass(frozen=True)
class VideoReport:
    """The answers about one clip.

    Verdict and probability count frames of one scene as dependent. If few bits per pixel left no traces, the verdict is
    "inconclusive" and `reason` says so. Answers about a generator use the windows of all frames; they are None if the verdict
    is "camera". If `status` is "error", `error` is set and all answers are None. `evidence` is what the container says about its
    origin, or None if it was not read; `conclusion` reads it together with the verdict, which it never changes.
    """

    source: str | None
    status: Literal["ok", "error"]
    error: Failure | None
    video: ClipInfo | None
    verdict: Verdict | None
    probability_generated: float | None
    reason: str | None
    frames: tuple[FrameAnswer, ...]
    longest_generated: Stretch | None
    generator: GeneratorAnswer | None
    family: FamilyAnswer | None
    architecture: dict[str, Interval | Choice] | None
    losses: dict[str, float] | None
    windows: int | None
    backend: str
    bundle: str
    timing_ms: Timing | None
    evidence: Evidence | None = None
    conclusion: Conclusion | None = None

    @property
    def kind(self) -> Literal["video"]:
        """Tells a clip's report from an image's, which has no `kind`."""
        return "video"

    def to_json(self) -> dict[str, Any]:
        """Return the JSON contract as plain dicts, lists, strings and numbers."""
        return {"schema": SCHEMA, "kind": self.kind} | {key: plain(value) for key, value in asdict(self).items()}


@dataclass(frozen=True)
class VideoInspection:
    """A report with a thumbnail of each analysed frame, uint8[H, W, 3]."""

    report: VideoReport
    thumbnails: tuple[NDArray[np.uint8], ...]
