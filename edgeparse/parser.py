"""`Parser`: the one object that an app holds."""

from __future__ import annotations

import operator
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgeparse import images, postprocess
from edgeparse.backends.base import Backend, Shaped, Timed
from edgeparse.backends.select import create
from edgeparse.bundle import Bundle, open_bundle
from edgeparse.compare import Comparison, compare
from edgeparse.content import photographic
from edgeparse.errors import BundleError, ImageError
from edgeparse.gallery import Gallery, identify
from edgeparse.gallery_store import GalleryStore
from edgeparse.report import Failure, GeneratorAnswer, ImageInfo, Reason, Report, Timing, Verdict
from edgeparse.windows import GRID, TimeBudget, Windows, frame

if TYPE_CHECKING:
    from edgeparse.images import Source
    from edgeparse.provenance import Conclusion, Evidence
    from edgeparse.video.frames import ClipSource, VideoLimits
    from edgeparse.video.report import VideoInspection, VideoReport

# The window grid has this many positions.
MAX_WINDOWS = GRID**2
# Stages of one report, in order.
STAGES = ("decode", "windows", "network", "postprocess")


@dataclass(frozen=True)
class Inspection:
    """A report with the data it is based on.

    Attributes:
        report: the report, as `Parser.parse` returns it.
        pixels: the image, uint8[H, W, 3], RGB.
        corners: (top, left) of each window in pixels. A window's side is the bundle's `window`; if the bundle's `framing` is
            "resize", the single window is the whole image.
        scores: calibrated score of each window, 0 (camera) to 1 (generated). The report's probability uses all windows. Empty
            if the bundle does not separate camera from generated.
        embedding: float32[D] of unit length, or None if the bundle has no embedding. The cosine of two embeddings measures how
            similar their generators are.
        fingerprint: float32[N, 3, S, S], one per window; S is the bundle's `window`.
    """

    report: Report
    pixels: NDArray[np.uint8]
    corners: tuple[tuple[int, int], ...]
    scores: tuple[float, ...]
    embedding: NDArray[np.float32] | None
    fingerprint: NDArray[np.float32]


@dataclass
class _StageTimer:
    """Milliseconds of each stage. `detailed` asks the backend for the parts of a run as well, which slows it down."""

    detailed: bool = False
    spent: dict[str, float] = field(default_factory=dict)
    _last: float = field(default_factory=time.perf_counter)

    def lap(self, stage: str) -> None:
        """Record the time since the previous lap."""
        now = time.perf_counter()
        self.spent[stage] = (now - self._last) * 1e3
        self._last = now


@dataclass(frozen=True)
class _Analysis:
    """A report and the intermediate results behind it."""

    report: Report
    picture: images.Picture
    corners: tuple[tuple[int, int], ...]
    outputs: postprocess.Outputs
    embedding: NDArray[np.float32] | None


