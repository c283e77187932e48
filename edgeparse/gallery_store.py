"""The user's own known generators: the embeddings of their images, in one file per network.

The file is a NumPy archive (`vectors` float32[P, D], `owner` int32[P]) with a `gallery.json` that holds names, dates and the network.
It holds neither images nor their paths. Exported files have the same format. A file is only replaced as a whole, and only by one
process at a time.
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

from edgeparse import safe_files
from edgeparse.bundle import Bundle
from edgeparse.errors import GalleryError
from edgeparse.gallery import MAX_BYTES, Gallery, centroid, check_unpacked_size, has_unit_length
from edgeparse.manifest import is_name

SCHEMA = 1
# With fewer images, the mean embedding reflects their content more than the generator's traces.
MIN_PICTURES = 10
MAX_NAME = 100
LOCK_SECONDS = 30.0
# Embeddings with at least this cosine similarity belong to the same image.
SAME_PICTURE = 1 - 1e-6

_FILE = re.compile(r"gallery-[0-9a-f]{16}\.npz")


@dataclass(frozen=True)
class Entry:
    """One enrolled generator: its name, its number of images, and ISO 8601 times in UTC."""

    name: str
    pictures: int
    added: str
    changed: str


@dataclass(frozen=True)
class _Content:
    """The content of a file.

    Attributes:
        network: SHA-256 of the network that computed the embeddings.
        bundle: label of the bundle.
        entries: the generators.
        vectors: embeddings of each generator's images, float32[P, D].
    """

    network: str
    bundle: str
    entries: dict[str, Entry]
    vectors: dict[str, NDArray[np.float32]]


def user_gallery_folder() -> Path:
    """Return the folder of this user's gallery, following the conventions of the operating system."""
    from platformdirs import user_data_path

    return user_data_path("edgeparse", appauthor=False)


