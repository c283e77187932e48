"""The page of accuracy: bars, and tables of a study that is made up."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from benchmarks.study import CONDITIONS, RUNS
from tests.conftest import ROOT
from training.accuracy import TRIED_FOR, Sources, _tried_for, window_ms
from training.bars import BARS, headline, judge, points_lost, published_is_better
from training.card import begun_table, trained_sentences
from training.model.network import NetworkConfig
from training.study_tables import COLUMNS, lines_section, study_sections


def entry(name: str, shift: float = 0.0, **run: Any) -> dict[str, Any]:
    """A run whose every figure is one half, shifted."""
    run = {"name": name, "changed": name, "fold": 0, "seed": 1, "rate": 2e-3, "published": 0, "windows": False} | run
    run = {"network": asdict(NetworkConfig())} | run
    return {
        "run": run,
        "budget_megapixels": 120.0,
        "training": {"steps": 1234, "minutes": 20.0, "hardware": "2 CPU cores"},
        "multiply_accumulates": 335_000_000,
        "figures": dict.fromkeys(COLUMNS, 0.5 + shift),
        "public_generators": {condition: {f"generator-{run['fold']}": 0.7} for condition in CONDITIONS},
        "unseen_photos": [f"camera-{run['fold']}"],
        "photos": {f"camera-{run['fold']}": dict.fromkeys(CONDITIONS, 0.02)},
    }


def page(*entries: dict[str, Any]) -> str:
    return "\n".join(study_sections({"declared": [run.name for run in RUNS], "windows": 2, "runs": list(entries)}))


def test_bars_are_judged_on_the_right_side() -> None:
    evidence = Sources.read().evidence()
    judged = {bar.key: (bar, value, interval) for bar, value, interval in judge(evidence)}
    assert len(judged) == len(BARS)
    bar, value, interval = judged["detection_zoo_clean"]
    assert value == evidence["evaluation"]["detection_zoo"]["clean"]["auc"]
    assert interval == evidence["evaluation"]["detection_zoo"]["clean"]["auc_interval"]
    assert (bar.met(0.97), bar.met(0.969)) == (True, False)
    called = judged["worst_cameras_called_generated"][0]
    assert (called.met(3.0), called.met(3.1), called.text, called.shown(3.0)) == (True, False, "≤ 3 %", "3.0 %")
    assert judged["window_ms"][0].what == "time of a window on a CPU, median"
    assert headline({}) == {}
    assert headline(evidence).keys() >= COLUMNS.keys()


def test_a_figure_without_an_interval_is_a_figure() -> None:
    evidence = Sources.read().evidence()
    bare = {**evidence["evaluation"], "same_generator_zoo": {"mixed": {"auc": 0.93, "accuracy": 0.8}}}
    judged = {bar.key: (value, interval) for bar, value, interval in judge({"evaluation": bare})}
    assert judged["same_generator_zoo_auc"] == (0.93, None)
    assert judged["same_generator_zoo_clean_auc"] == (None, None)


def test_shares_of_photos_have_exact_intervals_and_intervals_are_counted() -> None:
    mixed = {
        "camera_called_generated_by_source": {"new": 0.02, "old": 3 / 18},
        "camera_pictures_by_source": {"new": 100, "old": 18},
    }
    covers = {str(i): {"interval_coverage": share} for i, share in enumerate((0.74, 0.75, 0.8, 0.85, 0.86))}
    evaluation = {"detection_real": {"mixed": mixed}, "parsing": {"mixed": {"continuous": covers}}}
    judged = {bar.key: found for bar, *found in judge({"evaluation": evaluation, "unseen_photos": ["new"]})}
    value, interval = judged["unseen_cameras_called_generated"]
    # Clopper and Pearson, of 2 in 100.
    assert (value, interval) == (pytest.approx(2.0), pytest.approx([0.243, 7.038], abs=1e-3))
    assert judged["worst_cameras_called_generated"] == [
        pytest.approx(16.667, abs=1e-3),
        pytest.approx([3.58, 41.42], abs=0.01),
    ]
    assert judged["intervals_that_cover"][0] == 3
    bar = next(bar for bar in BARS if bar.key == "interval_coverage")
    assert judged[bar.key][0] == pytest.approx(80)
    assert [bar.met(value) for value in (74.9, 75, 85, 85.1)] == [False, True, True, False]
    assert (bar.text, bar.better(79, 82), bar.better(78, 81)) == ("75 to 85 %", True, False)


def test_the_published_network_beside_ours_is_judged() -> None:
    ours, published = entry("fold-0"), entry("published", -0.1, published=1)
    published["figures"]["detection_real_clean"] = 0.9
    published["multiply_accumulates"] *= 7
    judged = {bar.key: value for bar, value, _ in judge({"study": {"runs": [ours, published]}})}
    # Fewer photos called generated are better.
    worse = {"detection_real_clean", "unseen_cameras_called_generated"}
    assert set(published_is_better(ours, published)) == worse
    assert judged["published_figures"] == pytest.approx(100 * (1 - 2 / len(COLUMNS)))
    assert judged["published_cost"] == 7
    assert "costs 7.0 times as much a pass, and is better in 2 of 10 figures" in page(ours, published)


def test_changes_tried_are_counted_once_for_all_their_figures() -> None:
    tried = json.loads((ROOT / "training/results/tried.json").read_text())
    figures = {entry["figure"] for entry in tried}
    unclaimed = [figure for figure in figures if not any(re.search(words, figure) for words in TRIED_FOR.values())]
    # Of no bar: families, files of few bits, and what an embedding or a logit is by itself.
    assert len(unclaimed) < 8, unclaimed
    bar = next(bar for bar in BARS if bar.key == "losses_f1_above_majority")
    made = [
        {"tried": words, "kept": kept, "figure": f"loss types, {i}"}
        for i, (words, kept) in enumerate((("a", True), ("a", True), ("b", False)))
    ]
    assert _tried_for(bar, made) == "2, 1 kept"
    assert _tried_for(bar, []) == "none"


def test_points_lost_look_at_the_worst_row_and_at_growing_errors() -> None:
    table = {"fp32": {"auc": 0.9, "continuous_l1": 0.10}, "int8": {"auc": 0.898, "continuous_l1": 0.104}}
    assert points_lost(table, "int8") == pytest.approx(0.4)
    assert points_lost(table, "fp32") == 0


def test_time_of_a_window_is_the_slowest_machines_best_precision(tmp_path: Path) -> None:
    def machine(name: str, sha256: str, *times: float) -> None:
        contenders = [{"network": "edgeparse", "runtime": "onnxruntime", "ms": {"all": {"p50": t}}} for t in times]
        contenders.append({"network": "published", "runtime": "onnxruntime", "ms": {"parsing": {"p50": 99.0}}})
        sections = {"peers": {"bundle_sha256": sha256, "contenders": contenders}}
        (tmp_path / f"{name}.json").write_text(json.dumps({"sections": sections}))

    assert window_ms(tmp_path.glob("*.json"), "ours") is None
    machine("a", "ours", 4.0, 2.5)
    machine("b", "ours", 9.0, 3.5)
    machine("c", "of another bundle", 50.0)
    assert window_ms(tmp_path.glob("*.json"), "ours") == 3.5


def test_a_study_that_was_not_run_says_so() -> None:
    assert "**Not yet run.**" in "\n".join(study_sections(None))
    assert "**Not yet run.**" in page()


def test_folds_have_their_mean_and_interval_and_what_they_left_out() -> None:
    text = page(*(entry(f"fold-{k}", shift, fold=k) for k, shift in enumerate((0.0, 0.1, 0.2, 0.3))))
    # Student's t of three degrees of freedom, 3.182, times the standard error.
    assert "| 0.500 | 0.600 | 0.700 | 0.800 | 0.650 ± 0.205 |" in text
    assert "| generator-3 | 3 | 0.700 | 0.700 | 0.700 |" in text
    assert "| camera-2 | 2 | 2.0% | 2.0% | 2.0% |" in text
    assert "Not yet run: published, published-adamw, published-windows, seed-2" in text


def test_networks_from_before_a_part_was_there_are_said_to_be() -> None:
    assert "before there was" not in page(entry("fold-0"))
    earlier = {key: value for key, value in asdict(NetworkConfig()).items() if key != "lines"}
    assert "Ours are networks of before there was `lines`" in page(entry("fold-0", network=earlier))


def test_lines_alone_have_a_mean_over_all_folds() -> None:
    assert list(lines_section(None)) == []
    generators = {"late": {"fold": 1, "auc": {"clean": 0.9}}, "early": {"fold": 0, "auc": {"clean": 0.6}}}
    text = "\n".join(lines_section({"seed": 1, "generators": generators}))
    assert "| early | 0 | 0.600 |\n| late | 1 | 0.900 |\n| mean |  | 0.750 |" in text


def test_ablations_are_beside_the_usual_network_and_published_ones_apart() -> None:
    text = page(
        entry("fold-0"),
        entry("fold-1", 0.1, fold=1),
        entry("published", -0.2, published=1),
        entry("published-windows", -0.1, published=1, windows=True),
        entry("seed-2", 0.12, fold=1, seed=2),
        entry("no-twins", 0.0, fold=1),
    )
    ablations = text[text.index("### Ablations") : text.index("### The published")]
    assert "| no-twins | 0.500 (-0.100) |" in ablations
    assert "published" not in ablations
    assert "seed-2" not in ablations
    beside = text[text.index("### The published") :]
    assert "| 0.500 | 0.300 | 0.400 |" in beside
    assert "| multiply-accumulates of a pass | 0.335 billion | 0.335 billion | 0.335 billion |" in beside
    assert "| passes for a picture | up to 2 | 1 | up to 8 |" in beside
    assert "| 0.600 | 0.620 |" in text[text.index("### Seeds") : text.index("### Ablations")]
    assert "seed 2" in text[text.index("### Seeds") : text.index("### Ablations")]


def test_what_is_beyond_luck_is_bold() -> None:
    """Of seeds with 0.60, 0.61 and 0.62 the next is between 0.56 and 0.66."""
    seeds = [entry("fold-1", 0.1, fold=1), *(entry(f"seed-{i}", 0.1 + 0.01 * (i - 1), fold=1, seed=i) for i in (2, 3))]
    text = page(*seeds, entry("no-twins", 0.055, fold=1), entry("no-codecs", 0.07, fold=1))
    ablations = text[text.index("### Ablations") :]
    assert "| no-twins | **0.555 (-0.045)** |" in ablations
    assert "| no-codecs | 0.570 (-0.030) |" in ablations
    assert "Worse than by luck: no-twins (_AUC zoo, clean_ and _AUC zoo, social media_ and" in ablations
    better = page(*seeds, entry("no-real", 0.2, fold=1))
    assert "Better than by luck: no-real (_AUC zoo, clean_ and _AUC zoo, social media_ and" in better
    assert "Worse than by luck: no-real (_unseen cameras called generated_)." in better
    two = page(*seeds[:2], entry("no-twins", -0.5, fold=1))
    assert "**" not in two[two.index("### Ablations") : two.index("| no-twins")]
    assert "Worse than" not in two


def test_what_was_tried_has_a_source() -> None:
    tried = json.loads((ROOT / "training/results/tried.json").read_text())
    assert tried
    for found in tried:
        assert set(found) == {"tried", "figure", "without", "with", "kept", "source"}
        assert found["source"]


def test_a_card_names_every_bundle_that_the_weights_come_from() -> None:
    def step(number: int | None, begun: dict[str, Any] | None) -> dict[str, Any]:
        return {
            "bundle": number and f"default-{number}",
            "steps": 9,
            "minutes": 1.0,
            "hardware": "x",
            "zoo_generators": 5,
            "begun": begun,
        }

    assert begun_table("default-4", step(4, None)) == ""
    rows = begun_table("default-4", step(4, step(3, step(None, None)))).splitlines()[2:]
    assert [row.split(" | ")[0] for row in rows] == ["| bundle default-4", "| bundle default-3", "| not shipped"]
    taught = begun_table(
        "default-4", step(4, step(3, None) | {"renewed": True, "taught_by": ["default-1", "default-2"]})
    )
    assert [row.split(" | ")[-2:] for row in taught.splitlines()[2:]] == [["", " |"], ["yes", "default-1, default-2 |"]]


def test_a_card_says_what_was_learnt() -> None:
    training = {"minutes": 4.0, "steps": 9, "hardware": "x", "seed": 1, "kept_step": 8}
    assert trained_sentences(training, "default-9").startswith("Trained for 4 minutes (9 steps) on x")
    assert "validation scored highest" in trained_sentences(training, "default-9")
    assert "last moving average" in trained_sentences(training | {"kept_step": 9}, "default-9")
    assert "looked at 3 times" in trained_sentences(training | {"passes": 3}, "default-9")
    assert "and 2 times more after heavier edits" in trained_sentences(
        training | {"passes": 7, "heavy_looks": 2}, "default-9"
    )
    assert "new codec chains" in trained_sentences(training | {"renewed": True}, "default-9")
    assert "25% had heavier edits" in trained_sentences(training | {"renewed": True, "heavy": 0.25}, "default-9")
    taught = training | {"taught_by": ["default-2", "default-3"]}
    assert "(default-2, default-3)." in trained_sentences(taught, "default-9")
    assert "(default-2, default-3); of the zoo's" in trained_sentences(taught | {"zoo_labelled": True}, "default-9")
    assert trained_sentences(training | {"steps": 0}, "default-9") == (
        "For default-9 only the embedding, the answers and their hidden layers were learnt, which are learnt last."
    )
