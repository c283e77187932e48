"""Compiled engines on disk: what each was compiled from, with and for, in a JSON file beside it; and why one does not fit here.

An engine is code that a GPU runs: none is handed to TensorRT that belongs to another user, or that others may change, whose bytes are
not those of its JSON file, or that was compiled for another library version, GPU, system or model. A JSON file is not signed: whoever
may write to the folder may put an engine there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from edgeparse import __version__, files
from edgeparse.errors import (
    EngineDamagedError,
    EngineError,
    EngineMismatchError,
    EngineMissingError,
    EngineUntrustedError,
)

SCHEMA = 1
FOLDER_VARIABLE = "EDGEPARSE_ENGINES"
LOCK_SECONDS = 1800.0
# Others may read an engine, as a service does that somebody else installed, and nobody else may write one.
MODE = 0o644


@dataclass(frozen=True)
class Key:
    """All that an engine depends on. Two engines with the same key are interchangeable.

    `gpu` is the GPU's name where the engine fits only that kind, else None; `batches` the smallest, the usual and the largest number
    of windows in a run; `workspace` megabytes the compiler may use, None for all there are; `dla` a DLA core; `tf32` whether float32 may
    be read with eleven significant bits.
    """

    onnx: str
    flavour: str
    version: str
    capabilities: tuple[str, ...]
    gpu: str | None
    system: str
    precision: str
    batches: tuple[int, int, int]
    workspace: int | None = None
    dla: int | None = None
    tf32: bool = False

    @property
    def digest(self) -> str:
        """A name for the engine's files: the hash of everything above."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:24]


@dataclass(frozen=True)
class Tensor:
    """An input or output of an engine; -1 stands for the number of windows."""

    name: str
    input: bool
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Record:
    """The sidecar: a key, the engine's own hash, and where it came from."""

    key: Key
    sha256: str
    bytes: int
    tensors: tuple[Tensor, ...]
    bundle: str
    seconds: float
    built: str = field(default_factory=lambda: datetime.now(timezone.utc).isoformat(timespec="seconds"))
    edgeparse: str = __version__

    @property
    def file(self) -> str:
        """The engine's file name."""
        return f"{self.key.digest}.plan"

    def to_json(self) -> dict[str, Any]:
        """As written to the sidecar."""
        return {"schema": SCHEMA, "file": self.file, **asdict(self)}

    @staticmethod
    def from_json(data: dict[str, Any]) -> Record:
        """What `to_json` wrote.

        Raises:
            KeyError, TypeError, ValueError: it did not.
        """
        if data["schema"] != SCHEMA:
            raise ValueError(f"schema {data['schema']!r}")
        key = dict(data["key"])
        key["capabilities"], key["batches"] = tuple(key["capabilities"]), tuple(key["batches"])
        return Record(
            key=Key(**key),
            sha256=str(data["sha256"]),
            bytes=int(data["bytes"]),
            tensors=tuple(Tensor(t["name"], t["input"], t["dtype"], tuple(t["shape"])) for t in data["tensors"]),
            bundle=str(data["bundle"]),
            seconds=float(data["seconds"]),
            built=str(data["built"]),
            edgeparse=str(data["edgeparse"]),
        )


@dataclass(frozen=True)
class Place:
    """What an engine must fit: the library that is installed, the GPU, and the hashes of the models that it may come from."""

    flavour: str
    version: str
    capability: str
    gpu: str
    system: str
    models: frozenset[str]


def refusal(key: Key, place: Place) -> str | None:
    """Why an engine does not fit a place, or None where it does. TensorRT is not asked: it would say less, or crash."""
    if key.onnx not in place.models:
        return "it was compiled from another model file"
    if key.flavour != place.flavour:
        return f"it is an engine of {key.flavour}, not of {place.flavour}"
    if key.version != place.version:
        return f"it was compiled with {key.flavour} {key.version}, here is {place.version}"
    if key.system != place.system:
        return f"it was compiled for {key.system}, this is {place.system}"
    if place.capability not in key.capabilities:
        return f"it was compiled for {', '.join(key.capabilities)}, this GPU is {place.capability}"
    if key.gpu is not None and key.gpu != place.gpu:
        return f"it was compiled for {key.gpu}, this GPU is {place.gpu}"
    return None


def default_folder() -> Path:
    """`EDGEPARSE_ENGINES` where that is set, else a folder in the user's cache."""
    chosen = os.environ.get(FOLDER_VARIABLE)
    if chosen:
        return Path(chosen)
    from platformdirs import user_cache_path

    return user_cache_path("edgeparse") / "engines"


