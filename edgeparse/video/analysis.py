"""A clip -> frames -> one report."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgeparse import postprocess, provenance
from edgeparse.backends.base import Backend
from edgeparse.bundle import Bundle
from edgeparse.errors import ImageError
from edgeparse.images import Picture, source_name
from edgeparse.report import Failure, GeneratorAnswer, Timing
from edgeparse.video import answer
from edgeparse.video.frames import Clip, Deadline, Frame, VideoLimits, open_clip
from edgeparse.video.report import ClipInfo, FrameAnswer, VideoInspection, VideoReport
from edgeparse.windows import frame as cut_windows

if TYPE_CHECKING:
    from edgeparse.video.frames import ClipSource

# Longer side of a thumbnail in pixels.
THUMBNAIL = 192
Identify = Callable[[NDArray[np.float32] | None], GeneratorAnswer | None]


@dataclass
class _Seen:
    """What the analysis keeps of the frames: their answers, and the raw outputs of their windows."""

    frames: list[FrameAnswer] = field(default_factory=list)
    log_odds: list[float] = field(default_factory=list)
    bits: list[float] = field(default_factory=list)
    outputs: list[postprocess.Outputs] = field(default_factory=list)
    thumbnails: list[NDArray[np.uint8]] = field(default_factory=list)
    size: tuple[int, int] = (0, 0)
    infer_ms: float = 0.0
    histogram: NDArray[np.float64] | None = None


def analyse(
    source: ClipSource,
    bundle: Bundle,
    backend: Backend,
    *,
    windows: int,
    limits: VideoLimits,
    candidates: int,
    identify: Identify,
    thumbnails: bool,
    evidence: bool,
    trust: str | None,
) -> VideoInspection:
    """Analyse a clip.

    Args:
        source: a path, encoded bytes or a binary file.
        bundle: the bundle that `backend` runs.
        backend: the network.
        windows: largest number of windows a frame.
        limits: how much of the clip is looked at.
        candidates: number of nearest known generators to list.
        identify: returns the nearest known generators of an embedding.
        thumbnails: whether to keep a thumbnail of each frame.
        evidence: whether to read what the container says about its origin.
        trust: trust anchors for content credentials as PEM text.

    Raises:
        ImageError: the clip cannot be read, or no frame of it.
        BackendError: the inference library failed.
    """
    start = time.perf_counter()
    deadline, seen = Deadline(limits.seconds), _Seen()
    names = [name for name in bundle.outputs if name != "fingerprint"] or ["fingerprint"]
    with open_clip(source, deadline) as clip:
        for frame in clip.frames(limits, deadline):
            _add(seen, frame, bundle, backend, names, windows)
            if thumbnails:
                seen.thumbnails.append(thumbnail(frame.picture))
        if not seen.frames:
            raise ImageError(
                "truncated",
                f"the {clip.format} must have a frame that can be decoded, got none; it is damaged or empty",
            )
    report = _report(seen, clip, source, bundle, backend, candidates, identify, start)
    if evidence and (found := container_evidence(source, clip.format, trust)) is not None:
        conclusion = provenance.conclude(found, report.verdict) if report.verdict else None
        report = replace(report, evidence=found, conclusion=conclusion)
    return VideoInspection(report, tuple(seen.thumbnails))


def container_evidence(source: ClipSource, form: str, trust: str | None = None) -> provenance.Evidence | None:
    """Return what a clip's container says about its origin, or None for a file object, or if the file is gone.

    Only MP4 and QuickTime movies are read; the evidence of others is empty.
    """
    if form not in ("MP4", "MOV"):
        return provenance.Evidence(form)
    if not isinstance(source, (str, os.PathLike, bytes)):
        return None
    try:
        return provenance.read(source, decode=False, trust=trust)
    except (OSError, ValueError):
        return None


def failure(source: ClipSource, error: ImageError, bundle: Bundle, backend: str) -> VideoReport:
    """Return the report about a clip that could not be read."""
    return VideoReport(
        source=source_name(source),
        status="error",
        error=Failure(error.kind, str(error)),
        video=None,
        verdict=None,
        probability_generated=None,
        reason=None,
        frames=(),
        longest_generated=None,
        generator=None,
        family=None,
        architecture=None,
        losses=None,
        windows=None,
        backend=backend,
        bundle=bundle.label,
        timing_ms=None,
    )


def thumbnail(picture: Picture) -> NDArray[np.uint8]:
    """Shrink a picture to at most `THUMBNAIL` pixels, uint8[H, W, 3]."""
    from PIL import Image

    image = Image.fromarray(picture.pixels)
    image.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    return np.asarray(image)


def _add(seen: _Seen, frame: Frame, bundle: Bundle, backend: Backend, names: list[str], windows: int) -> None:
    """Run the network over a frame and keep its answer."""
    begun = time.perf_counter()
    outputs = backend.run(cut_windows(bundle, frame.picture, windows).pixels, names)
    seen.infer_ms += (time.perf_counter() - begun) * 1e3
    mean = {name: values.mean(axis=0) for name, values in outputs.items()}
    postprocess.check_finite(mean, backend.name)
    logit, calibration = postprocess.logits(mean, bundle), bundle.calibration
    probability = verdict = None
    if logit is not None and calibration is not None:
        seen.log_odds.append(calibration.scale * float(logit) + calibration.bias)
        probability = postprocess.calibrated(float(logit), calibration)
        verdict = postprocess.verdict(probability, calibration)
    histogram = answer.colours(frame.picture)
    scene = seen.frames[-1].scene if seen.frames else 0
    if seen.histogram is not None and answer.begins_scene(seen.histogram, histogram):
        scene += 1
    seen.histogram = histogram
    seen.frames.append(FrameAnswer(frame.time, scene, frame.keyframe, verdict, probability))
    seen.bits.append(frame.bits_per_pixel)
    seen.outputs.append(outputs)
    seen.size = (frame.picture.width, frame.picture.height)


def _report(
    seen: _Seen,
    clip: Clip,
    source: ClipSource,
    bundle: Bundle,
    backend: Backend,
    candidates: int,
    identify: Identify,
    start: float,
) -> VideoReport:
    outputs = {name: np.concatenate([each[name] for each in seen.outputs]) for name in seen.outputs[0]}
    prediction = postprocess.aggregate(outputs, bundle, backend.name, candidates)
    bits = statistics.median(seen.bits)
    probability = verdict = reason = None
    if seen.log_odds and bundle.calibration is not None:
        probability = answer.clip_probability(seen.log_odds, [frame.scene for frame in seen.frames])
        verdict, reason = answer.clip_verdict(probability, bundle.calibration, clip.codec, bits)
    camera = verdict == "camera"
    generator = None if camera else prediction.generator or identify(prediction.embedding)
    total = (time.perf_counter() - start) * 1e3
    return VideoReport(
        source=source_name(source),
        status="ok",
        error=None,
        video=ClipInfo(*seen.size, clip.format, clip.codec, clip.duration, bits, clip.complete),
        verdict=verdict,
        probability_generated=probability,
        reason=reason,
        frames=tuple(seen.frames),
        longest_generated=None if reason else answer.longest_stretch(seen.frames),
        generator=generator,
        family=None if camera else prediction.family,
        architecture=None if camera else prediction.architecture,
        losses=None if camera else prediction.losses,
        windows=sum(len(next(iter(each.values()))) for each in seen.outputs),
        backend=backend.name,
        bundle=bundle.label,
        timing_ms=Timing(total - seen.infer_ms, seen.infer_ms, total),
    )
