"""The one object an app holds."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from os import PathLike
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgeparse import images, readout, windows
from edgeparse.backends.select import create
from edgeparse.bundle import Bundle, open_bundle
from edgeparse.errors import BundleError, ImageError
from edgeparse.gallery import Gallery
from edgeparse.report import Failure, GeneratorAnswer, ImageInfo, Report, Timing

if TYPE_CHECKING:
    from edgeparse.images import Source


class Parser:
    """Reads pictures and answers. One instance serves many threads, with the same answers as alone.

    Args:
        bundle: a bundle's folder; by default the one in the package.
        backend: "auto" or a name of `edgeparse.backends.select.NAMES`.
        windows: most windows looked at in a picture; more are slower and steadier.
        variant: the precision to run ("fp32", "fp16", "int8"); by default the best for the backend.
        threads: threads of one run; by default all cores that this process may use.

    Raises:
        BundleError: the bundle is missing, damaged or of another schema.
        BackendError: the backend cannot run here.
        ValueError: `windows` is below 1.
    """

    def __init__(
        self,
        bundle: str | PathLike[str] | None = None,
        backend: str = "auto",
        windows: int = 8,
        variant: str | None = None,
        threads: int | None = None,
    ) -> None:
        if windows < 1:
            raise ValueError(f"windows is {windows}; at least 1 is needed")
        self._bundle = open_bundle(None if bundle is None else str(bundle))
        self._gallery = (
            Gallery.load(self._bundle.read(self._bundle.gallery))
            if self._bundle.gallery
            else Gallery((), np.empty((0, 0), np.float32))
        )
        self._backend = create(backend, self._bundle, variant, threads)
        self._windows = windows
        self._outputs = [name for name in self._bundle.outputs if name != "fingerprint"]

    @property
    def bundle(self) -> Bundle:
        """The opened bundle."""
        return self._bundle

    @property
    def backend(self) -> str:
        """The name of the backend that was chosen, as in reports."""
        return self._backend.name

    def parse(self, source: Source) -> Report:
        """The report about one picture: a path, bytes, a file object, a PIL image, or uint8[H, W, 3] in RGB.

        Raises:
            ImageError: the picture cannot be read.
            BackendError: the inference library failed.
        """
        begun = time.perf_counter()
        picture = images.read(source)
        cut = self._cut(picture.pixels)
        read = time.perf_counter()
        outputs = self._backend.run(cut.pixels, self._outputs)
        inferred = time.perf_counter()
        reading = readout.aggregate(outputs, self._bundle)
        camera = reading.verdict == "camera"
        generator = None if camera else reading.generator or self._identify(reading.embedding)
        done = time.perf_counter()
        return Report(
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
        if "fingerprint" not in self._bundle.outputs:
            raise BundleError(
                f"bundle {self._bundle.label} has no fingerprint; it answers {', '.join(self._bundle.outputs)}"
            )
        cut = self._cut(images.read(source).pixels)
        return self._backend.run(cut.pixels, ["fingerprint"])["fingerprint"]

    def _cut(self, pixels: NDArray[np.uint8]) -> windows.Windows:
        size = self._bundle.window
        return (
            windows.whole(pixels, size)
            if self._bundle.framing == "resize"
            else windows.cut(pixels, self._windows, size)
        )

    def _identify(self, embedding: NDArray[np.float32] | None) -> GeneratorAnswer | None:
        if embedding is None or self._bundle.calibration is None:
            return None
        matches = self._gallery.nearest(embedding, readout.CANDIDATES)
        if not matches:
            return None
        known = matches[0].score >= self._bundle.calibration.known
        return GeneratorAnswer(
            name=matches[0].name if known else None,
            known=known,
            score=matches[0].score,
            candidates=matches,
        )
