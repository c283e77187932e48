"""The number of cores that a process may use."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeparse import system


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu.max": "what"}, None),
        ({}, None),
    ],
)
def test_a_containers_share_of_the_cores(tmp_path: Path, files: dict[str, str], cores: int | None) -> None:
    (tmp_path / "cpu").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert system._cpu_quota(tmp_path) == cores


def test_never_more_than_the_machine_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "_cpu_quota", lambda: 10_000)
    assert 1 <= system.usable_cores() < 10_000
    monkeypatch.setattr(system, "_cpu_quota", lambda: 1)
    assert system.usable_cores() == 1
