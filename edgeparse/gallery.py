"""Known generators: a unit vector each, which one made a picture by its embedding, and when none comes near enough to be named."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgeparse.bundle import Calibration
from edgeparse.errors import BundleError, GalleryError
from edgeparse.readout import generator_answer, unit
from edgeparse.report import Candidate, GeneratorAnswer

# So many of the background's vectors, the nearest ones, tell how near a generator usually comes to a picture.
NEAREST = 3


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
            with np.load(io.BytesIO(data), allow_pickle=False) as file:
                names = tuple(str(name) for name in file["names"])
                vectors = file["vectors"].astype(np.float32)
                background = (
                    np.atleast_2d(file["background"].astype(np.float32)) if "background" in file else _nothing()
                )
        except (ValueError, TypeError, KeyError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise BundleError(f"the gallery is not an archive of names and vectors: {error}") from error
        if vectors.ndim != 2 or len(names) != len(vectors):
            raise BundleError(
                f"the gallery has {len(names)} names and vectors of shape {vectors.shape}; export the bundle again"
            )
        if len(background) and background.shape[1:] != vectors.shape[1:]:
            raise BundleError(
                f"the gallery has vectors of shape {vectors.shape} and a background of shape {background.shape}; export the bundle again"
            )
        return Gallery(names, vectors, background)

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
