"""Reports as one page that opens from disk and asks nothing of the network, and a comparison as a picture."""

from __future__ import annotations

import base64
import hashlib
import io
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgeparse import __version__, render, words
from edgeparse.bundle import Bundle, Parameter
from edgeparse.compare import Comparison
from edgeparse.errors import BundleError
from edgeparse.report import Choice, Interval, Report
from edgeparse.text import printable

if TYPE_CHECKING:
    from jinja2 import Environment

    from edgeparse.parser import Look

MAX_PICTURE_BYTES = 450_000
# What the command line puts on a page: a hundred megabytes, in memory as on disk, and about what a browser still opens.
MOST = 1000
THUMBNAIL = 96


@dataclass(frozen=True)
class Detail:
    """How much of each picture a page holds: the longer side of the picture, and how many fingerprints."""

    side: int
    fingerprints: int

    @staticmethod
    def of(pictures: int) -> Detail:
        """Less of each, the more there are, so that a page of hundreds still opens."""
        if pictures == 1:
            return Detail(1024, 8)
        return Detail(640, 4) if pictures <= 12 else Detail(320, 1)


@dataclass(frozen=True)
class Window:
    """A window on the picture, or the whole of it, in its pixels, with its score and the kind of that score."""

    number: int
    left: int
    top: int
    width: int
    height: int
    score: float
    kind: str


@dataclass(frozen=True)
class Range:
    """A continuous parameter's answer and the places of its interval on the range, 0 to 1."""

    name: str
    unit: str
    answer: Interval
    low: float
    high: float
    value: float
    ends: tuple[int, int]


@dataclass(frozen=True)
class Entry:
    """All that the page shows of one picture; pictures are data URIs."""

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


class Page:
    """A page of reports, filled picture by picture: what is kept of each is small.

    Args:
        bundle: what made the reports.
        expected: how many pictures are to come; it decides how much of each is kept.

    Raises:
        BundleError: the bundle does not tell camera from generated, which is what the page is about.
    """

    def __init__(self, bundle: Bundle, expected: int) -> None:
        if bundle.calibration is None or not {"generated", "attribution"} & set(bundle.outputs):
            raise BundleError(
                f"bundle {bundle.label} does not tell camera from generated: there is no page, but --json"
            )
        self._bundle, self._calibration = bundle, bundle.calibration
        self._detail = Detail.of(expected)
        self._entries: list[Entry] = []

    def add(self, report: Report, look: Look | None) -> None:
        """Add a picture; `look` is None for one that could not be read."""
        number = len(self._entries) + 1
        if look is None:
            self._entries.append(Entry(number, report, None, None, None, (), (), None, (), ()))
            return
        fingerprints = look.fingerprint
        architecture = report.architecture or {}
        self._entries.append(
            Entry(
                number=number,
                report=report,
                reason=words.reason(report, self._calibration),
                picture=_jpeg(look.pixels, self._detail.side),
                thumbnail=_jpeg(look.pixels, THUMBNAIL),
                windows=tuple(self._windows(look)),
                fingerprints=tuple(
                    _uri("png", render.png(render.fingerprint_picture(f)))
                    for f in fingerprints[: self._detail.fingerprints]
                ),
                spectrum=_uri("png", render.png(render.spectrum_picture(fingerprints)[:, :, 0])),
                ranges=tuple(
                    _range(parameter, answer)
                    for parameter in self._bundle.continuous
                    if isinstance(answer := architecture.get(parameter.name), Interval)
                ),
                choices=tuple((name, answer) for name, answer in architecture.items() if isinstance(answer, Choice)),
            )
        )

    def _windows(self, look: Look) -> list[Window]:
        height, width = look.pixels.shape[:2]
        calibration, whole, size = self._calibration, self._bundle.framing == "resize", self._bundle.window
        return [
            Window(
                number,
                left,
                top,
                width if whole else min(size, width - left),
                height if whole else min(size, height - top),
                score,
                "generated"
                if score >= calibration.generated
                else "camera"
                if score < calibration.camera
                else "inconclusive",
            )
            for number, ((top, left), score) in enumerate(zip(look.corners, look.scores, strict=True), 1)
        ]

    def render(self, asked: int | None = None) -> str:
        """The page as HTML; `asked` is how many pictures there should have been, where the run was ended early."""
        template = _environment().get_template("report.html.j2")
        style, script = _text("report.css"), _text("report.js")
        return template.render(
            entries=self._entries,
            asked=asked or len(self._entries),
            bundle=self._bundle,
            calibration=self._calibration,
            hint=words.hint(self._bundle),
            json=[entry.report.to_json() for entry in self._entries],
            inside=any(name in self._bundle.outputs for name in _inside(self._bundle)),
            measure="probability" if "attribution" in self._bundle.outputs else "similarity",
            not_meant=[
                sentence
                for sentence in words.NOT_MEANT
                if sentence != words.NO_MAP or self._bundle.framing == "windows"
            ],
            verdicts=words.VERDICTS,
            version=__version__,
            style=style,
            script=script,
            style_hash=_csp_hash(style),
            script_hash=_csp_hash(script),
        )


def matrix_svg(done: Comparison) -> str:
    """The probabilities of all pairs as an SVG picture, the pictures in the order of their groups."""
    order = [i for members in done.groups or () for i in members]
    order += [i for i in range(len(done.pictures)) if i not in order]
    return (
        _environment()
        .get_template("matrix.svg.j2")
        .render(
            # XML has no place for control characters, which a name may have.
            pictures=[replace(done.pictures[i], source=printable(done.pictures[i].source or "")) for i in order],
            cells=done.matrix()[np.ix_(order, order)].tolist(),
            threshold=done.threshold,
            bundle=done.bundle,
        )
    )


def _inside(bundle: Bundle) -> list[str]:
    """The outputs that say what a generator is like inside; not every bundle has one."""
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
        loader=FileSystemLoader(_folder()),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["count"] = words.count
    environment.filters["spoken"] = lambda name: name.replace("_", " ")
    environment.filters["base"] = lambda source: Path(source).name if source else "(no name)"
    environment.tests["known"] = lambda value: value is not None and value == value
    return environment


def _folder() -> Path:
    return Path(str(resources.files("edgeparse"))) / "templates"


def _text(name: str) -> str:
    return (_folder() / name).read_text(encoding="utf-8")


def _csp_hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _jpeg(pixels: NDArray[np.uint8], side: int) -> str:
    """uint8[H, W, 3], made smaller where a side is longer; of a noisy picture, the quality gives way before the size does."""
    from PIL import Image

    image: Any = Image.fromarray(pixels)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    for quality in (84, 70, 55, 40):
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality, optimize=True)
        if buffer.tell() <= MAX_PICTURE_BYTES:
            break
    return _uri("jpeg", buffer.getvalue())
