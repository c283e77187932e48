"""The gallery store: never corrupt, lost or mixed with another network's, tested with real processes and kills."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import sys
import time
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeparse import GalleryError, Parser, gallery_store
from edgeparse.bundle import Bundle, open_bundle
from edgeparse.gallery import Gallery, cohort_similarity
from edgeparse.gallery_store import MIN_PICTURES, GalleryStore
from tests.conftest import ANY, comparing, edit_manifest, noise

DIMENSION = Gallery.load(open_bundle().read("gallery.npz")).vectors.shape[1]
# A fresh interpreter for every process, as two shells would have: no lock or file handle is inherited.
SPAWN = multiprocessing.get_context("spawn")


def pictures(seed: int, count: int = MIN_PICTURES) -> np.ndarray:
    """Return unit vectors around one direction."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=DIMENSION) + 0.1 * rng.normal(size=(count, DIMENSION))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def other_network(bundle: Bundle) -> Bundle:
    return replace(bundle, version="other", hashes=dict.fromkeys(bundle.hashes, "f" * 64))


def store(folder: Path | str) -> GalleryStore:
    return GalleryStore(folder, open_bundle())


def test_what_was_enrolled_is_there(tmp_path: Path) -> None:
    mine = store(tmp_path / "not" / "yet")
    assert mine.entries() == []
    assert mine.gallery().names == ()
    entry = mine.add("my model", pictures(1, 12))
    assert (entry.name, entry.pictures) == ("my model", 12)
    again = store(tmp_path / "not" / "yet")
    assert again.entries() == [entry]
    assert np.array_equal(again.vectors("my model"), pictures(1, 12))
    gallery = again.gallery()
    assert gallery.nearest(pictures(1, 12)[0], 1)[0][1] > 0.95
    assert np.linalg.norm(gallery.vectors[0]) == pytest.approx(1, abs=1e-5)
    again.remove("my model")
    assert mine.entries() == []


def test_more_pictures_join_and_the_same_ones_do_not(tmp_path: Path) -> None:
    mine = store(tmp_path)
    first = mine.add("a", pictures(1))
    assert mine.add("a", pictures(1)).pictures == MIN_PICTURES
    grown = mine.add("a", pictures(2))
    assert grown.pictures == 2 * MIN_PICTURES
    assert grown.added == first.added


def test_too_few_pictures_and_bad_names(tmp_path: Path) -> None:
    mine = store(tmp_path)
    with pytest.raises(GalleryError, match="at least 10 different images, got 9"):
        mine.add("a", pictures(1, 9))
    with pytest.raises(GalleryError, match="got 1"):
        mine.add("a", np.repeat(pictures(1, 1), 30, axis=0))
    for name in ("", "  ", "a\nb", "x" * 101, "\x1b[31m"):
        with pytest.raises(ValueError, match="printable"):
            mine.add(name, pictures(1))
    assert mine.entries() == []


def test_file_is_plain_and_holds_no_paths(tmp_path: Path) -> None:
    mine = store(tmp_path)
    mine.add("a", pictures(1))
    with np.load(mine.file, allow_pickle=False) as file:
        assert file["vectors"].shape == (MIN_PICTURES, DIMENSION)
    with zipfile.ZipFile(mine.file) as archive:
        fields = json.loads(archive.read("gallery.json"))
    assert fields["network"] == open_bundle().network
    assert set(fields["generators"][0]) == {"name", "pictures", "added", "changed"}


def test_another_network_is_refused_with_what_to_do(tmp_path: Path) -> None:
    old = GalleryStore(tmp_path, other_network(open_bundle()))
    old.add("a", pictures(1))
    mine = store(tmp_path)
    assert mine.entries() == []
    assert mine.gallery().names == ()
    assert mine.other_networks() == {"default-other": ["a"]}
    with pytest.raises(GalleryError, match=r"enrolled with the network of bundle default-other.*gallery add"):
        mine.vectors("a")
    old.export_file(tmp_path / "out.npz")
    with pytest.raises(GalleryError, match=r"must belong to the network.*--bundle"):
        mine.import_file(tmp_path / "out.npz")
    mine.file.write_bytes(old.file.read_bytes())
    with pytest.raises(GalleryError, match="move the file away"):
        mine.entries()


def test_both_precisions_of_a_bundle_share_a_gallery() -> None:
    bundle = open_bundle()
    assert bundle.network == bundle.hashes["model.onnx"] == replace(bundle, default_variant="fp32").network


