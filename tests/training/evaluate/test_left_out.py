from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tests.training.public_data import write_data
from training.data.public_sets import read_pictures
from training.data.stream import Store
from training.evaluate import left_out
from training.evaluate.left_out import CONDITIONS, Scores, evaluate


def grid_strength(windows: np.ndarray) -> np.ndarray:
    """A detector of the test pictures' grid: how much rows differ from their neighbours."""
    return np.abs(np.diff(windows.astype(float), axis=1)).mean((1, 2, 3))


def test_a_detector_of_the_trace_is_right_and_a_blind_one_is_not(tmp_path: Path) -> None:
    folder = write_data(tmp_path, count=4)
    store = Store.read(folder, read_pictures(folder))
    found = evaluate(grid_strength, store, ["as is"])["as is"]
    assert found["auc"] == 1.0
    assert found["recall_at_1_percent"] == 1.0
    assert found["by_set"]["sd1"] == 1.0
    assert "fsrcnn-x2" not in found["by_set"]
    blind = evaluate(lambda windows: np.zeros(len(windows)), store, ["as is"])["as is"]
    assert blind["auc"] == 0.5


def test_interval_is_over_sets_not_pictures() -> None:
    """A hundred pictures of two sets say no more about other sets than two pictures."""
    rng = np.random.default_rng(0)
    name = np.repeat(["a", "b", "c", "d"], 100)
    generated = np.repeat([False, False, True, True], 100)
    score = rng.normal(0, 0.1, 400) + np.repeat([0, 2, 1, 3], 100)
    low, high = Scores(score, name, generated).interval()
    assert low < 0.1
    assert high > 0.9


@pytest.mark.parametrize("condition", CONDITIONS)
def test_conditions_keep_pixels_usable(condition: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (200, 240, 3), np.uint8)
    changed = CONDITIONS[condition](pixels)
    assert changed.dtype == np.uint8
    assert changed.shape[2] == 3
    assert (condition == "as is") == np.array_equal(changed, pixels)


def test_command_measures_a_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_data(tmp_path / "data", count=2)
    pictures = read_pictures(folder)
    monkeypatch.setattr(left_out, "split", lambda _: type("Parts", (), {"val": pictures, "test": []}))
    result = CliRunner().invoke(
        left_out.main, ["edgeparse/models/default", str(folder), "-o", str(tmp_path / "out.json")]
    )
    assert result.exit_code == 0, result.output
    written = json.loads((tmp_path / "out.json").read_text())
    assert 0 <= written["JPEG q90"]["auc"] <= 1
    assert written["fold"] == "val"
