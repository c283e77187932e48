"""Linear probe: predict the parameters of unseen generators from the spectra of their pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.ndimage import uniform_filter
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from training.data.dataset import Collection, Sample
from training.data.index.load import collect
from training.data.index.records import read
from training.metrics import macro_f1, random_macro_f1

TILE = 64


def spectrum(pixels: np.ndarray) -> np.ndarray:
    """Return the log amplitude of the high-pass residual, averaged over 64x64 tiles: uint8[H, W, 3] -> float32[64 * 33]."""
    grey = pixels.astype(np.float32).mean(-1)
    residual = grey - uniform_filter(grey, 3)
    rows, columns = (side // TILE for side in residual.shape)
    tiles = residual[: rows * TILE, : columns * TILE].reshape(rows, TILE, columns, TILE).swapaxes(1, 2)
    amplitude = np.abs(np.fft.rfft2(tiles)).mean((0, 1))
    return np.asarray(np.log(amplitude + 1), np.float32).ravel()


def _labels(collection: Collection, samples: list[Sample]) -> dict[str, np.ndarray]:
    """Return the true label of each sample, by parameter."""
    known = (collection.sources[sample.source].labels for sample in samples)
    labels = [label for label in known if label is not None]
    labels_by_head = {
        name: np.array([label.discrete[name] for label in labels]) for name in ("up_sampling", "normalization")
    }
    return labels_by_head | {"family": np.array([label.family for label in labels])}


def run(index_file: Path, pictures: int = 30) -> dict[str, object]:
    """Fit on pictures of training generators and evaluate on test generators, with the most frequent value as a baseline.

    Args:
        index_file: index of the dataset.
        pictures: pictures per generator.
    """
    index = read(index_file)
    zoo = {key for key, source in index.sources.items() if source.zoo and source.labels is not None}
    collection = collect(replace(index, entries=[entry for entry in index.entries if entry.source in zoo]))
    parts = {}
    for split in ("train", "test"):
        every = collection.select(split=split, camera=False, zoo=True, source_split=split)
        by_source: dict[int, list[Sample]] = {}
        for sample in every:
            by_source.setdefault(sample.source, []).append(sample)
        parts[split] = [sample for members in by_source.values() for sample in members[:pictures]]
    features = {split: np.stack([spectrum(s.pixels) for s in samples]) for split, samples in parts.items()}
    labels_by_head = {split: _labels(collection, samples) for split, samples in parts.items()}
    heads = {}
    for name, known in labels_by_head["train"].items():
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.001, max_iter=300))
        predicted = model.fit(features["train"], known).predict(features["test"])
        truth = labels_by_head["test"][name]
        values, counts = np.unique(known, return_counts=True)
        mode = np.full(len(truth), values[counts.argmax()])
        heads[name] = {
            "macro_f1": macro_f1(truth, predicted),
            "mode_macro_f1": macro_f1(truth, mode),
            "random_macro_f1": random_macro_f1(known, truth),
            "accuracy": float((predicted == truth).mean()),
            "mode_accuracy": float((mode == truth).mean()),
        }
    return {
        "heads": heads,
        "pictures": {split: len(samples) for split, samples in parts.items()},
        "generators": {split: len({s.source for s in samples}) for split, samples in parts.items()},
    }