@pytest.mark.skipif(sys.platform == "win32", reason="links, pipes and masks are POSIX's")
def test_export_writes_to_what_it_names(tmp_path: Path) -> None:
    mine = store(tmp_path / "mine")
    mine.add("a", pictures(1))
    new, link, pipe = tmp_path / "new.npz", tmp_path / "link.npz", tmp_path / "pipe.npz"
    before = os.umask(0o022)
    try:
        mine.export_file(new)
        assert new.stat().st_mode & 0o777 == 0o644
        new.chmod(0o600)
        mine.export_file(new)
        assert new.stat().st_mode & 0o777 == 0o600
    finally:
        os.umask(before)
    (tmp_path / "elsewhere").mkdir()
    link.symlink_to(tmp_path / "elsewhere" / "target.npz")
    mine.export_file(link)
    assert link.is_symlink()
    store(tmp_path / "yours").import_file(tmp_path / "elsewhere" / "target.npz")
    os.mkfifo(pipe)
    # Larger than what is written, so that the pipe needs no second process; reading and writing, so that neither end waits.
    end = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
    try:
        mine.export_file(pipe)
        assert os.read(end, 4) == b"PK\x03\x04"
    finally:
        os.close(end)
    assert pipe.is_fifo()


def test_export_and_import(tmp_path: Path) -> None:
    mine, yours = store(tmp_path / "mine"), store(tmp_path / "yours")
    for seed, name in enumerate("abc"):
        mine.add(name, pictures(seed))
    yours.add("a", pictures(7))
    out = tmp_path / "out.npz"
    assert [entry.name for entry in mine.export_file(out, ["a", "c"])] == ["a", "c"]
    assert [(entry.name, entry.pictures) for entry in yours.import_file(out)] == [("a", 20), ("c", 10)]
    assert [entry.name for entry in yours.entries()] == ["a", "c"]
    assert np.array_equal(yours.vectors("c"), mine.vectors("c"))
    with pytest.raises(GalleryError, match="no generator 'z'"):
        mine.export_file(out, ["z"])
    with pytest.raises(GalleryError, match="no generator is enrolled"):
        store(tmp_path / "empty").export_file(out)
    with pytest.raises(GalleryError, match="no file"):
        mine.import_file(tmp_path / "none.npz")


