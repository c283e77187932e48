"""The one object an app holds."""

from __future__ import annotations

import operator
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgeparse import images, readout, windows
from edgeparse.backends.base import Backend, Shaped
from edgeparse.backends.select import create
from edgeparse.budget import TimeBudget
from edgeparse.bundle import Bundle, open_bundle
from edgeparse.compare import Comparison, compare
from edgeparse.enrolment import Store
from edgeparse.errors import BundleError, ImageError
from edgeparse.gallery import Gallery, identify
from edgeparse.report import Failure, GeneratorAnswer, ImageInfo, Report, Timing
from edgeparse.windows import GRID

if TYPE_CHECKING:
    from edgeparse.images import Source

# As many places as a window is cut from.
MAX_WINDOWS = GRID**2


@dataclass(frozen=True)
class Look:
    """A report and what it was made from.

    Attributes:
        report: the answer, as `parse` gives it.
        pixels: the picture, uint8[H, W, 3], RGB.
        corners: where each window begins, (top, left), in pixels; a window has the bundle's `window` pixels along each side. Of a
            bundle whose `framing` is "resize" there is one, the whole picture.
        scores: each window's own calibrated score, 0 (camera) to 1 (generated); the report's probability rests on all of them.
            Empty where the bundle does not tell the two apart.
        embedding: float32[D], unit length; the cosine of two embeddings says how alike their generators are. None where the bundle
            has none.
        fingerprint: float32[N, 3, S, S], a window each, S the bundle's `window`: 128 in the default bundle.
    """

    report: Report
    pixels: NDArray[np.uint8]
    corners: tuple[tuple[int, int], ...]
    scores: tuple[float, ...]
    embedding: NDArray[np.float32] | None
    fingerprint: NDArray[np.float32]


@dataclass(frozen=True)
class _Seen:
    """A report, what was looked at, and what the network said of it."""

    report: Report
    picture: images.Picture
    corners: tuple[tuple[int, int], ...]
    outputs: readout.Outputs
    embedding: NDArray[np.float32] | None


