"""Fit `Network.by_lines`, the linear detector on the spectral lines of a window.

The features are fixed and few, so a logistic regression finds the best weights in about a minute. It learns from public generators and
whole photos only. The zoo's pictures show photos that were downscaled first, and features that separate those mislead on all other
pictures.
"""

from __future__ import annotations

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from training.data import augment
from training.data.dataset import Collection, Sample, crop, photo_encoded
from training.model.network import to_unit_range
from training.model.spectral import SpectralLines

# Windows per variant of a picture, and strongly edited variants per picture. Without strong edits, every picture without colour passes for
# a photo, because it has no spectral lines in its colour differences.
WINDOWS, STRONG_VARIANTS = 2, 2
# Inverse L2 penalty on standardised features. Values ten times lower or higher do as well.
INVERSE_PENALTY = 0.01


def fit_lines(collection: Collection, seed: int) -> dict[str, Tensor]:
    """Fit the detector on the variants of the collection's public pictures.

    Returns:
        `by_lines.weight` float32[1, F] and `by_lines.bias` float32[1]. Empty if photos or public generators have no variants.
    """
    samples = [s for s in collection.samples if s.variants and not collection.sources[s.source].zoo]
    generated = np.array([collection.sources[s.source].labels is not None for s in samples])
    if generated.all() or not generated.any():
        return {}
    rng = np.random.default_rng(seed)
    lines = SpectralLines()
    features = [_features(lines, sample, rng) for sample in samples]
    labels = np.repeat(generated, [len(rows) for rows in features])
    scaler = StandardScaler()
    scaled = scaler.fit_transform(np.concatenate(features))
    model = LogisticRegression(C=INVERSE_PENALTY, max_iter=1000, class_weight="balanced").fit(scaled, labels)
    weight = model.coef_ / scaler.scale_
    bias = model.intercept_ - weight @ scaler.mean_
    return {
        "by_lines.weight": torch.tensor(weight, dtype=torch.float32),
        "by_lines.bias": torch.tensor(bias, dtype=torch.float32),
    }


@torch.no_grad()
def _features(lines: SpectralLines, sample: Sample, rng: np.random.Generator) -> np.ndarray:
    edited = [augment.strong_chain(photo_encoded(sample), rng) for _ in range(STRONG_VARIANTS)]
    windows = np.stack([crop(pixels, rng) for pixels in (*sample.variants, *edited) for _ in range(WINDOWS)])
    features: np.ndarray = lines(to_unit_range(torch.from_numpy(windows))).numpy()
    return features
