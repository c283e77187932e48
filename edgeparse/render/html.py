"""Reports as one HTML page that works offline, and a comparison as an SVG."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgeparse import __version__
from edgeparse.bundle import Bundle
from edgeparse.compare import Comparison
from edgeparse.errors import BundleError
from edgeparse.manifest import Parameter
from edgeparse.postprocess import verdict
from edgeparse.render import phrases, pictures
from edgeparse.render.html_video import ClipEntry, clip_entry
from edgeparse.report import Choice, Interval, Report
from edgeparse.video.report import VideoReport

if TYPE_CHECKING:
    from jinja2 import Environment

    from edgeparse.parser import Inspection

MAX_PICTURE_BYTES = 450_000
# Largest number of images that the command line puts on a page: about 100 MB, which a browser still opens.
MAX_PICTURES = 1000
THUMBNAIL = 96

_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Detail:
    """How much of each image a page shows.

    Attributes:
        side: longer side of the image in pixels.
        fingerprints: number of fingerprints.
    """

    side: int
    fingerprints: int

    @staticmethod
    def of(pictures: int) -> Detail:
        """Return less detail for more images, so that a page of hundreds still opens."""
        if pictures == 1:
            return Detail(1024, 8)
        return Detail(640, 4) if pictures <= 12 else Detail(320, 1)


@dataclass(frozen=True)
class Window:
    """A window in image pixels, clipped to the image, with its score and the verdict for that score."""

    number: int
    left: int
    top: int
    width: int
    height: int
    score: float
    kind: str


@dataclass(frozen=True)
class Range:
    """A continuous parameter: its answer, and the positions of the answer on the parameter's range, 0 to 1."""

    name: str
    unit: str
    answer: Interval
    low: float
    high: float
    value: float
    ends: tuple[int, int]


@dataclass(frozen=True)
class Entry:
    """Everything that the page shows about one image; images are data URIs."""

    number: int
    report: Report
    reason: str | None
    picture: str | None
    thumbnail: str | None
    windows: tuple[Window, ...]
    fingerprints: tuple[str, ...]
    spectrum: str | None
    ranges: tuple[Range, ...]
    choices: tuple[tuple[str, Choice], ...]
    evidence: tuple[str, ...]


class HtmlReport:
    """A page of reports, filled image by image; it keeps little of each.

    Args:
        bundle: the bundle that made the reports.
        expected: number of images to come; it decides how much of each is kept.

    Raises:
        BundleError: the bundle does not separate camera from generated, which the page is about.
    """

    def __init__(self, bundle: Bundle, expected: int) -> None:
        if bundle.calibration is None or not {"generated", "attribution"} & set(bundle.outputs):
            raise BundleError(
                f"bundle {bundle.label} does not separate camera from generated, which a page needs; use --json instead"
            )
        self._bundle, self._calibration = bundle, bundle.calibration
        self._detail = Detail.of(expected)
        self._entries: list[Entry | ClipEntry] = []

    def add(self, report: Report, inspection: Inspection | None) -> None:
        """Add an image; `inspection` is None if the image could not be read."""
        number = len(self._entries) + 1
        if inspection is None:
            said = tuple(phrases.evidence_lines(report))
            self._entries.append(Entry(number, report, None, None, None, (), (), None, (), (), said))
            return
        fingerprints = inspection.fingerprint
        architecture = report.architecture or {}
        self._entries.append(
            Entry(
                number=number,
                report=report,
                reason=phrases.reason(report, self._calibration),
                picture=_jpeg(inspection.pixels, self._detail.side),
                thumbnail=_jpeg(inspection.pixels, THUMBNAIL),
                windows=tuple(self._windows(inspection)),
                fingerprints=tuple(
                    _uri("png", pictures.png(pictures.fingerprint_picture(fingerprint)))
                    for fingerprint in fingerprints[: self._detail.fingerprints]
                ),
                spectrum=_uri("png", pictures.png(pictures.spectrum_picture(fingerprints)[:, :, 0])),
                ranges=tuple(
                    _range(parameter, answer)
                    for parameter in self._bundle.continuous
                    if isinstance(answer := architecture.get(parameter.name), Interval)
                ),
                choices=tuple((name, answer) for name, answer in architecture.items() if isinstance(answer, Choice)),
                evidence=tuple(phrases.evidence_lines(report)),
            )
        )

    def add_video(self, report: VideoReport, thumbnails: Sequence[NDArray[np.uint8]]) -> None:
        """Add a clip with a thumbnail of each analysed frame, uint8[H, W, 3]; none if it could not be read."""
        side = THUMBNAIL if len(self._entries) > 12 else self._detail.side
        number = len(self._entries) + 1
        self._entries.append(
            clip_entry(number, report, thumbnails, self._calibration, lambda pixels: _jpeg(pixels, side))
        )

    def _windows(self, inspection: Inspection) -> list[Window]:
        height, width = inspection.pixels.shape[:2]
        whole, size = self._bundle.framing == "resize", self._bundle.window
        return [
            Window(
                number,
                left,
                top,
                width if whole else min(size, width - left),
                height if whole else min(size, height - top),
                score,
                verdict(score, self._calibration),
            )
            for number, ((top, left), score) in enumerate(zip(inspection.corners, inspection.scores, strict=True), 1)
        ]

    def render(self, requested: int | None = None) -> str:
        """Return the page as HTML.

        Args:
            requested: number of images that were requested, if the run was interrupted.
        """
        template = _environment().get_template("report.html.j2")
        style, script = _read_template("report.css"), _read_template("report.js")
        return template.render(
            entries=self._entries,
            ranked=sorted(self._entries, key=_suspicion, reverse=True),
            requested=requested or len(self._entries),
            bundle=self._bundle,
            calibration=self._calibration,
            hint=phrases.model_parsing_hint(self._bundle),
            json=[entry.report.to_json() for entry in self._entries],
            has_model_parsing=any(name in self._bundle.outputs for name in _model_parsing_outputs(self._bundle)),
            measure="probability" if "attribution" in self._bundle.outputs else "similarity",
            limits=[
                sentence
                for sentence in phrases.LIMITS
                if sentence != phrases.WINDOWS_ARE_NO_MAP or self._bundle.framing == "windows"
            ],
            verdicts=phrases.VERDICTS,
            version=__version__,
            style=style,
            script=script,
            style_hash=_csp_hash(style),
            script_hash=_csp_hash(script),
        )


