"""What spectral lines say of a window by themselves: `Network.by_lines`, fitted when all else is trained.

The features are fixed and few, so a logistic regression finds the best weights there are in a minute. It learns from public generators
and whole photos alone: the zoo's pictures show photos that were made smaller first, and what tells these apart misleads about all
others (training/results/tried.json).
"""

from __future__ import annotations

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from training.data import augment
from training.data.dataset import Collection, Sample, as_it_comes, crop
from training.model.network import to_unit_range
from training.model.spectral import SpectralLines

# Windows cut from every variant of a picture, and ways with heavy edits that it goes through beside these. Without any, a picture without
# colour, which has no lines in colours, passed for a photo whatever else was in it (training/results/tried.json).
WINDOWS, HEAVY = 2, 2
# Inverse strength of the penalty on the weights of features of unit deviation; a tenth and ten times as much do as well.
STRENGTH = 0.01


def fitted(collection: Collection, seed: int) -> dict[str, Tensor]:
    """The values of `by_lines`, weight float32[1, F] and bias float32[1], by their names in a network; none where there are no public
    generators, or no photos, that have variants to train on."""
    samples = [s for s in collection.samples if s.variants and not collection.sources[s.source].zoo]
    generated = np.array([collection.sources[s.source].labels is not None for s in samples])
    if generated.all() or not generated.any():
        return {}
    rng = np.random.default_rng(seed)
    lines = SpectralLines()
    features = [_features(lines, sample, rng) for sample in samples]
    answers = np.repeat(generated, [len(of_one) for of_one in features])
    scale = StandardScaler()
    seen = scale.fit_transform(np.concatenate(features))
    model = LogisticRegression(C=STRENGTH, max_iter=1000, class_weight="balanced").fit(seen, answers)
    weight = model.coef_ / scale.scale_
    bias = model.intercept_ - weight @ scale.mean_
    return {
        "by_lines.weight": torch.tensor(weight, dtype=torch.float32),
        "by_lines.bias": torch.tensor(bias, dtype=torch.float32),
    }


@torch.no_grad()
def _features(lines: SpectralLines, sample: Sample, rng: np.random.Generator) -> np.ndarray:
    edited = [augment.strong_chain(as_it_comes(sample), rng) for _ in range(HEAVY)]
    windows = np.stack([crop(pixels, rng) for pixels in (*sample.variants, *edited) for _ in range(WINDOWS)])
    features: np.ndarray = lines(to_unit_range(torch.from_numpy(windows))).numpy()
    return features
