"""Tables of the model card."""

from __future__ import annotations

from typing import Any

import pytest

from edgeparse.manifest import SameGenerator
from export.calibration import (
    fit_same_generator,
)
from tests.training.evaluate.synthetic_predictions import gallery, naming_from, predictions
from training.evaluate.attribution import (
    enrolment_metrics,
    same_generator_metrics,
)
from training.report.card import comparing_sections, lineage, training_text


def test_sections_show_only_measured_metrics() -> None:
    pictures = predictions(24, 60, 1.2)
    same = SameGenerator(**(fit_same_generator(pictures) or {}))
    nothing = {"mixed": None, "clean": None}
    result = {
        "same_generator_zoo": {"mixed": same_generator_metrics(pictures, same), "clean": None},
        "same_generator_public": {"mixed": {"auc": 0.5}, "clean": None},
        "enrolment_zoo": {
            "mixed": [enrolment_metrics(pictures, gallery(10), naming_from(0.7), count) for count in (10, 50)],
            "clean": [None, None],
        },
        "enrolment_public": {"mixed": [None, None], "clean": [None, None]},
    }
    _, compared, _, enrolled = comparing_sections(result)
    assert "| zoo | mixed | 24 | 0." in compared
    assert "public" not in compared + enrolled
    assert enrolled.count("\n") == 3
    too_few = {key: {"mixed": [None], "clean": [None]} for key in ("enrolment_zoo", "enrolment_public")}
    assert not list(comparing_sections({"same_generator_zoo": nothing, "same_generator_public": nothing, **too_few}))


def test_lineage_names_every_bundle() -> None:
    third = {"bundle": None, "init_from": None}
    second = {"bundle": "default-3", "init_from": third}
    assert lineage("default-4", {"init_from": second}) == ["default-4", "default-3", "an unreleased network"]
    assert lineage("default-4", {"init_from": None}) == ["default-4"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "step 8 was kept, which validation scored highest"),
        ({"kept_step": 9}, "last moving average"),
        ({"passes": 3}, "every training picture 3 times."),
        ({"passes": 7, "strong_head_epochs": 2}, "7 times and 2 times after heavy edits"),
        ({"online_augment": True}, "Codec chains were renewed during training."),
        ({"online_augment": True, "strong": 0.25}, "25% of them with heavy edits"),
        ({"teacher": ["default-2", "default-3"]}, "(default-2, default-3)."),
        ({"teacher": ["default-2"], "hard_labels_for_zoo": True}, "(default-2); zoo generators used labels."),
        ({"steps": 0}, "only the heads were trained"),
    ],
)
def test_training_text_follows_the_manifest(changes: dict[str, Any], expected: str) -> None:
    training = {"minutes": 4.0, "steps": 9, "hardware": "x", "seed": 1, "kept_step": 8}
    assert expected in training_text(training | changes, "default-9")
