"""Known generators: a unit vector each, the nearest ones to a picture's embedding, and how near generators usually come to it."""

from __future__ import annotations

import io
import zipfile
import zlib
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeparse.errors import BundleError, GalleryError
from edgeparse.readout import unit

# So many of the background's vectors, the nearest ones, tell how near a generator usually comes to a picture.
NEAREST = 3


def _nothing() -> NDArray[np.float32]:
    return np.empty((0, 0), np.float32)


def centre(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """What a generator is known by: the direction, float32[D], in which its pictures' unit vectors, float32[P, D], point together."""
    return unit(vectors.mean(axis=0, dtype=np.float32))


class Match(NamedTuple):
    """A known generator and its similarity, -1 to 1."""

    name: str
    similarity: float


@dataclass(frozen=True)
class Gallery:
    """`names`[K] and their unit vectors, float32[K, D]. `background`, unit vectors float32[B, D], are of all generators that the network
    learnt from: none of them is named for it."""

    names: tuple[str, ...]
    vectors: NDArray[np.float32]
    background: NDArray[np.float32] = field(default_factory=_nothing)

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
                background = file["background"].astype(np.float32) if "background" in file else _nothing()
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

    def nearest(self, embedding: NDArray[np.float32], count: int) -> tuple[Match, ...]:
        """The `count` most similar generators to a unit vector, float32[D], best first."""
        if not self.names:
            return ()
        similarity = self.vectors @ embedding
        order = np.argsort(-similarity, kind="stable")[:count]
        return tuple(Match(self.names[i], float(similarity[i])) for i in order)


def usual(background: NDArray[np.float32], embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """How near generators usually come to pictures: the mean similarity to the `NEAREST` of a background, float32[B, D].

    float32[...] of unit vectors, float32[..., D]; zero without a background. To a picture that shows few traces many come near.
    """
    if not len(background):
        return np.zeros(embeddings.shape[:-1], np.float32)
    similarity = embeddings @ background.T
    nearest: NDArray[np.float32] = np.sort(similarity, axis=-1)[..., -NEAREST:].mean(axis=-1)
    return nearest
