"""The documents show the figures of the JSON files."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from training.data.augment import CONDITIONS
from training.evaluate.results import RESULTS
from training.evaluate.targets import judge
from training.report import accuracy, card, picture_sets, tables
from training.report.measured import Measured, window_ms

BOUNDS = [0.1, 0.2]


@pytest.fixture(scope="module")
def measured() -> Measured:
    return Measured.read()


def share(name: str, value: float) -> dict[str, Any]:
    return {name: value, f"{name}_interval": BOUNDS}


def detection(auc: float) -> dict[str, Any]:
    category = {"pictures": 40, **share("accused", 0.025)}
    figures = share("auc", auc) | share("called_generated", 0.6) | share("accused", 0.0123) | share("low_auc", 0.5)
    figures |= share("inconclusive_camera", 0.3) | share("inconclusive_generated", 0.35)
    return figures | {
        "worst_category": {"name": "film_scan", **category},
        "by_category": {"film_scan": category, "macro": category | {"pictures": 3}},
        "by_generator": {
            "flux": {"pictures": 9, "auc": 0.97, "called_generated": 0.8},
            "gan-x": {"pictures": 4, "auc": 0.41, "called_generated": 0.1},
        },
        "by_photo_source": {"old-film": {"pictures": 40, "accused": 0.025}},
        "pictures": {"camera": 43, "generated": 13},
        "sources": {"camera": 2, "generated": 2},
    }


EVALUATION = {
    "detection": {condition: detection(0.9 - 0.01 * i) for i, condition in enumerate(CONDITIONS)},
    "attribution": {
        "known": 50,
        "chance": 0.02,
        "known_named": 0.6,
        "unknown_named": 0.1,
        **share("accuracy", 0.61),
        **share("unknown_auroc", 0.77),
    },
    "lineages": {"known": 8, **share("accuracy", 0.81), **share("unknown_auroc", 0.7)},
    "same_generator": {"generators": 30, "same_called_same": 0.5, "different_called_same": 0.05, **share("auc", 0.83)},
    "enrolment": {"names": 20, **share("accuracy", 0.72)},
    "parsing": {
        "family": {"macro_f1": 0.6, "constant_macro_f1": 0.2, "generators": 12, **share("gain", 0.4)},
    },
}
CURVE = {
    "fold": "val",
    "minutes": 20,
    "runs": [
        {"camera": n, "generated": n, "figures": {"as is": {"auc": 0.6 + n / 1000, "interval": [0.55, 0.7]}}}
        for n in (10, 80)
    ],
}


@pytest.fixture(scope="module")
def full(measured: Measured) -> Measured:
    return replace(measured, evaluation=EVALUATION, source_curve=CURVE, leakage={"format_floor_auc": 0.7123})


def test_model_card_shows_this_bundles_evaluation(measured: Measured) -> None:
    assert card.PAGE.read_text() == card.render(measured)


def test_accuracy_page_shows_its_json(measured: Measured) -> None:
    assert accuracy.PAGE.read_text() == accuracy.render(measured)


@pytest.mark.parametrize("name", tables.TABLES)
def test_csv_files_are_current_and_rectangular(measured: Measured, full: Measured, name: str) -> None:
    assert (RESULTS / f"{name}.csv").read_text() == tables.render(name, measured)
    assert len({len(row) for row in csv.reader(tables.render(name, full).splitlines())}) == 1


def test_targets_show_their_figures(full: Measured) -> None:
    page = accuracy.render(full)
    rows = {row["key"]: row for row in csv.DictReader(tables.render("targets", full).splitlines())}
    for target, value, _ in judge(full.evidence()):
        if value is None:
            assert f"| {target.what} | {target.limit_text} | not measured |" in page
        else:
            assert f"| {target.what} | {target.limit_text} | {target.format(value)} |" in page
            assert float(rows[target.key]["value"]) == pytest.approx(value, abs=1e-4)
    assert "| camera pictures called generated | ≤ 1 % | 1.2 % | 10.0 to 20.0 | **missed** |" in page
    assert "gan-x 0.410" in page
    assert "old-film 2.5% of 40" in page
    assert "| 80 | 80 | 0.680 (0.550 to 0.700) |" in page


def test_model_card_shows_figures_and_limits(full: Measured) -> None:
    page = card.render(full)
    assert "| as is | 0.900 | 0.100 to 0.200 | 60.0% | 1.2% | 30.0% | 35.0% |" in page
    # A category with few pictures is not judged.
    assert "| film scan | 40 | 2.5% |" in page
    assert "| macro | 3 |" not in page
    assert "AUC 0.712." in page
    assert "| family | 0.600 | 0.200 | 0.400 | 0.100 to 0.200 | 12 |" in page
    assert "| enrolled by 10 pictures, public | accuracy | 0.720 | 0.100 to 0.200 | 20 |" in page
    assert "Detection is weakest after *social chain*: AUC 0.870." in page
    assert "enrolled by 10 pictures, zoo" not in page


def test_sets_are_listed_and_grouped(tmp_path: Path) -> None:
    def row(name: str, licence: str, split: str, pictures: int) -> dict[str, str]:
        values = {"set": name, "role": "partly_generated", "category": "in_painting", "owner": name[0]}
        return values | {"licence": licence, "split": split, "pictures": str(pictures)}

    rows = [row("a1", "MIT", "train", 3), row("a2", "none stated", "train", 4), row("b", "CC BY-NC 4.0", "test", 2)]
    assert picture_sets.by_category(rows) == [
        ("partly generated", "in painting", 2, 3, 7, 0, 2, "none stated 4, free 3, research 2")
    ]
    assert picture_sets.kind_of_licence("licence file in repository, not read") == "other"
    listed = picture_sets.read_sets()
    assert set(listed[0]) == set(picture_sets.COLUMNS)
    splits: dict[str, set[str]] = {}
    for one in listed:
        splits.setdefault(one["owner"], set()).add(one["split"])
    assert all(len(found) == 1 for found in splits.values())
    assert picture_sets.read_sets(tmp_path / "none.csv") == []


def test_results_of_another_bundle_are_refused(bundle_copy: Path) -> None:
    manifest = json.loads((bundle_copy / "bundle.json").read_text())
    manifest["calibration"]["generated"] = 0.99
    (bundle_copy / "bundle.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=r"\.json must be measured on a bundle that predicts like"):
        Measured.read(bundle_copy)


def test_window_time_is_the_slowest_machines_best_precision(tmp_path: Path) -> None:
    def machine(name: str, sha256: str, *times: float) -> None:
        competitors = [{"network": "edgeparse", "runtime": "onnxruntime", "ms": {"all": {"p50": t}}} for t in times]
        competitors.append({"network": "published", "runtime": "onnxruntime", "ms": {"parsing": {"p50": 99.0}}})
        sections = {"cpu": {"bundle_sha256": sha256, "competitors": competitors}}
        (tmp_path / f"{name}.json").write_text(json.dumps({"sections": sections}))

    assert window_ms(tmp_path.glob("*.json"), "ours") is None
    machine("a", "ours", 4.0, 2.5)
    machine("b", "ours", 9.0, 3.5)
    machine("c", "of another bundle", 50.0)
    assert window_ms(tmp_path.glob("*.json"), "ours") == 3.5


def test_pages_render_without_results(measured: Measured) -> None:
    names = ("evaluation", "testset", "before", "leakage", "source_curve", "window_ms")
    bare = replace(measured, sets=[], **dict.fromkeys(names))
    assert "| not measured |" in accuracy.render(bare)
    assert "## Detection" not in card.render(bare)
    for name in tables.TABLES:
        tables.render(name, bare)
