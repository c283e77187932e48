"""Spectral lines only: the evaluated generators are not those of the fit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.synthetic_collection import PUBLIC, synthetic_collection
from training.data.dataset import Collection, Generator
from training.data.folds import FOLDS
from training.data.index.records import Entry, Index, Place
from training.experiments import spectral_lines
from training.fit import heads_lines


def test_public_part_has_no_zoo() -> None:
    sources = {
        "photos": Generator("photos", None, False, "train"),
        "zoo/vae-000": Generator("vae-000", None, True, "train"),
    }
    entries = [Entry(Place(Path("a.png")), key, "train", None, None, False) for key in sources]
    narrowed = spectral_lines.public_part(Index(sources, entries))
    assert list(narrowed.sources) == ["photos"]
    assert narrowed.entries == entries[:1]


def test_every_public_generator_is_evaluated_once_by_lines_not_fitted_on_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    learnt: list[set[str]] = []
    fitted = heads_lines.fit_lines

    def watched(collection: Collection, seed: int) -> dict:
        learnt.append({collection.sources[s.source].name for s in collection.samples if s.variants})
        return fitted(collection, seed)

    monkeypatch.setattr(heads_lines, "WINDOWS", 1)
    monkeypatch.setattr(heads_lines, "fit_lines", watched)
    monkeypatch.setattr(spectral_lines, "read", lambda _path: Index({}, []))
    monkeypatch.setattr(spectral_lines, "collect", lambda _index: _without_zoo(synthetic_collection()))
    monkeypatch.setattr(spectral_lines, "RESULT", tmp_path / "lines.json")
    index = tmp_path / "index.jsonl"
    index.touch()
    result = CliRunner().invoke(spectral_lines.main, [str(index)])
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "lines.json").read_text())["generators"]
    tested = {name: number for number, fold in enumerate(FOLDS) for name in fold.test}
    assert {name: of["fold"] for name, of in found.items()} == {name: tested[name] for name in PUBLIC & tested.keys()}
    for of in found.values():
        assert list(of["auc"]) == list(spectral_lines.CONDITIONS)
        assert all(0 <= value <= 1 for value in of["auc"].values())
    for names, fold in zip(learnt, FOLDS, strict=True):
        assert names & PUBLIC
        assert not names & (fold.test | fold.val | fold.photos)


def _without_zoo(collection: Collection) -> Collection:
    kept = [i for i, source in enumerate(collection.sources) if not source.zoo]
    place = {i: number for number, i in enumerate(kept)}
    samples = [s for s in collection.samples if s.source in place]
    for sample in samples:
        sample.source = place[sample.source]
    return Collection([collection.sources[i] for i in kept], samples)
