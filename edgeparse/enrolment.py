"""The user's own known generators: embeddings of their pictures in one file a network, changed only whole and by one process at a time.

The file is a NumPy archive (`vectors` float32[P, D], `owner` int32[P]) that also holds `gallery.json`: names, dates, and the network whose
embeddings these are. It holds neither pictures nor their paths. An exported file has the same form.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeparse import files
from edgeparse.bundle import Bundle
from edgeparse.errors import GalleryError
from edgeparse.gallery import MAX_BYTES, Gallery, centre, must_be_small, unit_length
from edgeparse.text import is_name

SCHEMA = 1
# Fewer pictures do not tell a generator's traces from what the pictures happen to show.
MIN_PICTURES = 10
MAX_NAME = 100
LOCK_SECONDS = 30.0
# Two embeddings closer than this are of one picture.
SAME_PICTURE = 1 - 1e-6

_FILE = re.compile(r"gallery-[0-9a-f]{16}\.npz")


@dataclass(frozen=True)
class Entry:
    """One enrolled generator; times are ISO 8601, UTC."""

    name: str
    pictures: int
    added: str
    changed: str


@dataclass(frozen=True)
class _Content:
    """A whole file: the embeddings' network, a readable name of its bundle, and the entries with their vectors, float32[P, D]."""

    network: str
    bundle: str
    entries: dict[str, Entry]
    vectors: dict[str, NDArray[np.float32]]


def user_folder() -> Path:
    """Where this user's enrolled generators are kept, as the operating system wants it."""
    from platformdirs import user_data_path

    return user_data_path("edgeparse", appauthor=False)


