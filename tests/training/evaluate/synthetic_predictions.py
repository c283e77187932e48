"""Synthetic embeddings and galleries."""

from __future__ import annotations

import numpy as np

from edgeparse.gallery import Gallery
from edgeparse.manifest import Calibration
from training.evaluate.predict import Predictions

DIMENSION = 32


def naming_from(enrolled: float, cohort_weight: float = 0.0) -> Calibration:
    """Return a calibration that names enrolled generators from this similarity, and the bundle's own never."""
    return Calibration(1.0, 0.0, 0.5, 0.5, known=2.0, enrolled=enrolled, cohort_weight=cohort_weight)


def predictions(generators: int, pictures: int, noise: float, seed: int = 0) -> Predictions:
    """Return embeddings around one random direction per generator; large noise removes the structure."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(generators, DIMENSION))
    source = np.repeat(np.arange(generators), pictures)
    vectors = centres[source] + noise * rng.normal(size=(len(source), DIMENSION))
    return Predictions({"embedding": vectors.astype(np.float32)}, source)


def gallery(names: int, seed: int = 9) -> Gallery:
    vectors = np.random.default_rng(seed).normal(size=(names, DIMENSION)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Gallery(tuple(f"known-{i}" for i in range(names)), vectors)
