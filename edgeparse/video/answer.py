"""From the answers about frames to one answer about the clip.

Frames of a clip are not independent: the same camera or generator made them, and frames of one scene show almost the same picture.
`python -m training video` measures how far their log-odds correlate, and at which rates the traces survive. It writes both figures
into `measured.json`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeparse.images import Picture
from edgeparse.manifest import Calibration
from edgeparse.postprocess import sigmoid, verdict
from edgeparse.report import Verdict
from edgeparse.video.report import FrameAnswer, Stretch

MEASURED = Path(__file__).with_name("measured.json")
# The codec that stands for those that were not measured.
OTHER_CODECS = "hevc"
# Two frames belong to two scenes if their colour histograms share less than this.
SAME_SCENE = 0.5
# Sampled pixels along each side, and steps of each colour channel.
SAMPLES, STEPS = 64, 4


@dataclass(frozen=True)
class Measured:
    """Measured figures.

    Attributes:
        in_scene: correlation of the log-odds of two frames of one scene.
        in_clip: the same for frames of two scenes of one clip.
        min_bits_per_pixel: bits per pixel of a keyframe below which the traces are gone, by codec.
    """

    in_scene: float
    in_clip: float
    min_bits_per_pixel: dict[str, float]

    def least(self, codec: str) -> float:
        """Return the bits per pixel below which a codec leaves no traces."""
        return self.min_bits_per_pixel.get(codec, self.min_bits_per_pixel[OTHER_CODECS])


@cache
def measured() -> Measured:
    """Read `measured.json`."""
    found = json.loads(MEASURED.read_text())
    return Measured(found["correlation"]["scene"], found["correlation"]["clip"], found["min_bits_per_pixel"])


def effective_frames(scenes: Sequence[int], in_scene: float | None = None, in_clip: float | None = None) -> float:
    """Return how many independent frames would say as much: n / (1 + the mean frame's summed correlation with the others).

    Args:
        scenes: the scene of each frame.
        in_scene: correlation of two frames of one scene; by default the measured one.
        in_clip: correlation of two frames of different scenes; by default the measured one.
    """
    in_scene = measured().in_scene if in_scene is None else in_scene
    in_clip = measured().in_clip if in_clip is None else in_clip
    n = len(scenes)
    same = sum(scenes.count(scene) for scene in scenes) - n
    return n / (1 + (in_scene * same + in_clip * (n * (n - 1) - same)) / n)


def clip_probability(log_odds: Sequence[float], scenes: Sequence[int]) -> float:
    """Return the probability that the clip is generated.

    Log-odds of independent frames add up. The mean is therefore multiplied by the effective number of frames.

    Args:
        log_odds: calibrated log-odds of each frame.
        scenes: the scene of each frame.
    """
    return sigmoid(float(np.mean(log_odds)) * effective_frames(scenes))


def clip_verdict(
    probability: float, calibration: Calibration, codec: str, bits_per_pixel: float
) -> tuple[Verdict, str | None]:
    """Return the verdict, and a sentence if the rate left no traces to judge by."""
    least = measured().least(codec)
    if bits_per_pixel < least:
        return "inconclusive", (
            f"The {codec} keyframes have {bits_per_pixel:.2f} bits per pixel. Below {least:.2f}, compression leaves too few traces."
        )
    return verdict(probability, calibration), None


def longest_stretch(frames: Sequence[FrameAnswer]) -> Stretch | None:
    """Return the longest run of consecutive frames that look generated, by time and then by number; None if no frame does."""
    best: Stretch | None = None
    run: list[FrameAnswer] = []
    for frame in [*frames, None]:
        if frame is not None and frame.verdict == "generated":
            run.append(frame)
        elif run:
            stretch = Stretch(run[0].time, run[-1].time, len(run))
            if best is None or (stretch.end - stretch.start, stretch.frames) > (best.end - best.start, best.frames):
                best = stretch
            run = []
    return best


def colours(picture: Picture) -> NDArray[np.float64]:
    """Return the histogram of a picture's colours, float64[STEPS ** 3], with sum 1."""
    down, across = (max(1, side // SAMPLES) for side in (picture.height, picture.width))
    sampled = picture.part(0, 0, picture.height, picture.width)[::down, ::across].astype(np.uint16) * STEPS // 256
    codes = (sampled[:, :, 0] * STEPS + sampled[:, :, 1]) * STEPS + sampled[:, :, 2]
    shares: NDArray[np.float64] = np.bincount(codes.ravel(), minlength=STEPS**3) / codes.size
    return shares


def begins_scene(before: NDArray[np.float64], after: NDArray[np.float64]) -> bool:
    """Return whether two frames with these histograms belong to different scenes."""
    return bool(np.minimum(before, after).sum() < SAME_SCENE)