class Parser:
    """Analyse images. One instance serves many threads.

    A parser pickles and copies as its settings: the copy opens the bundle again, so spawned workers can receive it.

    Args:
        bundle: folder of a bundle; by default the one in the package.
        backend: "auto", or one of `edgeparse.backends.select.NAMES`.
        windows: largest number of windows per image, 1 to 64. More windows are slower and more accurate.
        variant: precision to run ("fp32", "fp16", "int8"); by default the best for the backend.
        threads: threads per run; by default all cores that this process may use.
        time_budget_ms: time for one image, reading included. As many windows are used as fit, between 1 and `windows`, so that
            answers depend on the speed of the machine. By default the number depends on the image only.
        gallery: folder of enrolled generators (`edgeparse.gallery_store.user_gallery_folder()` is the user's). By default only
            the bundle's own generators are named.
        evidence: whether reports contain what a file says about its origin. It needs the encoded file: a path, bytes or a file
            object. It never changes the verdict and never fails an image.
        trust: trust anchors for content credentials as PEM text; by default no signer is trusted.

    Raises:
        BundleError: the bundle is missing, damaged or has another schema.
        BackendError: the backend cannot run here.
        GalleryError: the enrolled generators cannot be read.
        TypeError: `windows` or `threads` is not an integer.
        ValueError: `windows` is not in 1..64, `threads` is below 1, or `time_budget_ms` is not above 0.
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
        evidence: bool = True,
        trust: str | None = None,
    ) -> None:
        windows = operator.index(windows)
        if not 1 <= windows <= MAX_WINDOWS:
            raise ValueError(f"windows must be between 1 and {MAX_WINDOWS}, got {windows}")
        if threads is not None and operator.index(threads) < 1:
            raise ValueError(f"threads must be at least 1, got {threads}; use None for all cores")
        # Absolute, because the process that unpickles this may have another working directory.
        paths = [None if path is None else str(Path(path).absolute()) for path in (bundle, gallery)]
        self._settings = (paths[0], backend, windows, variant, threads, time_budget_ms, paths[1], evidence, trust)
        self._bundle = open_bundle(None if bundle is None else os.fspath(bundle))
        own = Gallery.load(self._bundle.read(self._bundle.gallery)) if self._bundle.gallery else Gallery.empty()
        enrolled = GalleryStore(Path(gallery), self._bundle).gallery() if gallery is not None else Gallery.empty()
        self._gallery, self._enrolled = enrolled.over(own), frozenset(enrolled.names)
        self._backend = create(backend, self._bundle, variant, threads)
        if isinstance(self._backend, Shaped):
            self._bundle.check_io(self._backend.shapes, own.width)
        self._windows = windows
        self._evidence, self._trust = evidence, trust
        self._budget = TimeBudget(time_budget_ms, windows) if time_budget_ms is not None else None
        # A bundle may have nothing but a fingerprint. An empty list of outputs would mean all of them, or be an error.
        self._outputs = [name for name in self._bundle.outputs if name != "fingerprint"] or ["fingerprint"]
        if self._budget is not None:
            self.warm_up()

    def __reduce__(self) -> tuple[type[Parser], tuple[object, ...]]:
        return type(self), self._settings

    @property
    def bundle(self) -> Bundle:
        """The opened bundle."""
        return self._bundle

    @property
    def backend(self) -> str:
        """Name of the backend that runs, as in reports."""
        return self._backend.name

    @property
    def network(self) -> Backend:
        """The loaded network, for raw outputs and benchmarks."""
        return self._backend

    @property
    def gallery(self) -> Gallery:
        """All generators that can be named: the enrolled ones and the bundle's own."""
        return self._gallery

    @property
    def enrolled(self) -> frozenset[str]:
        """Names in the gallery that the user enrolled."""
        return self._enrolled

    def warm_up(self) -> None:
        """Run the network once per batch size, so that the first image is not slower.

        With a time budget, this also measures the cost of a window; the constructor then calls it.

        Raises:
            BackendError: the inference library failed.
        """
        size = self._bundle.window
        for count in (1, self._windows, self._windows):
            start = time.perf_counter()
            self._backend.run(np.zeros((count, size, size, 3), np.uint8), self._outputs)
            elapsed = (time.perf_counter() - start) * 1e3
        if self._budget is not None:
            self._budget.observe(self._windows, elapsed)

    def parse(self, source: Source, candidates: int = postprocess.CANDIDATES) -> Report:
        """Analyse one image.

        Args:
            source: a path, bytes, a binary file object, a PIL image, or uint8[H, W, 3] in RGB.
            candidates: number of nearest known generators to list.

        Raises:
            ImageError: the image cannot be read.
            BackendError: the inference library failed.
        """
        return self._analyse(source, self._outputs, candidates, _StageTimer(), self._evidence).report

    def inspect(self, source: Source, candidates: int = postprocess.CANDIDATES) -> Inspection:
        """Analyse one image and keep its pixels, windows, scores, fingerprint and embedding.

        Arguments and errors are those of `parse`.
        """
        self._require_output("fingerprint")
        analysis = self._analyse(
            source, list(dict.fromkeys(["fingerprint", *self._outputs])), candidates, _StageTimer(), self._evidence
        )
        postprocess.check_finite({"fingerprint": analysis.outputs["fingerprint"]}, self.backend)
        scores = postprocess.scores(analysis.outputs, self._bundle)
        try:
            # Copy an array: a camera loop writes the next frame into the same memory.
            pixels = analysis.picture.pixels.copy() if isinstance(source, np.ndarray) else analysis.picture.pixels
        except MemoryError as error:
            raise images.out_of_memory() from error
        return Inspection(
            analysis.report, pixels, analysis.corners, scores, analysis.embedding, analysis.outputs["fingerprint"]
        )

    def profile_stages(self, source: Source) -> dict[str, float]:
        """Analyse one image and return the milliseconds of each of `STAGES`.

        If the backend can separate transfers from computing, `backends.base.TRANSFERS` are included. Errors are those of
        `parse`.
        """
        timer = _StageTimer(detailed=True)
        self._analyse(source, self._outputs, postprocess.CANDIDATES, timer)
        return timer.spent

    def _prepare(
        self, source: Source, timer: _StageTimer, with_evidence: bool
    ) -> tuple[images.Picture, Windows, Evidence | None]:
        """Read and decode an image, read its evidence and cut its windows; an error carries the evidence."""
        loaded = images.load(source)
        evidence = None
        try:
            picture = images.decode(loaded)
            timer.lap("decode")
            if with_evidence:
                evidence = _read_evidence(loaded, picture, self._trust)
                timer.lap("evidence")
            count = self._budget.windows(sum(timer.spent.values())) if self._budget is not None else self._windows
            windows = frame(self._bundle, picture, count)
            timer.lap("windows")
        except ImageError as error:
            error.evidence = evidence
            if with_evidence and evidence is None:
                error.evidence = _read_evidence(loaded, None, self._trust)
            raise
        return picture, windows, evidence

    def _analyse(
        self, source: Source, names: list[str], candidates: int, timer: _StageTimer, with_evidence: bool = False
    ) -> _Analysis:
        picture, windows, evidence = self._prepare(source, timer, with_evidence)
        spent = timer.spent
        transfers: dict[str, float] = {}
        outputs: postprocess.Outputs
        if timer.detailed and isinstance(self._backend, Timed):
            outputs, transfers = self._backend.timed(windows.pixels, names)
        else:
            outputs = self._backend.run(windows.pixels, names)
        timer.lap("network")
        prediction, reason = self._predict(windows, outputs, candidates)
        # Neither a camera photo nor an image without content has a generator to describe.
        silent = prediction.verdict == "camera" or reason is not None
        generator = None if silent else prediction.generator or self._identify(prediction.embedding, candidates)
        timer.lap("postprocess")
        if self._budget is not None:
            after_decode = spent["windows"] + spent["network"] + spent["postprocess"]
            self._budget.observe(len(windows.pixels), after_decode)
        report = Report(
            source=images.source_name(source),
            status="ok",
            error=None,
            image=ImageInfo(picture.width, picture.height, picture.format),
            verdict=prediction.verdict,
            probability_generated=prediction.probability_generated,
            generator=generator,
            reason=reason,
            family=None if silent else prediction.family,
            architecture=None if silent else prediction.architecture,
            losses=None if silent else prediction.losses,
            windows=len(windows.pixels),
            backend=self.backend,
            bundle=self._bundle.label,
            timing_ms=Timing(spent["decode"] + spent["windows"], spent["network"], sum(spent.values())),
            evidence=evidence,
            conclusion=_conclude(evidence, prediction.verdict),
        )
        spent.update(transfers)
        return _Analysis(report, picture, windows.corners, outputs, prediction.embedding)

    def _predict(
        self, windows: Windows, outputs: postprocess.Outputs, candidates: int
    ) -> tuple[postprocess.Prediction, Reason | None]:
        """Aggregate the windows with photographic content; without any, the verdict is inconclusive for that reason."""
        whole = self._bundle.framing == "resize" or self._bundle.calibration is None
        kept = None if whole else photographic(windows.pixels)
        if kept is not None and kept.any() and not kept.all():
            outputs = {name: values[kept] for name, values in outputs.items()}
        prediction = postprocess.aggregate(outputs, self._bundle, self.backend, candidates)
        if kept is None or kept.any() or prediction.verdict is None:
            return prediction, None
        return replace(prediction, verdict="inconclusive", probability_generated=None), "no photographic content"

    def parse_many(self, sources: Iterable[Source]) -> Iterator[Report]:
        """Analyse images in order. An image that cannot be read yields a report with `status` "error".

        Raises:
            BackendError: the inference library failed.
        """
        for source in sources:
            try:
                yield self.parse(source)
            except ImageError as error:
                yield self.failure(source, error)

    def failure(self, source: Source, error: ImageError) -> Report:
        """Return the report about an image that could not be read."""
        return Report(
            source=images.source_name(source),
            status="error",
            error=Failure(error.kind, str(error)),
            image=None,
            verdict=None,
            probability_generated=None,
            reason=None,
            generator=None,
            family=None,
            architecture=None,
            losses=None,
            windows=None,
            backend=self.backend,
            bundle=self._bundle.label,
            timing_ms=None,
            evidence=error.evidence,
            conclusion=_conclude(error.evidence, None),
        )

    def parse_video(
        self, source: ClipSource, limits: VideoLimits | None = None, candidates: int = postprocess.CANDIDATES
    ) -> VideoReport:
        """Analyse a few frames of a clip, and return one report. Needs the extra `video`.

        Args:
            source: a path, bytes, or a binary file object.
            limits: number of frames and time; by default 24 frames.
            candidates: number of nearest known generators to list.

        Raises:
            ImageError: the clip cannot be read, or PyAV is not installed.
            BackendError: the inference library failed.
        """
        return self._analyse_video(source, limits, candidates, thumbnails=False).report

    def inspect_video(
        self, source: ClipSource, limits: VideoLimits | None = None, candidates: int = postprocess.CANDIDATES
    ) -> VideoInspection:
        """Analyse a clip and keep a thumbnail of each analysed frame.

        Arguments and errors are those of `parse_video`.
        """
        return self._analyse_video(source, limits, candidates, thumbnails=True)

    def _analyse_video(
        self, source: ClipSource, limits: VideoLimits | None, candidates: int, thumbnails: bool
    ) -> VideoInspection:
        from edgeparse.video.analysis import analyse
        from edgeparse.video.frames import VideoLimits

        return analyse(
            source,
            self._bundle,
            self._backend,
            windows=self._windows,
            limits=limits or VideoLimits(),
            candidates=candidates,
            identify=lambda embedding: self._identify(embedding, candidates),
            thumbnails=thumbnails,
            evidence=self._evidence,
            trust=self._trust,
        )

    def video_failure(self, source: ClipSource, error: ImageError) -> VideoReport:
        """Return the report about a clip that could not be read."""
        from edgeparse.video.analysis import failure

        return failure(source, error, self._bundle, self.backend)

    def fingerprint(self, source: Source) -> NDArray[np.float32]:
        """Return the fingerprint of each window, float32[N, 3, S, S]; S is the bundle's `window`.

        Raises:
            BundleError: the bundle has no fingerprint.
            ImageError: the image cannot be read.
            BackendError: the inference library failed.
        """
        self._require_output("fingerprint")
        windows = frame(self._bundle, images.read(source), self._windows)
        outputs = self._backend.run(windows.pixels, ["fingerprint"])
        postprocess.check_finite(outputs, self.backend)
        return outputs["fingerprint"]

    def embed(self, source: Source) -> tuple[Report, NDArray[np.float32]]:
        """Return the report and the embedding, float32[D] of unit length, for enrolling and comparing.

        Raises:
            BundleError: the bundle has no embedding.
            ImageError: the image cannot be read.
            BackendError: the inference library failed.
        """
        self._require_output("embedding")
        analysis = self._analyse(source, self._outputs, postprocess.CANDIDATES, _StageTimer())
        assert analysis.embedding is not None
        return analysis.report, analysis.embedding

    def compare(self, sources: Iterable[Source]) -> Comparison:
        """Return for every pair of images the probability that one generator made both, and the resulting groups.

        The probability assumes that generators made both images, and equal prior odds. Images that cannot be read or look like
        camera photos are not comparable; their pairs state the reason.

        Raises:
            BundleError: the bundle is not calibrated for comparing.
            BackendError: the inference library failed.
            ValueError: there are fewer than two images.
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

    def _require_output(self, output: str) -> None:
        if output not in self._bundle.outputs:
            raise BundleError(
                f"bundle {self._bundle.label} has no output {output}, only {', '.join(self._bundle.outputs)}; use another bundle"
            )

    def _identify(self, embedding: NDArray[np.float32] | None, candidates: int) -> GeneratorAnswer | None:
        calibration = self._bundle.calibration
        if embedding is None or calibration is None:
            return None
        return identify(embedding, self._gallery, self._enrolled, calibration, candidates)


def _read_evidence(loaded: object, picture: images.Picture | None, trust: str | None) -> Evidence | None:
    """Return what an encoded file says about its origin, or None for an array or a PIL image."""
    if not isinstance(loaded, bytes):
        return None
    # Imported here, so that arrays do not pay for it.
    from edgeparse import provenance

    return provenance.read(loaded, pixels=picture, decode=False, trust=trust)


def _conclude(evidence: Evidence | None, verdict: Verdict | None) -> Conclusion | None:
    if evidence is None:
        return None
    from edgeparse import provenance

    return provenance.conclude(evidence, verdict)