def test_an_import_of_one_picture_ten_times_is_refused_and_leaves_the_gallery(tmp_path: Path) -> None:
    mine, yours = store(tmp_path / "mine"), store(str(tmp_path / "yours"))
    mine.add("a", pictures(1))
    yours.add("b", pictures(2))
    out = tmp_path / "out.npz"
    content = replace(gallery_store._load(mine.file), vectors={"a": np.repeat(pictures(1)[:1], MIN_PICTURES, 0)})
    out.write_bytes(gallery_store._dump(content))
    with pytest.raises(GalleryError, match="a must have at least 10 different images, got 1"):
        yours.import_file(str(out))
    assert [entry.name for entry in yours.entries()] == ["b"]


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    mine = store(tmp_path)
    mine.add("a", pictures(1))
    whole = mine.file.read_bytes()
    for data in (b"", b"junk", whole[:-40], whole[: len(whole) // 2]):
        mine.file.write_bytes(data)
        with pytest.raises(GalleryError, match="damaged"):
            mine.entries()
        with pytest.raises(GalleryError, match="damaged"):
            mine.add("b", pictures(2))
        assert mine.file.read_bytes() == data

    def forged(vectors: np.ndarray | None = None, **changes: object) -> bytes:
        fields = {"schema": 1, "network": open_bundle().network, "bundle": "b", "generators": []} | changes
        held = pictures(1) if vectors is None else vectors
        np.savez(tmp_path / "forged.npz", vectors=held, owner=np.zeros(len(held), np.int32))
        with zipfile.ZipFile(tmp_path / "forged.npz", "a") as archive:
            archive.writestr("gallery.json", json.dumps(fields))
        return (tmp_path / "forged.npz").read_bytes()

    date = "2026-01-01T00:00:00+00:00"
    entry = {"name": "a", "pictures": 10, "added": date, "changed": date}
    mine.file.write_bytes(forged(generators=[entry]))
    assert len(mine.entries()) == 1
    for data, words in (
        (forged(schema=2), "must have schema 1, got 2"),
        (forged(generators=[entry | {"pictures": 3}]), "must have 3 vectors, got 10"),
        (forged(generators=[entry | {"name": "\x1b[2J"}]), "printable"),
        (forged(generators=[{"name": "a"}]), "damaged"),
        (forged(generators=[entry | {"added": 20260101}]), "damaged"),
        (forged(generators=[entry | {"changed": "\x1b[2J"}]), "damaged"),
        (forged(generators=[entry], bundle="\x1b[2J"), "bundle must be printable"),
        (forged(generators=[entry, entry]), "distinct"),
        (forged(generators=[]), "must belong to a generator"),
        (forged(2 * pictures(1), generators=[entry]), "unit length"),
        (forged(np.full((10, 4), np.nan), generators=[entry]), "unit length"),
        (forged(pictures(1, 3), generators=[entry | {"pictures": 3}]), "at least 10 different images, got 3"),
    ):
        mine.file.write_bytes(data)
        with pytest.raises(GalleryError, match=words):
            mine.entries()


def test_embeddings_of_another_size_are_refused_before_they_are_kept(tmp_path: Path) -> None:
    """Otherwise, after one import, every later check would fail."""
    theirs, mine = store(tmp_path / "theirs"), store(tmp_path / "mine")
    theirs.add("a", np.eye(10, 16, dtype=np.float32))
    theirs.export_file(tmp_path / "out.npz")
    with pytest.raises(GalleryError, match=f"embeddings of {DIMENSION} dimensions like {open_bundle().label}, got 16"):
        mine.import_file(tmp_path / "out.npz")
    assert mine.entries() == []
    with pytest.raises(GalleryError, match="same dimension, got 12 and 16"):
        theirs.add("b", np.eye(10, 12, dtype=np.float32))
    assert [entry.name for entry in theirs.entries()] == ["a"]
    with pytest.raises(GalleryError, match="unit length"):
        mine.add("a", 3 * pictures(1))
    with pytest.raises(GalleryError, match="enrol the generators again"):
        Parser(gallery=tmp_path / "theirs")


def test_a_folder_that_cannot_be_looked_into(tmp_path: Path) -> None:
    with pytest.raises(GalleryError, match="cannot be read"):
        store(tmp_path / ("x" * 300)).entries()


@pytest.mark.parametrize("error", [MemoryError, zlib.error, NotImplementedError, RuntimeError])
def test_whatever_a_forged_archive_raises_is_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    mine = store(tmp_path)
    mine.add("a", pictures(1))

    def stumble(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(np, "load", stumble)
    with pytest.raises(GalleryError, match=f"damaged: {error.__name__}"):
        mine.entries()


def test_a_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = store(tmp_path)
    mine.add("a", pictures(1))
    monkeypatch.setattr(gallery_store, "MAX_BYTES", mine.file.stat().st_size - 1)
    with pytest.raises(GalleryError, match="must be at most"):
        mine.entries()
    with zipfile.ZipFile(mine.file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("gallery.json", " " * 100_000)
    with pytest.raises(GalleryError, match="must unpack to"):
        mine.entries()


@pytest.mark.skipif(sys.platform == "win32", reason="permissions are POSIX's")
@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(GalleryError, match="cannot be written"):
        store(tmp_path / "closed").add("a", pictures(1))


def test_a_file_in_the_folders_place(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(GalleryError, match="cannot be"):
        store(tmp_path / "file" / "gallery").add("a", pictures(1))


def _hold(folder: str, held: object) -> None:
    with store(Path(folder))._locked():
        held.set()  # type: ignore[attr-defined]
        time.sleep(60)


def test_a_dead_holder_holds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = SPAWN.Event()
    process = SPAWN.Process(target=_hold, args=(str(tmp_path), held))
    process.start()
    assert held.wait(60)
    monkeypatch.setattr(gallery_store, "LOCK_SECONDS", 0.2)
    with pytest.raises(GalleryError, match="another process"):
        store(tmp_path).add("a", pictures(1))
    process.kill()
    process.join()
    assert store(tmp_path).add("a", pictures(1)).pictures == MIN_PICTURES


def _write(folder: str, writer: int, count: int) -> None:
    for i in range(count):
        store(Path(folder)).add(f"{writer}-{i}", pictures(100 * writer + i))


def test_two_writers_lose_nothing(tmp_path: Path) -> None:
    processes = [SPAWN.Process(target=_write, args=(str(tmp_path), writer, 15)) for writer in (1, 2)]
    for process in processes:
        process.start()
    seen = 0
    while any(process.is_alive() for process in processes):
        # A reader never waits, and never meets half a file.
        seen = max(seen, len(store(tmp_path).entries()))
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert {entry.name for entry in store(tmp_path).entries()} == {f"{w}-{i}" for w in (1, 2) for i in range(15)}
    assert seen > 0


def _write_for_ever(folder: str, told: object) -> None:
    i = 0
    while True:
        store(Path(folder)).add(f"{os.getpid()}-{i}", pictures(i))
        told.send(f"{os.getpid()}-{i}")  # type: ignore[attr-defined]
        i += 1


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX's")
def test_killed_writers_leave_the_gallery_whole(tmp_path: Path) -> None:
    rng = random.Random(0)
    promised: set[str] = set()
    for _ in range(8):
        listen, told = SPAWN.Pipe(duplex=False)
        process = SPAWN.Process(target=_write_for_ever, args=(str(tmp_path), told))
        process.start()
        told.close()
        promised.add(listen.recv())
        time.sleep(rng.uniform(0, 0.05))
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        while True:
            try:
                promised.add(listen.recv())
            except EOFError:
                break
        names = {entry.name for entry in store(tmp_path).entries()}
        assert promised <= names
        # At most the one that was being written when its writer died was not promised.
        assert len(names - promised) <= 8
    store(tmp_path).add("after", pictures(1))
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".lock", ".npz"]


def test_a_kill_between_writing_and_renaming_keeps_the_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = store(tmp_path)
    mine.add("a", pictures(1))
    before = mine.file.read_bytes()

    def die(_self: Path, _target: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", die)
    with pytest.raises(KeyboardInterrupt):
        mine.add("b", pictures(2))
    assert mine.file.read_bytes() == before
    assert not list(tmp_path.glob(".gallery-*.npz.*"))


def test_parser_names_what_was_enrolled(tmp_path: Path, bundle_copy: Path) -> None:
    comparing(bundle_copy, known=ANY)
    plain = Parser(bundle_copy)
    shown = [noise(160, 160, seed) for seed in range(MIN_PICTURES)]
    vectors = np.stack([plain.embed(picture)[1] for picture in shown])
    GalleryStore(tmp_path / "gallery", plain.bundle).add("noise maker", vectors)
    knowing = Parser(bundle_copy, gallery=tmp_path / "gallery")
    assert knowing.enrolled == {"noise maker"}
    assert len(knowing.gallery.names) == len(plain.gallery.names) + 1
    report = knowing.parse(noise(160, 160, 99), candidates=5)
    assert report.generator is not None
    assert report.generator.name == "noise maker"
    assert len(report.generator.candidates) == 5
    before = plain.parse(noise(160, 160, 99))
    assert before.generator is not None
    assert before.generator.name != "noise maker"


def test_the_threshold_of_an_enrolled_generator_depends_on_the_image(tmp_path: Path, bundle_copy: Path) -> None:
    def change(fields: dict[str, Any]) -> None:
        fields["calibration"] |= {"known": 0.9, "enrolled": 0.1, "cohort_weight": 0.5}

    edit_manifest(bundle_copy, change)
    plain = Parser(bundle_copy)
    vectors = np.stack([plain.embed(noise(160, 160, seed))[1] for seed in range(MIN_PICTURES)])
    GalleryStore(tmp_path / "gallery", plain.bundle).add("noise maker", vectors)
    knowing = Parser(bundle_copy, gallery=tmp_path / "gallery")
    similarities = []
    for picture in (noise(160, 160, 99), noise(160, 160, 98) // 2):
        report, vector = knowing.embed(picture)
        assert vector is not None
        near = float(cohort_similarity(knowing.gallery.cohort, vector))
        assert report.generator is not None
        found = {candidate.name: candidate.threshold for candidate in report.generator.candidates}
        assert found.pop("noise maker") == pytest.approx(0.1 + 0.5 * near, abs=1e-5)
        assert set(found.values()) == {0.9}
        similarities.append(near)
    assert similarities[0] != pytest.approx(similarities[1], abs=1e-3)


def test_an_enrolled_name_goes_before_the_bundles() -> None:
    below = Gallery(("a", "b"), np.eye(2, dtype=np.float32))
    above = Gallery(("b",), np.array([[0.6, 0.8]], np.float32))
    both = above.over(below)
    assert both.names == ("b", "a")
    assert np.allclose(both.vectors, [[0.6, 0.8], [1, 0]])
    nothing = Gallery.empty()
    for both, one in ((nothing.over(below), below), (above.over(nothing), above)):
        assert (both.names, both.vectors.tolist()) == (one.names, one.vectors.tolist())


def test_a_refused_generator_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(GalleryError):
        store(tmp_path / "gallery").add("a", pictures(1, MIN_PICTURES - 1))
    assert not list(tmp_path.rglob("*"))
