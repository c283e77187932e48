"""Documents say what the commands printed."""

from __future__ import annotations

import json

from edgeparse.bundle import default_folder
from tests.conftest import ROOT, sample_files
from training.card import render


def test_model_card_is_rendered_from_this_bundles_evaluation() -> None:
    result = json.loads((ROOT / "training/results/default.json").read_text())
    assert (ROOT / "MODEL_CARD.md").read_text() == render(default_folder(), result)


def test_every_sample_has_its_licence_named() -> None:
    text = (ROOT / "samples/README.md").read_text()
    for path in sample_files():
        assert f"`{path.name}`" in text
