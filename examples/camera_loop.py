"""Frames of a camera or a video, with the verdict on the picture: `python examples/camera_loop.py 0`, or a file in place of 0.

Needs `pip install ".[cpu]" opencv-python` in a clone of the repository. Press q to end. A camera's frames are seldom untouched: many are
scaled and compressed by its driver, and the verdict says so by being inconclusive.
"""

import sys
from collections.abc import Iterator

import cv2
import numpy as np

from edgeparse import Parser, Report

# Half of the time between two frames at 15 a second; the rest is for reading and drawing.
BUDGET_MS = 33.0
# The latest frame's share in the shown probability, which would else jump.
WEIGHT = 0.2
COLOURS = {"camera": (180, 120, 30), "generated": (30, 90, 220), "inconclusive": (120, 130, 130)}


def frames(source: str) -> Iterator[np.ndarray]:
    """uint8[H, W, 3] in BGR, as OpenCV has them."""
    capture = cv2.VideoCapture(int(source) if source.isdigit() else source)
    if not capture.isOpened():
        sys.exit(f"{source} is no camera and no video that OpenCV opens")
    try:
        while True:
            got, frame = capture.read()
            if not got:
                return
            yield frame
    finally:
        capture.release()


def draw(frame: np.ndarray, report: Report, probability: float) -> np.ndarray:
    """The frame with the verdict in its upper left corner."""
    timing = report.timing_ms
    text = f"{report.verdict}  {probability:.2f}  {report.windows} windows  {timing.total if timing else 0:.0f} ms"
    cv2.rectangle(frame, (0, 0), (frame.shape[1], 34), COLOURS[report.verdict or "inconclusive"], -1)
    return cv2.putText(frame, text, (10, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (255, 255, 255), 1, cv2.LINE_AA)


def looked_at(source: str) -> Iterator[tuple[np.ndarray, Report]]:
    """Each frame, drawn on, with its report."""
    parser = Parser(time_budget_ms=BUDGET_MS)
    smooth = None
    for frame in frames(source):
        report = parser.parse(frame[:, :, ::-1])
        latest = report.probability_generated or 0.0
        smooth = latest if smooth is None else smooth + WEIGHT * (latest - smooth)
        yield draw(frame, report, smooth), report


if __name__ == "__main__":
    for shown, _ in looked_at(sys.argv[1]):
        cv2.imshow("edgeparse", shown)
        if cv2.waitKey(1) == ord("q"):
            break