class Store:
    """The generators enrolled in a folder for one bundle's network.

    Reading takes no lock: a file is replaced whole. Every method may raise `GalleryError`: the file is damaged or of another network,
    the folder cannot be written, or another process held the gallery for half a minute.
    """

    def __init__(self, folder: Path | str, bundle: Bundle) -> None:
        self._folder = Path(folder)
        self._bundle = bundle
        self._network = bundle.network
        self._label = bundle.label
        self._file = self._folder / f"gallery-{bundle.network[:16]}.npz"

    @property
    def file(self) -> Path:
        """Where they are kept; it exists once a generator was enrolled."""
        return self._file

    def entries(self) -> list[Entry]:
        """The enrolled generators, by name."""
        content = self._read()
        return [content.entries[name] for name in sorted(content.entries)]

    def vectors(self, name: str) -> NDArray[np.float32]:
        """The embeddings of a generator's pictures, float32[P, D]."""
        content = self._read()
        self._require(content, name)
        return content.vectors[name]

    def gallery(self) -> Gallery:
        """A vector a generator, to be laid over the bundle's own gallery."""
        content = self._read()
        if not content.entries:
            return Gallery.empty()
        names = tuple(sorted(content.entries))
        return Gallery(names, np.stack([centre(content.vectors[name]) for name in names]))

    def others(self) -> dict[str, list[str]]:
        """Names that were enrolled with other networks, by the bundle that had it: of no use to this one."""
        found: dict[str, list[str]] = {}
        try:
            paths = sorted(self._folder.glob("gallery-*.npz"))
        except OSError as error:
            raise _unreadable(self._folder, error) from error
        for path in paths:
            if path != self._file and _FILE.fullmatch(path.name):
                # A damaged file of another network is no concern of this one.
                with suppress(GalleryError):
                    content = _load(path)
                    if content.entries:
                        found.setdefault(content.bundle, []).extend(sorted(content.entries))
        return found

    def add(self, name: str, vectors: NDArray[np.float32]) -> Entry:
        """Enrol a generator by its pictures' unit embeddings, float32[P, D], or add pictures to one that is enrolled.

        Pictures that it already has are left out.

        Raises:
            GalleryError: also where it would have fewer than `MIN_PICTURES` pictures, or the vectors have not unit length.
            ValueError: the name is empty, too long or not printable.
        """
        check_name(name)
        if not unit_length(vectors):
            raise GalleryError(f"the embeddings of {name} have not unit length; give them as Parser.embed gives them")

        def change(content: _Content) -> None:
            old = content.vectors.get(name)
            merged = _merge(old, vectors)
            if len(merged) < MIN_PICTURES:
                raise GalleryError(_too_few(name, len(merged)))
            now = _now()
            added = content.entries[name].added if old is not None else now
            content.entries[name] = Entry(name, len(merged), added, now)
            content.vectors[name] = merged

        return self._change(change).entries[name]

    def remove(self, name: str) -> None:
        """Forget a generator."""

        def change(content: _Content) -> None:
            self._require(content, name)
            del content.entries[name], content.vectors[name]

        self._change(change)

    def export(self, path: Path | str, names: Sequence[str] = ()) -> list[Entry]:
        """Write the named generators, by default all, to a file for another machine, or to the pipe or device of that name."""
        content = self._read()
        chosen = list(names) or sorted(content.entries)
        for name in chosen:
            self._require(content, name)
        if not chosen:
            raise GalleryError(f"no generator is enrolled in {self._file}; there is nothing to export")
        part = _Content(
            content.network,
            content.bundle,
            {name: content.entries[name] for name in chosen},
            {name: content.vectors[name] for name in chosen},
        )
        _write(files.deliver, Path(path), _dump(part))
        return [part.entries[name] for name in chosen]

    def take(self, path: Path | str) -> list[Entry]:
        """Add the generators of an exported file; one of a name that is here gets the pictures of both.

        Raises:
            GalleryError: also where the file was made with another network, or its embeddings are none of this one.
        """
        given = _load(Path(path))
        if given.network != self._network:
            raise GalleryError(
                f"{path} was made with network {given.network[:12]} (bundle {given.bundle}), this bundle, {self._label}, has "
                f"{self._network[:12]}, and embeddings of two networks cannot be compared; open it with that bundle (--bundle), or "
                "enrol the pictures again with `edgeparse gallery add`"
            )

        own = Gallery.load(self._bundle.read(self._bundle.gallery)) if self._bundle.gallery else None
        for vectors in given.vectors.values():
            if own is not None and own.names and vectors.shape[1] != own.vectors.shape[1]:
                raise GalleryError(
                    f"{path} has embeddings of {vectors.shape[1]} numbers, those of {self._label} have {own.vectors.shape[1]}; "
                    "it was not exported from a gallery of this network"
                )

        def change(content: _Content) -> None:
            now = _now()
            for name, entry in given.entries.items():
                old = content.entries.get(name)
                merged = _merge(content.vectors.get(name), given.vectors[name])
                if len(merged) < MIN_PICTURES:
                    raise GalleryError(f"{path}: {_too_few(name, len(merged))}")
                content.vectors[name] = merged
                content.entries[name] = Entry(name, len(merged), old.added if old else entry.added, now)

        content = self._change(change)
        return [content.entries[name] for name in given.entries]

    def _read(self) -> _Content:
        try:
            data = _bytes(self._file)
        except FileNotFoundError:
            return _Content(self._network, self._label, {}, {})
        content = _parse(self._file, data)
        if content.network != self._network:
            raise GalleryError(
                f"{self._file} holds embeddings of network {content.network[:12]}, not of {self._network[:12]}, which its name says; "
                "move it away and enrol again"
            )
        return content

    def _require(self, content: _Content, name: str) -> None:
        if name in content.entries:
            return
        for bundle, names in self.others().items():
            if name in names:
                raise GalleryError(
                    f"{name} was enrolled with the network of bundle {bundle}, whose embeddings {self._label} cannot compare; "
                    "enrol its pictures again with `edgeparse gallery add`, or name that bundle with --bundle"
                )
        known = ", ".join(sorted(content.entries)) or "nothing"
        raise GalleryError(f"no generator {name!r} is enrolled; enrolled is {known}")

    def _change(self, change: Callable[[_Content], None]) -> _Content:
        """Read, change and replace the file while no other process does."""
        with self._locked():
            content = self._read()
            change(content)
            widths = sorted({vectors.shape[1] for vectors in content.vectors.values()})
            if len(widths) > 1:
                raise GalleryError(
                    f"embeddings of {' and of '.join(map(str, widths))} numbers cannot be in one gallery; give those of {self._label}"
                )
            _write(files.replace, self._file, _dump(content))
            return content

    @contextmanager
    def _locked(self) -> Iterator[None]:
        from filelock import FileLock, Timeout

        lock = self._file.with_suffix(".lock")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            # The operating system lets go of the lock when its holder dies.
            with FileLock(lock, timeout=LOCK_SECONDS):
                # What a killed writer left behind; nobody else writes now.
                for left in self._folder.glob(f".{self._file.name}.*"):
                    left.unlink(missing_ok=True)
                yield
        except Timeout as error:
            raise GalleryError(
                f"another process has held {lock} for {LOCK_SECONDS:.0f} seconds; wait for it, or end it"
            ) from error
        except OSError as error:
            raise GalleryError(f"{self._folder} cannot be written: {error.strerror or error}") from error


def check_name(name: str) -> None:
    """A name that a person can read on one line.

    Raises:
        ValueError: it is not.
    """
    if not is_name(name) or len(name) > MAX_NAME:
        raise ValueError(f"{name!r} is not a generator's name; take 1 to {MAX_NAME} printable characters")