def _suspicion(entry: Entry | ClipEntry) -> float:
    """Return the probability of "generated"; images without one come last."""
    probability = entry.report.probability_generated
    return -1.0 if probability is None else probability


def matrix_svg(result: Comparison) -> str:
    """Draw the probabilities of all pairs as SVG, with the images ordered by group."""
    order = [i for members in result.groups or () for i in members]
    order += [i for i in range(len(result.pictures)) if i not in order]
    template = _environment().get_template("matrix.svg.j2")
    return template.render(
        # XML does not allow control characters, which file names may contain.
        pictures=[
            replace(result.pictures[i], source=phrases.printable(result.pictures[i].source or "")) for i in order
        ],
        cells=result.matrix()[np.ix_(order, order)].tolist(),
        threshold=result.threshold,
        bundle=result.bundle,
    )


def _model_parsing_outputs(bundle: Bundle) -> list[str]:
    """Return the outputs that describe a generator's architecture and training; a bundle may lack them."""
    return ["family", "continuous", "losses", *(discrete.name for discrete in bundle.discrete)]


def _range(parameter: Parameter, answer: Interval) -> Range:
    return Range(
        name=parameter.name,
        unit=parameter.unit,
        answer=answer,
        low=parameter.scaled(answer.low),
        high=parameter.scaled(answer.high),
        value=parameter.scaled(answer.value),
        ends=(parameter.value(0), parameter.value(1)),
    )


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["count"] = phrases.count
    environment.filters["spaced"] = lambda name: name.replace("_", " ")
    environment.filters["clock"] = phrases.clock
    environment.filters["base"] = lambda source: Path(source).name if source else "(no name)"
    # False for None and NaN.
    environment.tests["known"] = lambda value: value is not None and value == value
    return environment


def _read_template(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _csp_hash(text: str) -> str:
    """Return the hash of an inline style or script for the Content-Security-Policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _jpeg(pixels: NDArray[np.uint8], side: int) -> str:
    """Encode uint8[H, W, 3] as a data URI, at most `side` pixels long; noisy images get a lower JPEG quality."""
    from PIL import Image

    image: Any = Image.fromarray(pixels)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    for quality in (84, 70, 55, 40):
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality, optimize=True)
        if buffer.tell() <= MAX_PICTURE_BYTES:
            break
    return _uri("jpeg", buffer.getvalue())
