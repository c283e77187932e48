"""Engines on disk: keys, sidecars, locks, and mismatches."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import re
import stat
import time
from dataclasses import replace
from pathlib import Path

import pytest

from edgeparse import safe_files
from edgeparse.backends.tensorrt import engine_cache
from edgeparse.backends.tensorrt.engine_cache import (
    EngineCache,
    EngineKey,
    EngineRecord,
    EngineTarget,
    TensorSpec,
    mismatch_reason,
)
from edgeparse.errors import (
    EngineDamagedError,
    EngineError,
    EngineMismatchError,
    EngineMissingError,
    EngineUntrustedError,
)

PLAN = b"a compiled engine"
KEY = EngineKey(
    onnx="a" * 64,
    library="tensorrt",
    version="10.3.0.30",
    capabilities=("sm87",),
    gpu="Orin",
    system="linux-aarch64",
    precision="fp16",
    batches=(1, 8, 32),
)
PLACE = EngineTarget("tensorrt", "10.3.0.30", "sm87", "Orin", "linux-aarch64", frozenset(["a" * 64, "b" * 64]))


def record(key: EngineKey = KEY, plan: bytes = PLAN, built: str = "2026-01-01T00:00:00+00:00") -> EngineRecord:
    tensors = (
        TensorSpec("windows", True, "uint8", (-1, 128, 128, 3)),
        TensorSpec("generated", False, "float", (-1, 1)),
    )
    return EngineRecord(key, hashlib.sha256(plan).hexdigest(), len(plan), tensors, "default-1", 1.5, built)


def test_a_record_survives_its_sidecar(tmp_path: Path) -> None:
    store = EngineCache(tmp_path / "new" / "folder")
    store.write(record(), PLAN)
    assert store.records() == [record()]
    assert store.get(KEY) == record()
    assert store.read(record()) == PLAN
    assert stat.S_IMODE(store.folder.stat().st_mode) == 0o700
    assert sorted(path.name for path in store.folder.iterdir()) == [f"{KEY.digest}.json", f"{KEY.digest}.plan"]


@pytest.mark.parametrize(
    "change",
    [
        {"onnx": "c" * 64},
        {"library": "tensorrt-rtx"},
        {"version": "10.3.0.31"},
        {"capabilities": ("sm86",)},
        {"gpu": "Orin Nano"},
        {"system": "linux-x86_64"},
        {"precision": "fp32"},
        {"batches": (1, 8, 16)},
        {"workspace": 256},
        {"dla": 0},
    ],
)
def test_everything_an_engine_depends_on_is_in_its_key(change: dict[str, object]) -> None:
    assert replace(KEY, **change).digest != KEY.digest


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"onnx": "c" * 64}, "another model file"),
        ({"library": "tensorrt-rtx"}, "an engine of tensorrt-rtx"),
        ({"version": "10.3.0.31"}, r"compiled with tensorrt 10\.3\.0\.31, but 10\.3\.0\.30 is installed"),
        ({"system": "linux-x86_64"}, "compiled for linux-x86_64, but this is linux-aarch64"),
        ({"capabilities": ("sm86", "sm89")}, "compiled for sm86, sm89, but this GPU is sm87"),
        ({"gpu": "Orin Nano"}, "compiled for Orin Nano, but this GPU is Orin"),
    ],
)
def test_an_engine_made_for_something_else_is_refused(tmp_path: Path, change: dict[str, object], reason: str) -> None:
    key = replace(KEY, **change)
    found = mismatch_reason(key, PLACE)
    assert found is not None
    assert re.search(reason, found)
    store = EngineCache(tmp_path)
    store.write(record(key), PLAN)
    with pytest.raises((EngineMismatchError, EngineMissingError), match="edgeparse build"):
        store.find(PLACE, "edgeparse build --backend tensorrt")


def test_an_engine_for_several_gpus_fits_each() -> None:
    key = replace(KEY, capabilities=("sm86", "sm89"), gpu=None)
    assert mismatch_reason(key, replace(PLACE, capability="sm89", gpu="any")) is None


def test_the_latest_engine_that_fits_is_found(tmp_path: Path) -> None:
    store = EngineCache(tmp_path)
    old = record(built="2026-01-01T00:00:00+00:00")
    new = record(replace(KEY, precision="int8", onnx="b" * 64), built="2026-02-01T00:00:00+00:00")
    other = record(replace(KEY, version="11.0"), built="2026-03-01T00:00:00+00:00")
    for entry in (new, old, other):
        store.write(entry, PLAN)
    assert store.find(PLACE, "build") == new
    assert store.find(PLACE, "build", "fp16") == old
    with pytest.raises(EngineMissingError, match="no fp32 engine of tensorrt"):
        store.find(PLACE, "build", "fp32")


def test_nothing_was_compiled_yet(tmp_path: Path) -> None:
    with pytest.raises(EngineMissingError, match="Run `edgeparse build --backend tensorrt`"):
        EngineCache(tmp_path / "none").find(PLACE, "edgeparse build --backend tensorrt")


def test_a_gpu_goes_before_a_dla_core_and_the_preferred_precision_before_the_latest(tmp_path: Path) -> None:
    store = EngineCache(tmp_path)
    changes = ({}, {"precision": "int8", "onnx": "b" * 64}, {"dla": 0, "batches": (8, 8, 8)})
    gpu, small, dla = (
        record(replace(KEY, **change), built=f"2026-0{month}-01T00:00:00+00:00")  # type: ignore[arg-type]
        for month, change in enumerate(changes, 1)
    )
    store.write(dla, PLAN)
    assert store.find(PLACE, "build", preferred="fp16") == dla
    for entry in (gpu, small):
        store.write(entry, PLAN)
    assert store.find(PLACE, "build", preferred="fp16") == gpu
    assert store.find(PLACE, "build", preferred="fp32") == small
    assert store.find(PLACE, "build", "int8", preferred="fp16") == small


@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_a_damaged_engine_is_not_read(tmp_path: Path, damage: str) -> None:
    store = EngineCache(tmp_path)
    store.write(record(), PLAN)
    path = tmp_path / record().file
    if damage == "changed":
        path.write_bytes(PLAN[:-1] + b"!")
    else:
        path.unlink()
    with pytest.raises(EngineDamagedError, match=record().file):
        store.read(record())


@pytest.mark.skipif(os.name != "posix", reason="owners and permissions are POSIX's")
@pytest.mark.parametrize("which", ["plan", "json", "folder"])
@pytest.mark.parametrize("wrong", ["mode", "owner"])
def test_an_engine_that_others_may_have_written_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str, wrong: str
) -> None:
    store = EngineCache(tmp_path / "engines")
    store.write(record(), PLAN)
    path = store.folder if which == "folder" else store.folder / f"{KEY.digest}.{which}"
    if wrong == "mode":
        path.chmod(path.stat().st_mode | 0o002)
    elif os.geteuid() == 0:
        os.chown(path, 12345, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(EngineUntrustedError, match="engine"):
        store.read(record())
    if which == "folder":
        with pytest.raises(EngineUntrustedError, match=engine_cache.FOLDER_VARIABLE):
            store.write(record(), PLAN)


def test_a_folder_that_cannot_be_read_is_an_engine_error(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=engine_cache.FOLDER_VARIABLE):
        EngineCache(tmp_path / ("x" * 300)).records()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 2}', "null"])
def test_a_sidecar_that_is_none_is_passed_over(tmp_path: Path, text: str) -> None:
    (tmp_path / f"{KEY.digest}.json").write_text(text)
    assert EngineCache(tmp_path).records() == []


def test_a_sidecar_under_another_name_is_passed_over(tmp_path: Path) -> None:
    """The hash of an edited key differs from the file name."""
    store = EngineCache(tmp_path)
    store.write(record(), PLAN)
    path = tmp_path / f"{KEY.digest}.json"
    data = json.loads(path.read_text())
    data["key"]["version"] = "10.16"
    path.write_text(json.dumps(data))
    assert store.records() == []


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    safe_files.atomic_write(path, b"old")

    def full(_self: Path, _target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space"):
        safe_files.atomic_write(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_written_to_names_the_variable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = EngineCache(tmp_path / "file" / "engines")
    with pytest.raises(EngineError, match=engine_cache.FOLDER_VARIABLE):
        store.write(record(), PLAN)
    with pytest.raises(EngineError, match=engine_cache.FOLDER_VARIABLE), store.lock(KEY):
        pass


def test_the_folder_can_be_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(engine_cache.FOLDER_VARIABLE, str(tmp_path))
    assert EngineCache().folder == tmp_path
    monkeypatch.delenv(engine_cache.FOLDER_VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert EngineCache().folder.name == "engines"


def _hold(folder: Path, log: Path) -> None:
    with EngineCache(folder).lock(KEY):
        with log.open("a") as file:
            file.write("in\n")
        time.sleep(0.2)
        with log.open("a") as file:
            file.write("out\n")


def test_two_processes_do_not_compile_the_same_engine_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    log = tmp_path / "log"
    workers = [context.Process(target=_hold, args=(tmp_path / "engines", log)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert log.read_text().split() == ["in", "out"] * 3


def test_what_a_killed_writer_left_is_cleared_away(tmp_path: Path) -> None:
    left = tmp_path / f".{KEY.digest}.plan.0123"
    left.write_bytes(b"half")
    with EngineCache(tmp_path).lock(KEY):
        assert not left.exists()


def test_a_lock_that_is_never_freed_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_cache, "LOCK_SECONDS", 0.05)
    with (
        EngineCache(tmp_path).lock(KEY),
        pytest.raises(EngineError, match="another process has been compiling"),
        EngineCache(tmp_path).lock(KEY),
    ):
        pass
