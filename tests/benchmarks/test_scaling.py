"""Scaling, memory and the command line of the benchmarks."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks import inputs, memory, results, scaling
from benchmarks.__main__ import main
from benchmarks.worker import Worker, WorkerError
from edgeparse import Parser
from edgeparse.bundle import open_bundle


def test_scaling_measures_each_point(tmp_path: Path) -> None:
    measured = scaling.Scaling(open_bundle(), "cpu", 0.0, tmp_path, lambda _text: None)
    (size,) = measured.sizes((0.1,))
    assert size["megapixels"] == 0.1
    assert set(size["ms"]) == {"report", "decode", "windows", "network", "postprocess"}
    assert sum(scaling.shares(size).values()) == pytest.approx(1)
    assert 20 < size["peak_memory_mb"] < 300
    (batch,) = measured.batches((4,))
    assert batch["per_second"] == pytest.approx(4e3 / batch["ms"]["network"]["p50"])


def test_processes_run_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "TYPICAL", 0.05)
    (two,) = scaling.Scaling(open_bundle(), "cpu", 0.0, tmp_path, lambda _text: None).processes((2,))
    assert two["ms"]["report"]["samples"] == 6
    assert two["per_second"] > 0


def test_failing_workload_says_why() -> None:
    with pytest.raises(WorkerError, match="ImageError"):
        Worker({"kind": "report", "picture": str(inputs.SAMPLES / "README.md"), "settings": {"backend": "cpu"}})


def test_memory_is_read(parser: Parser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "EVERY", 2)
    monkeypatch.setattr(memory, "MEGAPIXELS", (0.02, 0.03))
    found = memory.measure(parser, 12, settled=4)
    assert [number for number, _ in found["resident_mb"]] == [2, 4, 6, 8, 10, 12]
    assert (found["bundle"], found["bundle_sha256"]) == (parser.bundle.label, parser.bundle.sha256)
    assert abs(found["growth_mb"]) < 100
    with pytest.raises(ValueError, match="at least"):
        memory.measure(parser, 5, settled=4)


def test_memory_growth_compares_both_ends() -> None:
    assert memory.growth([100.0] * 10 + [101.0] * 90 + [103.0] * 10) == pytest.approx(3, abs=1)
    assert memory.growth([100.0, 180.0, 100.0, 100.0]) == 0


def test_command_stores_results(tmp_path: Path) -> None:
    arguments = ["report", "--machine", "m", "--results", str(tmp_path), "--seconds", "0", "--cold", "0"]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    section = results.load(tmp_path / "m.json")["sections"]["report"]
    assert section["setup"]["pictures"][0]["source"] == "synthetic.jpg"
    assert section["report_ms"]["samples"] >= 100
    assert CliRunner().invoke(main, ["cpu", "--only", "nobody"]).exit_code == 2


def test_contributing_names_every_command() -> None:
    text = (inputs.ROOT / "CONTRIBUTING.md").read_text().partition("## Benchmarks")[2].partition("\n## ")[0]
    assert {name for name in main.commands if f"`{name}`" in text} == set(main.commands) - {"all"}
    assert "python -m benchmarks all --machine" in text
