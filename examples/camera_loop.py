"""Show the verdict on frames of a camera or video. Usage: `python examples/camera_loop.py 0`, or a video file instead of 0.

Needs `pip install ".[cpu,video]" opencv-python` in a clone of the repository. Press q to quit. Many camera drivers scale and compress
frames, which makes the verdict inconclusive. For one verdict on a whole clip, use `edgeparse check`.
"""

import math
import sys
from collections.abc import Iterator

import cv2
import numpy as np

from edgeparse import ImageError, Parser, Report
from edgeparse.video.frames import Deadline, open_clip

# Half of the interval between frames at 15 per second; the rest is for reading and drawing.
BUDGET_MS = 33.0
# Weight of the latest frame in the displayed probability, which would otherwise jump.
WEIGHT = 0.2
COLOURS = {"camera": (180, 120, 30), "generated": (30, 90, 220), "inconclusive": (120, 130, 130)}


def frames(source: str) -> Iterator[np.ndarray]:
    """Yield frames, uint8[H, W, 3] in OpenCV's BGR order; a file's are decoded as `Parser.parse_video` decodes them."""
    if not source.isdigit():
        try:
            with open_clip(source, Deadline(math.inf)) as clip:
                for frame in clip.every_frame():
                    yield frame.picture.pixels[:, :, ::-1]
        except ImageError as error:
            sys.exit(f"{source} cannot be opened: {error}")
        return
    capture = cv2.VideoCapture(int(source))
    if not capture.isOpened():
        sys.exit(f"OpenCV cannot open camera {source}; pass the number of a camera or a video file")
    try:
        while True:
            success, image = capture.read()
            if not success:
                return
            yield image
    finally:
        capture.release()


def draw(frame: np.ndarray, report: Report, probability: float) -> np.ndarray:
    """Draw the verdict into the upper left corner of a frame."""
    timing = report.timing_ms
    text = f"{report.verdict}  {probability:.2f}  {report.windows} windows  {timing.total if timing else 0:.0f} ms"
    frame = np.ascontiguousarray(frame)
    cv2.rectangle(frame, (0, 0), (frame.shape[1], 34), COLOURS[report.verdict or "inconclusive"], -1)
    return cv2.putText(frame, text, (10, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (255, 255, 255), 1, cv2.LINE_AA)


def annotated(source: str) -> Iterator[tuple[np.ndarray, Report]]:
    """Yield each frame with the verdict drawn on it, and its report."""
    parser = Parser(time_budget_ms=BUDGET_MS)
    smoothed = None
    for frame in frames(source):
        report = parser.parse(frame[:, :, ::-1])
        latest = report.probability_generated or 0.0
        smoothed = latest if smoothed is None else smoothed + WEIGHT * (latest - smoothed)
        yield draw(frame, report, smoothed), report


if __name__ == "__main__":
    for shown, _ in annotated(sys.argv[1]):
        cv2.imshow("edgeparse", shown)
        if cv2.waitKey(1) == ord("q"):
            break
