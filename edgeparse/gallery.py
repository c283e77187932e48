"""Known generators: a unit vector each, which one made a picture by its embedding, and when none comes near enough to be named."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeparse.bundle import Calibration
from edgeparse.errors import BundleError, GalleryError
from edgeparse.readout import generator_answer, unit
from edgeparse.report import Candidate, GeneratorAnswer
from edgeparse.text import is_name

# So many of the background's vectors, the nearest ones, tell how near a generator usually comes to a picture.
NEAREST = 3
# What an archive of vectors may unpack to.
MAX_BYTES = 256 * 1024 * 1024
# How far from one a vector's length may be.
UNIT = 1e-3


def _nothing() -> NDArray[np.float32]:
    return np.empty((0, 0), np.float32)


def centre(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """What a generator is known by: the direction, float32[D], in which its pictures' unit vectors, float32[P, D], point together."""
    return unit(vectors.mean(axis=0, dtype=np.float32))


@dataclass(frozen=True)
class Gallery:
    """`names`[K] and their unit vectors, float32[K, D]. `background`, unit vectors float32[B, D], are of generators that the network learnt
    from: they tell what is usual, and none of them is named for it."""

    names: tuple[str, ...]
    vectors: NDArray[np.float32]
    background: NDArray[np.float32] = field(default_factory=_nothing)

    @staticmethod
    def empty() -> Gallery:
        """One that knows nobody."""
        return Gallery((), _nothing())

    @staticmethod
    def load(data: bytes) -> Gallery:
        """From the bytes of a `gallery.npz` with `names`, `vectors` and maybe `background`.

        Raises:
            BundleError: it is no such archive.
        """
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                must_be_small(archive, MAX_BYTES)
            with np.load(io.BytesIO(data), allow_pickle=False) as file:
                background = file["background"] if "background" in file else _nothing()
                return _checked(file["names"], file["vectors"], background)
        except Exception as error:  # zipfile, zlib and NumPy raise a dozen unrelated classes on forged archives
            raise BundleError(
                f"the gallery is not an archive of names and vectors: {str(error) or type(error).__name__}; export the bundle again"
            ) from error

    @property
    def width(self) -> int | None:
        """How many numbers a vector has; None where there is none."""
        return next((int(held.shape[1]) for held in (self.vectors, self.background) if len(held)), None)

    def save(self, file: io.BufferedIOBase) -> None:
        """Write the archive that `load` reads."""
        # Half precision moves a similarity by less than it is printed to.
        background = self.background.astype(np.float16)
        np.savez_compressed(file, names=np.array(self.names), vectors=self.vectors, background=background)

    def over(self, below: Gallery) -> Gallery:
        """Both together, before the background of `below`; where both know a name, this one's vector counts.

        Raises:
            GalleryError: their vectors have not equally many numbers.
        """
        if not self.names or not below.names:
            top = self if self.names else below
            return Gallery(top.names, top.vectors, below.background)
        if self.vectors.shape[1] != below.vectors.shape[1]:
            raise GalleryError(
                f"the enrolled generators have embeddings of {self.vectors.shape[1]} numbers, the bundle's have "
                f"{below.vectors.shape[1]}; enrol them again with this bundle"
            )
        kept = [i for i, name in enumerate(below.names) if name not in self.names]
        return Gallery(
            self.names + tuple(below.names[i] for i in kept),
            np.concatenate([self.vectors, below.vectors[kept]]),
            below.background,
        )

    def nearest(self, embedding: NDArray[np.float32], count: int) -> list[tuple[str, float]]:
        """The `count` most similar generators to a unit vector, float32[D], and their similarities, best first."""
        similarity = self.similarity(embedding)
        return [(self.names[i], float(similarity[i])) for i in np.argsort(-similarity, kind="stable")[:count]]

    def similarity(self, embedding: NDArray[np.float32]) -> NDArray[np.float32]:
        """Of every name to a unit vector, float32[D]: float32[K], -1 to 1."""
        return self.vectors @ embedding if self.names else np.empty(0, np.float32)


def must_be_small(archive: zipfile.ZipFile, most: int) -> None:
    """To be asked before anything is unpacked.

    Raises:
        ValueError: it would unpack to more than `most` bytes.
    """
    size = sum(member.file_size for member in archive.infolist())
    if size > most:
        raise ValueError(f"it unpacks to {size / 2**20:.0f} MiB; no gallery of embeddings is so large")


def unit_length(vectors: NDArray[np.float32]) -> bool:
    """Whether every row of float32[P, D] has length one; what is no number has no length."""
    return bool((np.abs(np.linalg.norm(vectors, axis=1) - 1) <= UNIT).all())


def _checked(names: NDArray[Any], vectors: NDArray[Any], background: NDArray[Any]) -> Gallery:
    """What a gallery's archive holds.

    Raises:
        ValueError: what is wrong.
    """
    texts = tuple(map(str, names.tolist()))
    # A list of no names is of no type.
    if (
        names.ndim != 1
        or (texts and names.dtype.kind != "U")
        or vectors.dtype.kind != "f"
        or background.dtype.kind != "f"
    ):
        raise ValueError(
            f"{names.dtype}{list(names.shape)}, {vectors.dtype} and {background.dtype} are no names and floats"
        )
    if vectors.ndim != 2 or len(texts) != len(vectors):
        raise ValueError(f"{len(texts)} names and vectors of shape {vectors.shape}")
    background = np.atleast_2d(background)
    if len(background) and background.shape[1:] != vectors.shape[1:]:
        raise ValueError(f"vectors of shape {vectors.shape} and a background of shape {background.shape}")
    for name in texts:
        if not is_name(name):
            raise ValueError(f"{name!r} is no name of printable characters")
    if len(set(texts)) < len(texts):
        raise ValueError("a name is there twice")
    made = Gallery(texts, vectors.astype(np.float32), background.astype(np.float32))
    if not (unit_length(made.vectors) and unit_length(made.background)):
        raise ValueError("not every vector has unit length")
    return made


def identify(
    embedding: NDArray[np.float32],
    gallery: Gallery,
    enrolled: Collection[str],
    calibration: Calibration,
    candidates: int,
) -> GeneratorAnswer | None:
    """Which known generator made a picture, by its unit vector, float32[D]; None where none is known.

    Candidates are ranked by how much nearer they come than they need to, which is another distance for those that the user `enrolled`.
    """
    near = float(usual(gallery.background, embedding))
    found = (
        Candidate(name, float(similarity), calibration.needed(name in enrolled, near))
        for name, similarity in zip(gallery.names, gallery.similarity(embedding), strict=True)
    )
    ranked = sorted(found, key=lambda candidate: candidate.needed - candidate.score)
    return generator_answer(ranked, candidates) if ranked else None


def usual(background: NDArray[np.float32], embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """How near generators come to pictures that they did not make: the mean similarity to the `NEAREST` of a background, float32[B, D].

    float32[...] of unit vectors, float32[..., D]; zero without a background. Some pictures, with few traces, many come near to.
    """
    if not len(background):
        return np.zeros(embeddings.shape[:-1], np.float32)
    similarity = embeddings @ background.T
    nearest: NDArray[np.float32] = np.sort(similarity, axis=-1)[..., -NEAREST:].mean(axis=-1)
    return nearest