class Store:
    """A folder of engines, each with its sidecar. Many processes may use one folder at a time."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder if folder is not None else default_folder()

    def records(self) -> list[Record]:
        """Every engine with a readable sidecar, the latest first.

        Raises:
            EngineError: the folder cannot be read.
        """
        found = []
        try:
            paths = sorted(self.folder.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise EngineError(
                f"{self.folder} cannot be read ({error.strerror or error}); set {FOLDER_VARIABLE} to a folder that can"
            ) from error
        for path in (path for path in paths if path.suffix == ".json"):
            with contextlib.suppress(KeyError, TypeError, ValueError, AttributeError, OSError):
                record = Record.from_json(json.loads(path.read_bytes()))
                if path.name == f"{record.key.digest}.json":
                    found.append(record)
        return sorted(found, key=lambda record: (record.built, record.key.digest), reverse=True)

    def get(self, key: Key) -> Record | None:
        """The engine of a key."""
        return next((record for record in self.records() if record.key == key), None)

    def find(self, place: Place, command: str, precision: str | None = None, preferred: str | None = None) -> Record:
        """An engine that fits: for the GPU before for a DLA core, of the preferred precision before another, the latest of several.

        `precision` is the only one to take, where it is given; `command` is what would compile an engine.

        Raises:
            EngineError: the folder cannot be read.
            EngineMissingError: nothing was compiled from these models with this library.
            EngineMismatchError: something was, and does not fit; the message says what and why.
        """
        reasons, fitting = [], []
        for record in self.records():
            if precision is not None and record.key.precision != precision:
                continue
            reason = refusal(record.key, place)
            if reason is None:
                fitting.append(record)
            elif record.key.flavour == place.flavour and record.key.onnx in place.models:
                reasons.append(f"{record.file} ({record.key.precision}): {reason}")
        if fitting:
            return min(fitting, key=lambda record: (record.key.dla is not None, record.key.precision != preferred))
        if reasons:
            raise EngineMismatchError(
                f"no engine in {self.folder} fits here. {'; '.join(reasons[:4])}. Compile one with: {command}"
            )
        wanted = f"{precision} " if precision else ""
        raise EngineMissingError(
            f"no {wanted}engine of {place.flavour} was compiled for this bundle yet ({self.folder}). Compile one with: {command}"
        )

    def read(self, record: Record) -> bytes:
        """An engine's bytes, after they were compared with what was written.

        Raises:
            EngineDamagedError: missing or changed.
            EngineUntrustedError: others may have written it, its sidecar, or the folder.
        """
        path = self.folder / record.file
        try:
            for each in (self.folder, self.folder / f"{record.key.digest}.json", path):
                if (reason := files.strangers(each)) is not None:
                    raise EngineUntrustedError(
                        f"{reason}: an engine is a program, and none is run that others may have written"
                    )
            data = path.read_bytes()
        except OSError as error:
            raise EngineDamagedError(f"{path} cannot be read: {error.strerror or error}; compile it again") from error
        if hashlib.sha256(data).hexdigest() != record.sha256:
            raise EngineDamagedError(
                f"{path} is not the engine that was compiled: its SHA-256 differs; compile it again"
            )
        return data

    def write(self, record: Record, plan: bytes) -> None:
        """Keep an engine. Its sidecar comes last: without one, an engine is not looked at.

        Raises:
            EngineError: the folder cannot be written to.
            EngineUntrustedError: the folder is another user's, or others may write to it.
        """
        sidecar = json.dumps(record.to_json(), indent=1).encode() + b"\n"
        with self._writing():
            files.replace(self.folder / record.file, plan, MODE)
            files.replace(self.folder / f"{record.key.digest}.json", sidecar, MODE)

    @contextlib.contextmanager
    def lock(self, key: Key) -> Iterator[None]:
        """Held by whoever compiles an engine, so that nobody else compiles the same one meanwhile.

        Raises:
            EngineError: somebody has been compiling it for half an hour.
        """
        import filelock

        lock = filelock.FileLock(self.folder / f"{key.digest}.lock", timeout=LOCK_SECONDS)
        try:
            with self._writing():
                lock.acquire()
        except filelock.Timeout as error:
            raise EngineError(
                f"another process has been compiling this engine for {LOCK_SECONDS / 60:.0f} minutes; end it and try again"
            ) from error
        try:
            # What a killed writer left behind; nobody else writes these now.
            for left in (*self.folder.glob(f".{key.digest}.plan.*"), *self.folder.glob(f".{key.digest}.json.*")):
                left.unlink(missing_ok=True)
            yield
        finally:
            lock.release()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if (reason := files.strangers(self.folder)) is not None:
                raise EngineUntrustedError(
                    f"{reason}, or set {FOLDER_VARIABLE} to a folder of yours: engines are programs"
                )
            yield
        except TimeoutError:  # an OSError too, and a lock's own
            raise
        except OSError as error:
            raise EngineError(
                f"{self.folder} cannot be written to ({error.strerror or error}); set {FOLDER_VARIABLE} to a folder that can"
            ) from error

    def runtime_cache(self, record: Record) -> Path:
        """Where TensorRT for RTX keeps what it compiled for this GPU when the engine was first run."""
        return self.folder / f"{record.key.digest}.runtime"
