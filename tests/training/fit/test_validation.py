"""What decides, while a network is trained, which of its moving averages is kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.conftest import noise
from training.data.dataset import Collection, Generator, Sample
from training.fit.train import Best
from training.fit.trainer import Average
from training.fit.validation import PER_PICTURE, Validation
from training.labels import Labels


class Brightness(nn.Module):
    """Calls bright pictures generated; one generator's pictures are as red as its others."""

    def forward(self, windows: Tensor) -> dict[str, Tensor]:
        colour = windows.float().mean((1, 2)) / 255
        return {"generated": colour.mean(1, keepdim=True), "embedding": nn.functional.normalize(colour, dim=1)}


def flat(*colour: int) -> np.ndarray:
    return np.full((PER_PICTURE, 128, 128, 3), colour, np.uint8)


def test_validation_ranks_kinds_and_generators() -> None:
    zoo = np.concatenate([flat(250, 9, 9), flat(200, 9, 9), flat(9, 250, 9), flat(9, 200, 9)])
    sources = np.repeat([3, 3, 5, 5], PER_PICTURE)
    real = np.concatenate([flat(40, 40, 40), flat(90, 90, 90)])
    validation = Validation({"camera": flat(60, 60, 60), "zoo": zoo, "public": real}, sources)
    scores = validation.scores(Brightness(), torch.device("cpu"))
    assert scores == {"zoo": 1.0, "public": 0.5, "same_generator": 1.0}
    # The second generator's pictures are no longer compared, so that no two generators are left.
    alone = Validation(validation.windows, np.where(sources == 5, -1, sources))
    assert alone.scores(Brightness(), torch.device("cpu")) == {"zoo": 1.0, "public": 0.5}


def test_what_cannot_be_told_is_left_out() -> None:
    nothing = np.empty((0, 0, 0, 3), np.uint8)
    validation = Validation({"camera": flat(60, 60, 60), "zoo": flat(9, 9, 9), "public": nothing}, np.array([3, 3]))
    assert validation.scores(Brightness(), torch.device("cpu")) == {"zoo": 0.0}


def test_validation_takes_only_what_training_does_not_see() -> None:
    labels = Labels("vae", {}, {}, None)
    sources = [
        Generator("photos", None, False, "train"),
        *(Generator(f"vae-{i}", labels, True, split) for i, split in enumerate(("train", "val", "test"))),
        Generator("sd", labels, False, "val"),
    ]
    # Of every source a picture of each split.
    samples = [
        Sample(noise(130, 140, 3 * source + place), source, split)
        for source in range(len(sources))
        for place, split in enumerate(("train", "val", "test"))
    ]
    validation = Validation.from_collection(Collection(sources, samples), 0)
    assert {kind: windows.shape for kind, windows in validation.windows.items()} == dict.fromkeys(
        ("camera", "zoo", "public"), (PER_PICTURE, 128, 128, 3)
    )
    assert validation.zoo_source.tolist() == [2] * PER_PICTURE


@pytest.mark.parametrize(
    ("figures", "kept"),
    [
        ([{"zoo": 0.8, "public": 0.6}, {"zoo": 0.9, "public": 0.7}, {"zoo": 0.95, "public": 0.5}], 1),
        ([{"zoo": 0.8}, {"zoo": 0.8}], 1),
        ([{}, {}], 1),
        ([{"zoo": 0.9, "public": 0.9}, {"zoo": 0.95, "public": 0.8}], 0),
    ],
)
def test_the_average_that_validation_ranks_highest_is_kept(figures: list[dict[str, float]], kept: int) -> None:
    layer, best = nn.Linear(1, 1), Best()
    for step, scores in enumerate(figures):
        nn.init.constant_(layer.weight, step)
        best.consider(scores, step, Average(layer))
    assert best.step == kept
    assert best.values["weight"].item() == kept
