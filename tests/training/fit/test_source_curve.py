"""Networks trained on fewer sources."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.training.public_data import write_data
from training.data.public_sets import Split, read_pictures
from training.fit import source_curve


def test_more_sources_include_fewer(tmp_path: Path) -> None:
    pictures = read_pictures(write_data(tmp_path, count=2))
    chosen = [{picture.set for picture in source_curve.choose(pictures, count, 1)} for count in (1, 2, None)]
    assert chosen[0] < chosen[1] < chosen[2]
    for count, sets in zip((1, 2, 5), chosen, strict=True):
        assert sum(one.role == "camera" for one in sets) == count
        assert sum(one.role == "generated" for one in sets) == min(count, 4)
    assert all(one.role in ("camera", "generated") for one in chosen[2])


@pytest.mark.slow
def test_every_network_is_judged_on_the_same_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_data(tmp_path / "data", count=4)
    monkeypatch.setattr(source_curve, "split", lambda pictures: Split(list(pictures), list(pictures), [], []))
    monkeypatch.setattr(source_curve, "COUNTS", (2,))
    arguments = [data, tmp_path / "runs", "--minutes", "0.02", "-o", tmp_path / "curve.json"]
    done = CliRunner().invoke(source_curve.main, [str(a) for a in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    curve = json.loads((tmp_path / "curve.json").read_text())
    assert [(run["camera"], run["generated"]) for run in curve["runs"]] == [(2, 2), (5, 4)]
    for run in curve["runs"]:
        low, high = run["figures"]["as is"]["interval"]
        assert low <= run["figures"]["as is"]["auc"] <= high
