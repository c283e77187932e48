"""Tables of the model card."""

from __future__ import annotations

from edgeparse.bundle import SameGenerator
from export.calibration import (
    fit_same_generator,
)
from tests.training.evaluate.synthetic_predictions import gallery, naming_from, predictions
from training.evaluate.attribution import (
    enrolment_metrics,
    same_generator_metrics,
)
from training.report.card import comparing_sections


def test_card_shows_comparing_and_enrolment_where_they_were_measured() -> None:
    made = predictions(24, 60, 1.2)
    same = SameGenerator(**(fit_same_generator(made) or {}))
    nothing = {"mixed": None, "clean": None}
    result = {
        "same_generator_zoo": {"mixed": same_generator_metrics(made, same), "clean": None},
        "same_generator_public": {"mixed": {"auc": 0.5}, "clean": None},
        "enrolment_zoo": {
            "mixed": [enrolment_metrics(made, gallery(10), naming_from(0.7), pictures) for pictures in (10, 50)],
            "clean": [None, None],
        },
        "enrolment_public": {"mixed": [None, None], "clean": [None, None]},
    }
    _, calibration, words, enrolled = comparing_sections(result)
    assert "| zoo generators | mixed | 24 | 0." in calibration
    assert "public" not in calibration + enrolled
    assert "enrolled by" in words
    assert enrolled.count("\n") == 3
    too_few = {key: {"mixed": [None], "clean": [None]} for key in ("enrolment_zoo", "enrolment_public")}
    assert not list(comparing_sections({"same_generator_zoo": nothing, "same_generator_public": nothing, **too_few}))