class GalleryStore:
    """The generators that a user enrolled for one network, in a folder.

    Reading needs no lock, because the file is replaced as a whole. Every method raises `GalleryError` if the file is damaged or
    belongs to another network, the folder is not writable, or another process held the lock for 30 seconds.

    Args:
        folder: where the galleries are; it is created when needed.
        bundle: the bundle whose network computes the embeddings.
    """

    def __init__(self, folder: Path | str, bundle: Bundle) -> None:
        self._folder = Path(folder)
        self._bundle = bundle
        self._network = bundle.network
        self._label = bundle.label
        self._file = self._folder / f"gallery-{bundle.network[:16]}.npz"

    @property
    def file(self) -> Path:
        """The file of this network's gallery. It exists once a generator was enrolled."""
        return self._file

    def entries(self) -> list[Entry]:
        """Return the enrolled generators, sorted by name."""
        content = self._read()
        return [content.entries[name] for name in sorted(content.entries)]

    def vectors(self, name: str) -> NDArray[np.float32]:
        """Return the embeddings of a generator's images, float32[P, D]."""
        content = self._read()
        self._require(content, name)
        return content.vectors[name]

    def gallery(self) -> Gallery:
        """Return one vector per generator, to be merged over the bundle's gallery."""
        content = self._read()
        if not content.entries:
            return Gallery.empty()
        names = tuple(sorted(content.entries))
        return Gallery(names, np.stack([centroid(content.vectors[name]) for name in names]))

    def other_networks(self) -> dict[str, list[str]]:
        """Return the names enrolled with other networks, by bundle label. This network cannot compare their embeddings."""
        found: dict[str, list[str]] = {}
        try:
            paths = sorted(self._folder.glob("gallery-*.npz"))
        except OSError as error:
            raise _unreadable(self._folder, error) from error
        for path in paths:
            if path != self._file and _FILE.fullmatch(path.name):
                # A damaged file of another network does not affect this one.
                with suppress(GalleryError):
                    content = _load(path)
                    if content.entries:
                        found.setdefault(content.bundle, []).extend(sorted(content.entries))
        return found

    def add(self, name: str, vectors: NDArray[np.float32]) -> Entry:
        """Enrol a generator, or add images to an enrolled one. Images that it already has are skipped.

        Args:
            name: the generator's name.
            vectors: unit embeddings of its images, float32[P, D].

        Raises:
            GalleryError: also if the generator would have fewer than `MIN_PICTURES` images, or a vector lacks unit length.
            ValueError: the name is empty, too long or not printable.
        """
        check_name(name)
        if not has_unit_length(vectors):
            raise GalleryError(
                f"the embeddings of {name} must have unit length; pass them as Parser.embed returns them"
            )

        # Refused before the lock, so that nothing is created; checked again under the lock.
        if (count := len(_merge(self._read().vectors.get(name), vectors))) < MIN_PICTURES:
            raise GalleryError(_too_few(name, count))

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
        """Delete a generator."""

        def change(content: _Content) -> None:
            self._require(content, name)
            del content.entries[name], content.vectors[name]

        self._change(change)

    def export_file(self, path: Path | str, names: Sequence[str] = ()) -> list[Entry]:
        """Write generators to a file, pipe or device for another machine; by default all of them."""
        content = self._read()
        chosen = list(names) or sorted(content.entries)
        for name in chosen:
            self._require(content, name)
        if not chosen:
            raise GalleryError(f"no generator is enrolled in {self._file}; enrol one with `edgeparse gallery add`")
        part = _Content(
            content.network,
            content.bundle,
            {name: content.entries[name] for name in chosen},
            {name: content.vectors[name] for name in chosen},
        )
        _write(safe_files.write_output, Path(path), _dump(part))
        return [part.entries[name] for name in chosen]

    def import_file(self, path: Path | str) -> list[Entry]:
        """Add the generators of an exported file. For a name that exists, the images are merged.

        Raises:
            GalleryError: also if the file belongs to another network.
        """
        imported = _load(Path(path))
        if imported.network != self._network:
            raise GalleryError(
                f"{path} must belong to the network {self._network[:12]} of bundle {self._label}, got {imported.network[:12]} "
                f"(bundle {imported.bundle}); name that bundle with --bundle, or enrol the images again with `edgeparse gallery "
                "add`"
            )
        own = Gallery.load(self._bundle.read(self._bundle.gallery)) if self._bundle.gallery else None
        for vectors in imported.vectors.values():
            if own is not None and own.names and vectors.shape[1] != own.vectors.shape[1]:
                raise GalleryError(
                    f"{path} must have embeddings of {own.vectors.shape[1]} dimensions like {self._label}, got "
                    f"{vectors.shape[1]}; export it again from a gallery of this network"
                )

        def change(content: _Content) -> None:
            now = _now()
            for name, entry in imported.entries.items():
                old = content.entries.get(name)
                merged = _merge(content.vectors.get(name), imported.vectors[name])
                if len(merged) < MIN_PICTURES:
                    raise GalleryError(f"{path}: {_too_few(name, len(merged))}")
                content.vectors[name] = merged
                content.entries[name] = Entry(name, len(merged), old.added if old else entry.added, now)

        content = self._change(change)
        return [content.entries[name] for name in imported.entries]

    def _read(self) -> _Content:
        try:
            data = _read_bytes(self._file)
        except FileNotFoundError:
            return _Content(self._network, self._label, {}, {})
        content = _parse(self._file, data)
        if content.network != self._network:
            raise GalleryError(
                f"{self._file} must hold embeddings of the network {self._network[:12]} in its name, got "
                f"{content.network[:12]}; move the file away and enrol again"
            )
        return content

    def _require(self, content: _Content, name: str) -> None:
        if name in content.entries:
            return
        for bundle, names in self.other_networks().items():
            if name in names:
                raise GalleryError(
                    f"{name} was enrolled with the network of bundle {bundle}, which {self._label} cannot compare; enrol its "
                    "images again with `edgeparse gallery add`, or name that bundle with --bundle"
                )
        known = ", ".join(sorted(content.entries)) or "none"
        raise GalleryError(f"no generator {name!r} is enrolled; enrolled generators: {known}")

    def _change(self, change: Callable[[_Content], None]) -> _Content:
        """Read, change and replace the file while holding the lock."""
        with self._locked():
            content = self._read()
            change(content)
            widths = sorted({vectors.shape[1] for vectors in content.vectors.values()})
            if len(widths) > 1:
                raise GalleryError(
                    f"all embeddings must have the same dimension, got {' and '.join(map(str, widths))}; pass those of "
                    f"{self._label}"
                )
            _write(safe_files.atomic_write, self._file, _dump(content))
            return content

    @contextmanager
    def _locked(self) -> Iterator[None]:
        from filelock import FileLock, Timeout

        lock = self._file.with_suffix(".lock")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            # The operating system releases the lock if its holder dies.
            with FileLock(lock, timeout=LOCK_SECONDS):
                # Remove what a killed writer left; no other process writes now.
                for temporary in self._folder.glob(f".{self._file.name}.*"):
                    temporary.unlink(missing_ok=True)
                yield
        except Timeout as error:
            raise GalleryError(
                f"another process has held {lock} for {LOCK_SECONDS:.0f} seconds; wait for it, or end it"
            ) from error
        except OSError as error:
            raise GalleryError(f"{self._folder} cannot be written: {error.strerror or error}") from error


