"""BENCHMARKS.md and the plots show what was measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks import plots, render, results
from benchmarks.__main__ import DOCUMENT, main
from edgeparse.bundle import open_bundle


def rendered(stored: dict[str, Any]) -> str:
    return render.render_document([stored], open_bundle())


def test_document_is_rendered_from_the_results() -> None:
    stored = [results.load(file) for file in sorted(results.FOLDER.glob("*.json"))]
    assert DOCUMENT.read_text() == render.render_document(stored, open_bundle())
    assert len(DOCUMENT.read_text().split()) <= 2500


def test_document_has_the_figures(stored: dict[str, Any]) -> None:
    text = rendered(stored)
    for figures in (
        "| ≥ 100x | 101x (104x) |",
        "| ≥ 70x | **65x** (**67x**) |",
        "| ≤ 45 ms | 30.5 ms |",
        "| published | pytorch | fp32 | 250 | 101.25 |  |",
        "| edgeparse | onnxruntime | int8 | 2.5 | 1.00 | 0.811 / 0.628 |",
        "edgeparse / openvino / bf16",
        "| `merge_heads` | 1.050 (1.000 to 1.100) |",
        "| 48 | 30, 80%, 120 |",
        "1.95 times",
        "+0.4 MB over 20000 pictures",
        "p90 2.75 ms | valid |",
        "other processes kept 1.0 cores busy",
    ):
        assert figures in text, figures
    for line in text.splitlines():
        assert not line.startswith("|") or line.endswith("|")


def test_render_reads_files_and_draws(stored: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "a-machine.json").write_text(json.dumps(stored))
    done = CliRunner().invoke(main, ["render", "--results", str(tmp_path), "-o", str(tmp_path / "BENCHMARKS.md")])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "BENCHMARKS.md").read_text() == rendered(stored)
    assert {path.name for path in tmp_path.glob("*.svg")} == {"a-machine-cpu.svg", "a-machine-scaling.svg"}


def test_document_names_bundles(stored: dict[str, Any]) -> None:
    bundle, sections = open_bundle(), stored["sections"]
    shipped = {"bundle": bundle.label, "bundle_sha256": bundle.sha256}
    sections["cpu"] |= shipped
    sections["graph_passes"] |= {"bundle": bundle.label}
    sections["report"]["setup"] |= shipped | {"bundle_sha256": "0" * 64}
    sections["mlperf_load"]["performance"][0]["bundle"] = "default-1"
    text = rendered(stored)
    assert f"| {bundle.label}, not recorded, default-1 |" in text
    assert f"{bundle.label}, which is shipped now: a-machine" in text
    stored["sections"] = {"cpu": sections["cpu"], "graph_passes": sections["graph_passes"]}
    assert "shipped now" not in rendered(stored)
    stored["sections"] = {"report": sections["report"]}
    assert "shipped now" in rendered(stored), "another bundle of the same name"


def test_machine_with_one_section(stored: dict[str, Any], tmp_path: Path) -> None:
    stored["sections"] = {"memory": stored["sections"]["memory"]}
    assert "## Memory over time" in rendered(stored)
    assert plots.draw(stored, tmp_path) == []


def test_drawing_twice_gives_the_same_file(stored: dict[str, Any], tmp_path: Path) -> None:
    first = [file.read_bytes() for file in plots.draw(stored, tmp_path)]
    assert first == [file.read_bytes() for file in plots.draw(stored, tmp_path)]
    assert first


def test_saving_keeps_other_sections(tmp_path: Path) -> None:
    results.save("m", "memory", {"growth_mb": 1.0}, tmp_path)
    file = results.save("m", "cpu", {"rounds": 3}, tmp_path)
    sections = results.load(file)["sections"]
    assert sections["memory"]["growth_mb"] == 1.0
    assert sections["cpu"]["rounds"] == 3
    assert sections["cpu"]["machine"]["cores"] >= 1
    file.write_text('{"schema": 0}')
    with pytest.raises(ValueError, match="results of schema"):
        results.load(file)