def _too_few(name: str, count: int) -> str:
    return f"{name} would have {count} different pictures; a generator is enrolled by {MIN_PICTURES} or more"


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _merge(old: NDArray[np.float32] | None, new: NDArray[np.float32]) -> NDArray[np.float32]:
    """Both, without pictures that occur twice; the first of two is kept."""
    if old is not None and old.shape[1] != new.shape[1]:
        raise GalleryError(f"embeddings of {new.shape[1]} numbers were given, the gallery's have {old.shape[1]}")
    vectors = new if old is None else np.concatenate([old, new])
    kept: list[int] = []
    for i, vector in enumerate(vectors):
        if not kept or float((vectors[kept] @ vector).max()) < SAME_PICTURE:
            kept.append(i)
    return vectors[kept].astype(np.float32)


def _dump(content: _Content) -> bytes:
    names = list(content.entries)
    arrays = [content.vectors[name] for name in names]
    fields = {
        "schema": SCHEMA,
        "network": content.network,
        "bundle": content.bundle,
        "generators": [asdict(content.entries[name]) for name in names],
    }
    buffer = io.BytesIO()
    np.savez(
        buffer,
        vectors=np.concatenate(arrays) if arrays else np.empty((0, 0), np.float32),
        owner=np.repeat(np.arange(len(names), dtype=np.int32), [len(array) for array in arrays]),
    )
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("gallery.json", json.dumps(fields, indent=1))
    return buffer.getvalue()


def _load(path: Path) -> _Content:
    """The file of a gallery that has to be there."""
    try:
        return _parse(path, _bytes(path))
    except FileNotFoundError as error:
        raise GalleryError(f"there is no file {path}") from error


def _bytes(path: Path) -> bytes:
    """What is in a file, where that is little enough to be a gallery.

    Raises:
        FileNotFoundError: it is not there.
        GalleryError: it is too large or cannot be read.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    # The latter in a home that is no folder, as services may have.
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(path) from error
    except OSError as error:
        raise _unreadable(path, error) from error
    if len(data) > MAX_BYTES:
        raise GalleryError(f"{path} is larger than {MAX_BYTES / 2**20:.0f} MiB; no gallery of embeddings is so large")
    return data


def _unreadable(path: Path, error: OSError) -> GalleryError:
    return GalleryError(f"{path} cannot be read: {error.strerror or error}")


def _parse(path: Path, data: bytes) -> _Content:
    """A gallery's file, checked; nothing in it can run code."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            must_be_small(archive, MAX_BYTES)
            fields: dict[str, Any] = json.loads(archive.read("gallery.json"))
        if fields["schema"] != SCHEMA:
            raise GalleryError(
                f"{path} has schema {fields['schema']!r}, this edgeparse reads {SCHEMA}; use the edgeparse that wrote it"
            )
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            vectors, owner = file["vectors"].astype(np.float32), file["owner"]
        entries = [Entry(**entry) for entry in fields["generators"]]
        _check(fields, entries, vectors, owner)
    except GalleryError:
        raise
    except Exception as error:  # zipfile, zlib and NumPy raise a dozen unrelated classes on forged archives
        raise GalleryError(
            f"{path} is not a gallery, or is damaged: {str(error) or type(error).__name__}; move it away, and import an exported one or "
            "enrol again"
        ) from error
    return _Content(
        str(fields["network"]),
        str(fields["bundle"]),
        {entry.name: entry for entry in entries},
        {entry.name: vectors[owner == i] for i, entry in enumerate(entries)},
    )


def _check(fields: dict[str, Any], entries: list[Entry], vectors: NDArray[np.float32], owner: NDArray[Any]) -> None:
    """Whatever reads a gallery later may rely on it.

    Raises:
        ValueError, TypeError, AttributeError: what is wrong.
    """
    for name in ("network", "bundle"):
        if not isinstance(fields[name], str) or not fields[name].isprintable():
            raise ValueError(f"{name} is {fields[name]!r}")
    if vectors.ndim != 2 or owner.shape != (len(vectors),) or owner.dtype.kind not in "iu":
        raise ValueError(f"vectors of shape {vectors.shape}, owners of shape {owner.shape}")
    if not unit_length(vectors):
        raise ValueError("not every vector has unit length")
    if len({entry.name for entry in entries}) != len(entries):
        raise ValueError("a generator is listed twice")
    for i, entry in enumerate(entries):
        check_name(entry.name)
        for date in (entry.added, entry.changed):
            datetime.fromisoformat(date)
        if (owner == i).sum() != entry.pictures:
            raise ValueError(f"{entry.name} has {(owner == i).sum()} vectors, {entry.pictures} are listed")
        if entry.pictures < MIN_PICTURES:
            raise ValueError(f"{entry.name} has {entry.pictures} pictures, fewer than {MIN_PICTURES}")
    if sum(entry.pictures for entry in entries) != len(vectors):
        raise ValueError("some vectors belong to no generator")


def _write(how: Callable[[Path, bytes], None], path: Path, data: bytes) -> None:
    try:
        how(path, data)
    except OSError as error:
        raise GalleryError(f"{path} cannot be written: {error.strerror or error}") from error
