"""Known generators: a unit vector each, the nearest one to a picture's embedding, and when even that one is too far."""

from __future__ import annotations

import io
import zipfile
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeparse.errors import BundleError, GalleryError
from edgeparse.readout import unit
from edgeparse.report import Candidate


def centre(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """What a generator is known by: the direction, float32[D], in which its pictures' unit vectors, float32[P, D], point together."""
    return unit(vectors.mean(axis=0, dtype=np.float32))


@dataclass(frozen=True)
class Gallery:
    """`names`[K] and their unit vectors, float32[K, D]."""

    names: tuple[str, ...]
    vectors: NDArray[np.float32]

    @staticmethod
    def load(data: bytes) -> Gallery:
        """From the bytes of a `gallery.npz` with `names` and `vectors`.

        Raises:
            BundleError: it is no such archive.
        """
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as file:
                names = tuple(str(name) for name in file["names"])
                vectors = file["vectors"].astype(np.float32)
        except (ValueError, TypeError, KeyError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise BundleError(f"the gallery is not an archive of names and vectors: {error}") from error
        if vectors.ndim != 2 or len(names) != len(vectors):
            raise BundleError(
                f"the gallery has {len(names)} names and vectors of shape {vectors.shape}; export the bundle again"
            )
        return Gallery(names, vectors)

    def save(self, file: io.BufferedIOBase) -> None:
        """Write the archive that `load` reads."""
        np.savez_compressed(file, names=np.array(self.names), vectors=self.vectors)

    def over(self, below: Gallery) -> Gallery:
        """Both together; where both know a name, this one's vector counts.

        Raises:
            GalleryError: their vectors have not equally many numbers.
        """
        if not self.names or not below.names:
            return self if self.names else below
        if self.vectors.shape[1] != below.vectors.shape[1]:
            raise GalleryError(
                f"the enrolled generators have embeddings of {self.vectors.shape[1]} numbers, the bundle's have "
                f"{below.vectors.shape[1]}; enrol them again with this bundle"
            )
        kept = [i for i, name in enumerate(below.names) if name not in self.names]
        return Gallery(
            self.names + tuple(below.names[i] for i in kept), np.concatenate([self.vectors, below.vectors[kept]])
        )

    def nearest(self, embedding: NDArray[np.float32], count: int) -> tuple[Candidate, ...]:
        """The `count` most similar generators to a unit vector, float32[D], best first."""
        if not self.names:
            return ()
        scores = self.vectors @ embedding
        order = np.argsort(-scores, kind="stable")[:count]
        return tuple(Candidate(self.names[i], float(scores[i])) for i in order)
