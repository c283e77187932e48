"""The quick benchmark measures something, and says what it rests on."""

from __future__ import annotations

import json

from click.testing import CliRunner

from benchmarks.quick import main


def test_quick_benchmark() -> None:
    done = CliRunner().invoke(main, ["--runs", "5"], catch_exceptions=False)
    assert done.exit_code == 0
    result = json.loads(done.stdout)
    for variant in ("fp32", "int8"):
        assert 0 < result["window"][variant]["median_ms"] <= result["window"][variant]["p90_ms"]
    assert 20 < result["cold_start"]["peak_mb"] < 250
    assert result["cold_start"]["runs"] == 3