class Parser:
    """Reads pictures and answers. One instance serves many threads, with the same answers as alone.

    Args:
        bundle: a bundle's folder; by default the one in the package.
        backend: "auto" or a name of `edgeparse.backends.select.NAMES`.
        windows: most windows looked at in a picture, 1 to 64; more are slower and steadier.
        variant: the precision to run ("fp32", "fp16", "int8"); by default the best for the backend.
        threads: threads of one run; by default all cores that this process may use.
        time_budget_ms: what a picture may take, reading included: as many windows are looked at as fit, at least one and at most
            `windows`. Answers then depend on how fast the machine is. Without it the count depends on the picture alone.
        gallery: a folder of enrolled generators, as `edgeparse gallery` keeps them (`edgeparse.enrolment.user_folder()` is the
            user's); they are named besides the bundle's own. By default only the bundle's own.

    Raises:
        BundleError: the bundle is missing, damaged or of another schema.
        BackendError: the backend cannot run here.
        GalleryError: the enrolled generators cannot be read.
        TypeError: `windows` or `threads` is no whole number.
        ValueError: `windows` is below 1 or above 64, `threads` below 1, or `time_budget_ms` not above 0.
    """

    def __init__(
        self,
        bundle: str | PathLike[str] | None = None,
        backend: str = "auto",
        windows: int = 8,
        variant: str | None = None,
        threads: int | None = None,
        time_budget_ms: float | None = None,
        gallery: str | PathLike[str] | None = None,
    ) -> None:
        windows = operator.index(windows)
        if not 1 <= windows <= MAX_WINDOWS:
            raise ValueError(f"windows is {windows}; take 1 to {MAX_WINDOWS}: of no picture are more looked at")
        if threads is not None and operator.index(threads) < 1:
            raise ValueError(f"threads is {threads}; take 1 or more, or None for all cores")
        self._bundle = open_bundle(None if bundle is None else os.fspath(bundle))
        own = Gallery.load(self._bundle.read(self._bundle.gallery)) if self._bundle.gallery else Gallery.empty()
        enrolled = Store(Path(gallery), self._bundle).gallery() if gallery is not None else Gallery.empty()
        self._gallery, self._enrolled = enrolled.over(own), frozenset(enrolled.names)
        self._backend = create(backend, self._bundle, variant, threads)
        if isinstance(self._backend, Shaped):
            self._bundle.must_fit(self._backend.shapes, own.width)
        self._windows = windows
        self._budget = TimeBudget(time_budget_ms, windows) if time_budget_ms is not None else None
        # Of a bundle that has nothing else, the fingerprint: to ask for nothing is to ask a library for all, or is an error.
        self._outputs = [name for name in self._bundle.outputs if name != "fingerprint"] or ["fingerprint"]
        if self._budget is not None:
            self.warm_up()

    @property
    def bundle(self) -> Bundle:
        """The opened bundle."""
        return self._bundle

    @property
    def backend(self) -> str:
        """The name of the backend that was chosen, as in reports."""
        return self._backend.name

    @property
    def network(self) -> Backend:
        """The loaded network, for raw outputs and for measuring it alone."""
        return self._backend

    @property
    def gallery(self) -> Gallery:
        """Every generator that can be named: the enrolled ones and the bundle's own."""
        return self._gallery

    @property
    def enrolled(self) -> frozenset[str]:
        """Which of the gallery's names are enrolled ones."""
        return self._enrolled

    def warm_up(self) -> None:
        """Run the network before the first picture, which would else wait for the library to allocate and plan.

        With a time budget this also measures what windows cost; the constructor has then done it.

        Raises:
            BackendError: the inference library failed.
        """
        size = self._bundle.window
        for count in (1, self._windows, self._windows):
            begun = time.perf_counter()
            self._backend.run(np.zeros((count, size, size, 3), np.uint8), self._outputs)
            taken = (time.perf_counter() - begun) * 1e3
        if self._budget is not None:
            self._budget.observe(self._windows, taken)

    def parse(self, source: Source, candidates: int = readout.CANDIDATES) -> Report:
        """The report about one picture.

        Args:
            source: a path, bytes, a file object, a PIL image, or uint8[H, W, 3] in RGB.
            candidates: how many of the nearest known generators it lists.

        Raises:
            ImageError: the picture cannot be read.
            BackendError: the inference library failed.
        """
        return self._see(source, self._outputs, candidates).report

    def look(self, source: Source, candidates: int = readout.CANDIDATES) -> Look:
        """The report about one picture with its windows, their scores, fingerprints and the embedding; arguments and errors as `parse`."""
        self._must_answer("fingerprint")
        seen = self._see(source, list(dict.fromkeys(["fingerprint", *self._outputs])), candidates)
        readout.must_be_finite({"fingerprint": seen.outputs["fingerprint"]}, self.backend)
        scores = readout.scores(seen.outputs, self._bundle)
        with _enough_memory():
            # A camera loop writes its next frame into the same array.
            pixels = seen.picture.pixels.copy() if isinstance(source, np.ndarray) else seen.picture.pixels
        return Look(seen.report, pixels, seen.corners, scores, seen.embedding, seen.outputs["fingerprint"])

    def _see(self, source: Source, names: list[str], candidates: int) -> _Seen:
        begun = time.perf_counter()
        picture = images.read(source)
        opened = time.perf_counter()
        count = self._budget.windows((opened - begun) * 1e3) if self._budget is not None else self._windows
        cut = self._cut(picture, count)
        read = time.perf_counter()
        outputs = self._backend.run(cut.pixels, names)
        inferred = time.perf_counter()
        reading = readout.aggregate(outputs, self._bundle, self.backend, candidates)
        camera = reading.verdict == "camera"
        generator = None if camera else reading.generator or self._identify(reading.embedding, candidates)
        done = time.perf_counter()
        if self._budget is not None:
            self._budget.observe(len(cut.pixels), (done - opened) * 1e3)
        report = Report(
            source=images.name_of(source),
            status="ok",
            error=None,
            image=ImageInfo(picture.width, picture.height, picture.format),
            verdict=reading.verdict,
            probability_generated=reading.probability_generated,
            generator=generator,
            family=None if camera else reading.family,
            architecture=None if camera else reading.architecture,
            losses=None if camera else reading.losses,
            windows=len(cut.pixels),
            backend=self.backend,
            bundle=self._bundle.label,
            timing_ms=Timing((read - begun) * 1e3, (inferred - read) * 1e3, (done - begun) * 1e3),
        )
        return _Seen(report, picture, cut.corners, outputs, reading.embedding)

    def parse_many(self, sources: Iterable[Source]) -> Iterator[Report]:
        """A report a picture, in order, as each is done; one that cannot be read gives `status` "error" and the run goes on.

        Raises:
            BackendError: the inference library failed.
        """
        for source in sources:
            try:
                yield self.parse(source)
            except ImageError as error:
                yield self.failure(source, error)

    def failure(self, source: Source, error: ImageError) -> Report:
        """The report about a picture that could not be read."""
        nothing = dict.fromkeys(
            (
                "image",
                "verdict",
                "probability_generated",
                "generator",
                "family",
                "architecture",
                "losses",
                "windows",
                "timing_ms",
            )
        )
        return Report(
            source=images.name_of(source),
            status="error",
            error=Failure(error.kind, str(error)),
            backend=self.backend,
            bundle=self._bundle.label,
            **nothing,
        )

    def fingerprint(self, source: Source) -> NDArray[np.float32]:
        """The fingerprints of a picture's windows, float32[N, 3, S, S].

        Raises:
            BundleError: the bundle has no fingerprint.
            ImageError: the picture cannot be read.
            BackendError: the inference library failed.
        """
        self._must_answer("fingerprint")
        cut = self._cut(images.read(source), self._windows)
        outputs = self._backend.run(cut.pixels, ["fingerprint"])
        readout.must_be_finite(outputs, self.backend)
        return outputs["fingerprint"]

    def embed(self, source: Source) -> tuple[Report, NDArray[np.float32]]:
        """The report and the embedding, float32[D], unit length, that enrolling and comparing rest on.

        Raises:
            BundleError: the bundle has no embedding.
            ImageError: the picture cannot be read.
            BackendError: the inference library failed.
        """
        self._must_answer("embedding")
        seen = self._see(source, self._outputs, readout.CANDIDATES)
        assert seen.embedding is not None
        return seen.report, seen.embedding

    def compare(self, sources: Iterable[Source]) -> Comparison:
        """How probable it is that one generator made two pictures, for every pair, and the groups that follow.

        The probability holds where generators made both and a common one is as likely beforehand as two. A picture that cannot be
        read, or that looks like a camera photo, is not comparable, and its pairs say so.

        Raises:
            BundleError: the bundle has no calibration for comparing.
            BackendError: the inference library failed.
            ValueError: fewer than two pictures.
        """
        if self._bundle.same is None:
            raise BundleError(
                f"bundle {self._bundle.label} has no calibration for comparing; export it again, or name another with --bundle"
            )
        reports: list[Report] = []
        embeddings: list[NDArray[np.float32] | None] = []
        for source in sources:
            try:
                report, embedding = self.embed(source)
            except ImageError as error:
                reports.append(self.failure(source, error))
                embeddings.append(None)
            else:
                reports.append(report)
                embeddings.append(embedding)
        return compare(reports, embeddings, self._bundle.same)

    def _must_answer(self, output: str) -> None:
        if output not in self._bundle.outputs:
            raise BundleError(
                f"bundle {self._bundle.label} has no {output}; it answers {', '.join(self._bundle.outputs)}"
            )

    def _cut(self, picture: images.Picture, count: int) -> windows.Windows:
        size = self._bundle.window
        with _enough_memory():
            if self._bundle.framing == "resize":
                return windows.whole(picture.pixels, size)
            if min(picture.width, picture.height) < windows.smallest(size):
                raise ImageError(
                    "unsupported",
                    f"the picture is {picture.width}x{picture.height} pixels, too small to tell: {windows.smallest(size)} on each side are "
                    "needed; find it in the size that it was made in",
                )
            return windows.cut(picture, count, size)

    def _identify(self, embedding: NDArray[np.float32] | None, candidates: int) -> GeneratorAnswer | None:
        calibration = self._bundle.calibration
        if embedding is None or calibration is None:
            return None
        return identify(embedding, self._gallery, self._enrolled, calibration, candidates)


@contextmanager
def _enough_memory() -> Iterator[None]:
    """A picture that needs more memory than there is could not be read, and the run goes on."""
    try:
        yield
    except MemoryError as error:
        raise images.needs_memory() from error