def check_name(name: str) -> None:
    """Check the name of a generator.

    Raises:
        ValueError: the name is empty, too long or not printable.
    """
    if not is_name(name) or len(name) > MAX_NAME:
        raise ValueError(f"a generator's name must be 1 to {MAX_NAME} printable characters, got {name!r}")


def _too_few(name: str, count: int) -> str:
    return f"{name} must have at least {MIN_PICTURES} different images, got {count}; add more"


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _merge(old: NDArray[np.float32] | None, new: NDArray[np.float32]) -> NDArray[np.float32]:
    """Concatenate embeddings and drop repeated images; the first one is kept."""
    if old is not None and old.shape[1] != new.shape[1]:
        raise GalleryError(f"embeddings must have {old.shape[1]} dimensions like the gallery's, got {new.shape[1]}")
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
    """Read a gallery file that must exist."""
    try:
        return _parse(path, _read_bytes(path))
    except FileNotFoundError as error:
        raise GalleryError(f"there is no file {path}") from error


def _read_bytes(path: Path) -> bytes:
    """Read a file of at most `MAX_BYTES`.

    Raises:
        FileNotFoundError: the file does not exist.
        GalleryError: the file is too large or cannot be read.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    # NotADirectoryError: the home of a service account may be a file such as /dev/null.
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(path) from error
    except OSError as error:
        raise _unreadable(path, error) from error
    if len(data) > MAX_BYTES:
        raise GalleryError(f"{path} must be at most {MAX_BYTES / 2**20:.0f} MiB; this is not a gallery")
    return data


def _unreadable(path: Path, error: OSError) -> GalleryError:
    return GalleryError(f"{path} cannot be read: {error.strerror or error}")


def _parse(path: Path, data: bytes) -> _Content:
    """Parse and validate a gallery file. Nothing in it can run code."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            check_unpacked_size(archive, MAX_BYTES)
            fields: dict[str, Any] = json.loads(archive.read("gallery.json"))
        if fields["schema"] != SCHEMA:
            raise GalleryError(
                f"{path} must have schema {SCHEMA}, got {fields['schema']!r}; use the edgeparse version that wrote it"
            )
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            vectors, owner = file["vectors"].astype(np.float32), file["owner"]
        entries = [Entry(**entry) for entry in fields["generators"]]
        _check(fields, entries, vectors, owner)
    except GalleryError:
        raise
    except Exception as error:  # zipfile, zlib and NumPy raise a dozen unrelated classes on forged archives
        raise GalleryError(
            f"{path} is not a gallery or is damaged: {str(error) or type(error).__name__}; move it away, then import an exported "
            "file or enrol again"
        ) from error
    return _Content(
        str(fields["network"]),
        str(fields["bundle"]),
        {entry.name: entry for entry in entries},
        {entry.name: vectors[owner == i] for i, entry in enumerate(entries)},
    )


def _check(fields: dict[str, Any], entries: list[Entry], vectors: NDArray[np.float32], owner: NDArray[Any]) -> None:
    """Validate the parts of a gallery file.

    Raises:
        ValueError, TypeError, AttributeError: a part is invalid.
    """
    for name in ("network", "bundle"):
        if not isinstance(fields[name], str) or not fields[name].isprintable():
            raise ValueError(f"{name} must be printable text, got {fields[name]!r}")
    if vectors.ndim != 2 or owner.shape != (len(vectors),) or owner.dtype.kind not in "iu":
        raise ValueError(
            f"vectors must be [P, D] and owners integers [P], got {list(vectors.shape)} and {owner.dtype}{list(owner.shape)}"
        )
    if not has_unit_length(vectors):
        raise ValueError("every vector must have unit length")
    if len({entry.name for entry in entries}) != len(entries):
        raise ValueError("generators must be distinct")
    for i, entry in enumerate(entries):
        check_name(entry.name)
        for date in (entry.added, entry.changed):
            datetime.fromisoformat(date)
        if (count := int((owner == i).sum())) != entry.pictures:
            raise ValueError(f"{entry.name} must have {entry.pictures} vectors, got {count}")
        if entry.pictures < MIN_PICTURES:
            raise ValueError(_too_few(entry.name, entry.pictures))
    if sum(entry.pictures for entry in entries) != len(vectors):
        raise ValueError("every vector must belong to a generator")


def _write(write: Callable[[Path, bytes], None], path: Path, data: bytes) -> None:
    try:
        write(path, data)
    except OSError as error:
        raise GalleryError(f"{path} cannot be written: {error.strerror or error}") from error
