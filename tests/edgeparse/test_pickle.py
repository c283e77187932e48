"""Public objects pickle and copy, so that process pools, joblib and Ray can hand them over."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeparse import BackendError, BundleError, GalleryError, ImageError, Parser
from edgeparse.bundle import default_folder
from edgeparse.gallery_store import GalleryStore
from edgeparse.render.html import HtmlReport
from edgeparse.report import Report
from tests.conftest import comparing, sample_files


def _answers(report: Report) -> dict[str, Any]:
    return {key: value for key, value in report.to_json().items() if key != "timing_ms"}


def _parse(task: tuple[Parser, Path]) -> Report:
    parser, path = task
    return parser.parse(path)


def test_a_spawned_pool_receives_a_parser_and_returns_reports() -> None:
    parser = Parser(windows=3, threads=1, backend="cpu")
    paths = sample_files()[:2]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        reports = pool.map(_parse, [(parser, path) for path in paths])
    assert [_answers(report) for report in reports] == [_answers(parser.parse(path)) for path in paths]


@pytest.mark.parametrize("copied", [copy.deepcopy, copy.copy, lambda value: pickle.loads(pickle.dumps(value))])
def test_a_copied_parser_has_the_same_settings(copied: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(default_folder().parent)
    parser = Parser(bundle="default", windows=2, threads=1, gallery=str(tmp_path))
    monkeypatch.chdir(tmp_path)
    other = copied(parser)
    assert other is not parser
    assert other.bundle.sha256 == parser.bundle.sha256
    assert _answers(other.parse(sample_files()[0])) == _answers(parser.parse(sample_files()[0]))


def test_results_pickle_and_copy(bundle_copy: Path, tmp_path: Path) -> None:
    parser = Parser(comparing(bundle_copy), windows=2)
    inspection = parser.inspect(sample_files()[0])
    page = HtmlReport(parser.bundle, 1)
    page.add(inspection.report, inspection)
    for value in (
        inspection.report,
        parser.failure("x.jpg", ImageError("empty", "the file is empty")),
        parser.compare(sample_files()[:2]),
        parser.bundle,
    ):
        assert pickle.loads(pickle.dumps(value)) == copy.deepcopy(value) == value
    gallery = pickle.loads(pickle.dumps(parser.gallery))
    assert gallery.names == parser.gallery.names
    assert np.array_equal(gallery.vectors, copy.deepcopy(parser.gallery).vectors)
    again = pickle.loads(pickle.dumps(inspection))
    assert again.report == inspection.report
    assert np.array_equal(again.fingerprint, copy.deepcopy(inspection).fingerprint)
    assert pickle.loads(pickle.dumps(page)).render() == page.render() == copy.deepcopy(page).render()
    store = GalleryStore(tmp_path / "gallery", parser.bundle)
    assert pickle.loads(pickle.dumps(store)).file == store.file


@pytest.mark.parametrize("error", [BackendError("a"), BundleError("b"), GalleryError("c"), ImageError("empty", "d")])
def test_errors_pickle(error: Exception) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (type(error), str(error))
    assert getattr(again, "kind", None) == getattr(error, "kind", None)
