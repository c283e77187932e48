"""Documents say what the commands printed."""

from __future__ import annotations

import json
import re

from edgeparse import errors
from edgeparse.bundle import default_folder
from edgeparse.cli import main as edgeparse
from engines import recipes
from engines.__main__ import main as engines
from export.__main__ import main as export
from tests.conftest import ROOT, sample_files
from training.card import render


def test_model_card_is_rendered_from_this_bundles_evaluation() -> None:
    result = json.loads((ROOT / "training/results/default-1.json").read_text())
    assert (ROOT / "MODEL_CARD.md").read_text() == render(default_folder(), result)


def test_every_sample_has_its_licence_named() -> None:
    text = (ROOT / "samples/README.md").read_text()
    for path in sample_files():
        assert f"`{path.name}`" in text


def test_documents_name_errors_recipes_and_options_that_are() -> None:
    text = "".join((ROOT / "docs" / name).read_text() for name in ("engines.md", "jetson.md"))
    assert text.count("**Not yet run on a device.**") == 2
    for name in re.findall(r"`(\w+Error)`", text):
        assert issubclass(getattr(errors, name), errors.BackendError)
    for name in re.findall(r"`((?:jetson|rtx|l4|h[12]00)[\w-]*)`", text):
        assert name in recipes.names()
    programs = {"edgeparse": edgeparse, "python -m engines": engines, "python -m export": export}
    commands = re.findall(r"^(edgeparse|python -m engines|python -m export) (\w+)([^#\n]*)", text, re.MULTILINE)
    assert len(commands) > 8
    for program, command, rest in commands:
        known = {name for parameter in programs[program].commands[command].params for name in parameter.opts}
        assert set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", rest)) <= known, (program, command, rest)
