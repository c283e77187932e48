"""Known generators: one unit vector each, and the decision which of them, if any, made an image."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeparse.errors import BundleError, GalleryError
from edgeparse.manifest import Calibration, is_name
from edgeparse.postprocess import generator_answer, unit
from edgeparse.report import Candidate, GeneratorAnswer

# The cohort similarity is the mean over this many nearest cohort vectors.
NEAREST = 3
# Largest unpacked size of a gallery archive.
MAX_BYTES = 256 * 1024 * 1024
# Largest deviation of a unit vector's length from 1.
UNIT_TOLERANCE = 1e-3


def _empty() -> NDArray[np.float32]:
    return np.empty((0, 0), np.float32)


def centroid(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a generator's vector, float32[D]: the normalised mean of its images' unit vectors, float32[P, D]."""
    return unit(vectors.mean(axis=0, dtype=np.float32))


@dataclass(frozen=True)
class Gallery:
    """Known generators and a cohort for score normalisation.

    Attributes:
        names: names of the generators, K.
        vectors: their unit vectors, float32[K, D].
        cohort: unit vectors of training generators, float32[B, D]. They are never named; they show how close an unrelated
            generator comes to an image.
    """

    names: tuple[str, ...]
    vectors: NDArray[np.float32]
    cohort: NDArray[np.float32] = field(default_factory=_empty)

    @staticmethod
    def empty() -> Gallery:
        """Return a gallery without generators."""
        return Gallery((), _empty())

    @staticmethod
    def load(data: bytes) -> Gallery:
        """Read the bytes of a `gallery.npz` with `names`, `vectors` and optionally `cohort`.

        Raises:
            BundleError: the data is not such an archive.
        """
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                check_unpacked_size(archive, MAX_BYTES)
            with np.load(io.BytesIO(data), allow_pickle=False) as file:
                cohort = file["cohort"] if "cohort" in file else _empty()
                return _validated(file["names"], file["vectors"], cohort)
        except Exception as error:  # zipfile, zlib and NumPy raise a dozen unrelated classes on forged archives
            raise BundleError(
                f"the gallery must be an archive of names and vectors: {str(error) or type(error).__name__}; export the bundle "
                "again"
            ) from error

    @property
    def width(self) -> int | None:
        """Dimension D of the vectors, or None if there are none."""
        return next((int(array.shape[1]) for array in (self.vectors, self.cohort) if len(array)), None)

    def save(self, file: io.BufferedIOBase) -> None:
        """Write the archive that `load` reads."""
        # Half precision changes a similarity by less than the printed digits.
        cohort = self.cohort.astype(np.float16)
        np.savez_compressed(file, names=np.array(self.names), vectors=self.vectors, cohort=cohort)

    def over(self, base: Gallery) -> Gallery:
        """Merge this gallery over another; for a shared name this one's vector is used. The cohort is that of `base`.

        Raises:
            GalleryError: the vectors have different dimensions.
        """
        if not self.names or not base.names:
            top = self if self.names else base
            return Gallery(top.names, top.vectors, base.cohort)
        if self.vectors.shape[1] != base.vectors.shape[1]:
            raise GalleryError(
                f"enrolled embeddings must have {base.vectors.shape[1]} dimensions like the bundle's, got "
                f"{self.vectors.shape[1]}; enrol the generators again with this bundle"
            )
        kept = [i for i, name in enumerate(base.names) if name not in self.names]
        return Gallery(
            self.names + tuple(base.names[i] for i in kept),
            np.concatenate([self.vectors, base.vectors[kept]]),
            base.cohort,
        )

    def nearest(self, embedding: NDArray[np.float32], count: int) -> list[tuple[str, float]]:
        """Return the `count` generators most similar to a unit vector, float32[D], with their similarities, best first."""
        similarity = self.similarity(embedding)
        return [(self.names[i], float(similarity[i])) for i in np.argsort(-similarity, kind="stable")[:count]]

    def similarity(self, embedding: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the cosine similarity of each generator to a unit vector, float32[D] -> float32[K]."""
        return self.vectors @ embedding if self.names else np.empty(0, np.float32)


def check_unpacked_size(archive: zipfile.ZipFile, limit: int) -> None:
    """Check the unpacked size of an archive before anything is unpacked.

    Raises:
        ValueError: it exceeds `limit` bytes.
    """
    size = sum(member.file_size for member in archive.infolist())
    if size > limit:
        raise ValueError(f"it must unpack to at most {limit // 2**20} MiB, got {size / 2**20:.0f} MiB")


def has_unit_length(vectors: NDArray[np.float32]) -> bool:
    """Return whether every row of float32[P, D] has length 1; False for NaN."""
    return bool((np.abs(np.linalg.norm(vectors, axis=1) - 1) <= UNIT_TOLERANCE).all())


def _validated(names: NDArray[Any], vectors: NDArray[Any], cohort: NDArray[Any]) -> Gallery:
    """Check the arrays of a gallery.

    Raises:
        ValueError: an array is invalid.
    """
    texts = tuple(map(str, names.tolist()))
    # An empty array of names has no text dtype.
    if names.ndim != 1 or (texts and names.dtype.kind != "U") or vectors.dtype.kind != "f" or cohort.dtype.kind != "f":
        raise ValueError(
            f"names must be texts and vectors floats, got {names.dtype}{list(names.shape)}, {vectors.dtype} and {cohort.dtype}"
        )
    if vectors.ndim != 2 or len(texts) != len(vectors):
        raise ValueError(f"vectors must have the shape [{len(texts)}, D], got {list(vectors.shape)}")
    cohort = np.atleast_2d(cohort)
    if len(cohort) and cohort.shape[1:] != vectors.shape[1:]:
        raise ValueError(f"the cohort must have vectors of dimension {vectors.shape[1]}, got {list(cohort.shape)}")
    for name in texts:
        if not is_name(name):
            raise ValueError(f"a name must be printable text, got {name!r}")
    if len(set(texts)) < len(texts):
        raise ValueError("names must be distinct")
    gallery = Gallery(texts, vectors.astype(np.float32), cohort.astype(np.float32))
    if not (has_unit_length(gallery.vectors) and has_unit_length(gallery.cohort)):
        raise ValueError("every vector must have unit length")
    return gallery


def identify(
    embedding: NDArray[np.float32],
    gallery: Gallery,
    enrolled: Collection[str],
    calibration: Calibration,
    candidates: int,
) -> GeneratorAnswer | None:
    """Find the known generator that made an image.

    Candidates are ranked by similarity minus threshold, because enrolled generators have a threshold of their own.

    Args:
        embedding: unit vector of the image, float32[D].
        gallery: the known generators.
        enrolled: names that the user enrolled.
        calibration: the bundle's thresholds.
        candidates: number of generators to list.

    Returns:
        The answer, or None if the gallery is empty.
    """
    cohort = float(cohort_similarity(gallery.cohort, embedding))
    known = (
        Candidate(name, float(similarity), calibration.threshold(name in enrolled, cohort))
        for name, similarity in zip(gallery.names, gallery.similarity(embedding), strict=True)
    )
    ranked = sorted(known, key=lambda candidate: candidate.threshold - candidate.score)
    return generator_answer(ranked, candidates) if ranked else None


def cohort_similarity(cohort: NDArray[np.float32], embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return how close unrelated generators come to an image: the mean similarity to the `NEAREST` cohort vectors.

    Images with few traces are close to many generators, so their threshold must be higher.

    Args:
        cohort: unit vectors, float32[B, D].
        embeddings: unit vectors, float32[..., D].

    Returns:
        float32[...]; zeros if the cohort is empty.
    """
    if not len(cohort):
        return np.zeros(embeddings.shape[:-1], np.float32)
    similarity = embeddings @ cohort.T
    nearest: NDArray[np.float32] = np.sort(similarity, axis=-1)[..., -NEAREST:].mean(axis=-1)
    return nearest
