"""Compiled engines on disk, each with a JSON sidecar that states what it was compiled from, with and for.

An engine is code that runs on a GPU. It is loaded only if no other user can have written it, its SHA-256 matches the sidecar, and it was
compiled for this library version, GPU, system and model. Sidecars are not signed: whoever can write to the folder can add an engine.
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

from edgeparse import __version__, safe_files
from edgeparse.errors import (
    EngineDamagedError,
    EngineError,
    EngineMismatchError,
    EngineMissingError,
    EngineUntrustedError,
)

SCHEMA = 2
FOLDER_VARIABLE = "EDGEPARSE_ENGINES"
LOCK_SECONDS = 1800.0
# Other users may read an engine, for example a service that runs as another user, but not write it.
MODE = 0o644
# Smallest, usual and largest number of windows per run.
DEFAULT_BATCHES = (1, 8, 32)


def parse_batches(text: str) -> tuple[int, int, int]:
    """Parse the smallest, usual and largest batch size from "1,8,32", or one size for all three.

    Raises:
        ValueError: the text is neither.
    """
    # The length limit keeps int() from raising on thousands of digits.
    words = text.split(",")
    sizes = [int(word) if word.isdecimal() and len(word) < 10 else 0 for word in words]
    if len(sizes) == 1:
        sizes *= 3
    if len(sizes) != 3 or not 1 <= sizes[0] <= sizes[1] <= sizes[2]:
        raise ValueError(f"batch sizes must be one number, or three in ascending order such as 1,8,32, got {text!r}")
    return sizes[0], sizes[1], sizes[2]


@dataclass(frozen=True)
class EngineKey:
    """Everything that an engine depends on. Engines with equal keys are interchangeable.

    Attributes:
        onnx: SHA-256 of the ONNX file.
        library: name of the library, as in `LIBRARIES`.
        version: full version of the library.
        capabilities: compute capabilities that it runs on.
        gpu: name of the GPU if the engine fits only that model, else None.
        system: operating system and processor (`platform_tag`).
        precision: "fp32", "fp16" or "int8".
        batches: smallest, usual and largest number of windows per run.
        workspace: compiler memory in MiB, or None for no limit.
        dla: index of a DLA core, or None.
        tf32: whether float32 may be computed in TF32.
    """

    onnx: str
    library: str
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
        """Hash of all fields; the stem of the engine's file names."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:24]


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of an engine. In `shape`, -1 is the number of windows."""

    name: str
    input: bool
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class EngineRecord:
    """The sidecar of an engine.

    Attributes:
        key: what it depends on.
        sha256: SHA-256 of the engine.
        bytes: its size.
        tensors: its inputs and outputs.
        bundle: label of the bundle.
        seconds: duration of the build.
        built: time of the build, ISO 8601 in UTC.
        edgeparse: version of this package.
    """

    key: EngineKey
    sha256: str
    bytes: int
    tensors: tuple[TensorSpec, ...]
    bundle: str
    seconds: float
    built: str = field(default_factory=lambda: datetime.now(timezone.utc).isoformat(timespec="seconds"))
    edgeparse: str = __version__

    @property
    def file(self) -> str:
        """Name of the engine's file."""
        return f"{self.key.digest}.plan"

    def to_json(self) -> dict[str, Any]:
        """Return the content of the sidecar."""
        return {"schema": SCHEMA, "file": self.file, **asdict(self)}

    @staticmethod
    def from_json(data: dict[str, Any]) -> EngineRecord:
        """Read what `to_json` wrote.

        Raises:
            KeyError, TypeError, ValueError: the data is something else.
        """
        if data["schema"] != SCHEMA:
            raise ValueError(f"schema must be {SCHEMA}, got {data['schema']!r}")
        key = dict(data["key"])
        key["capabilities"], key["batches"] = tuple(key["capabilities"]), tuple(key["batches"])
        return EngineRecord(
            key=EngineKey(**key),
            sha256=str(data["sha256"]),
            bytes=int(data["bytes"]),
            tensors=tuple(TensorSpec(t["name"], t["input"], t["dtype"], tuple(t["shape"])) for t in data["tensors"]),
            bundle=str(data["bundle"]),
            seconds=float(data["seconds"]),
            built=str(data["built"]),
            edgeparse=str(data["edgeparse"]),
        )


@dataclass(frozen=True)
class EngineTarget:
    """What an engine must fit: the installed library, this GPU and system, and the SHA-256 of the bundle's models."""

    library: str
    version: str
    capability: str
    gpu: str
    system: str
    models: frozenset[str]


def mismatch_reason(key: EngineKey, target: EngineTarget) -> str | None:
    """Return why an engine does not fit a target, or None if it does.

    TensorRT itself is not asked: it would give less detail, or crash.
    """
    if key.onnx not in target.models:
        return "it was compiled from another model file"
    if key.library != target.library:
        return f"it is an engine of {key.library}, not of {target.library}"
    if key.version != target.version:
        return f"it was compiled with {key.library} {key.version}, but {target.version} is installed"
    if key.system != target.system:
        return f"it was compiled for {key.system}, but this is {target.system}"
    if target.capability not in key.capabilities:
        return f"it was compiled for {', '.join(key.capabilities)}, but this GPU is {target.capability}"
    if key.gpu is not None and key.gpu != target.gpu:
        return f"it was compiled for {key.gpu}, but this GPU is {target.gpu}"
    return None


def default_folder() -> Path:
    """Return the folder in `EDGEPARSE_ENGINES` if it is set, else one in the user's cache."""
    chosen = os.environ.get(FOLDER_VARIABLE)
    if chosen:
        return Path(chosen)
    from platformdirs import user_cache_path

    return user_cache_path("edgeparse") / "engines"


class EngineCache:
    """A folder of engines and their sidecars. Several processes may use it at the same time."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder if folder is not None else default_folder()

    def records(self) -> list[EngineRecord]:
        """Return every engine with a readable sidecar, the latest first.

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
                f"{self.folder} cannot be read ({error.strerror or error}); set {FOLDER_VARIABLE} to a readable folder"
            ) from error
        for path in (path for path in paths if path.suffix == ".json"):
            with contextlib.suppress(KeyError, TypeError, ValueError, AttributeError, OSError):
                record = EngineRecord.from_json(json.loads(path.read_bytes()))
                if path.name == f"{record.key.digest}.json":
                    found.append(record)
        return sorted(found, key=lambda record: (record.built, record.key.digest), reverse=True)

    def get(self, key: EngineKey) -> EngineRecord | None:
        """Return the engine of a key, or None."""
        return next((record for record in self.records() if record.key == key), None)

    def find(
        self, target: EngineTarget, command: str, precision: str | None = None, preferred: str | None = None
    ) -> EngineRecord:
        """Find an engine that fits a target.

        Engines for the GPU come before those for a DLA core, then the preferred precision before others, then later builds
        before earlier ones.

        Args:
            target: what the engine must fit.
            command: the command that builds an engine, for error messages.
            precision: the only precision to accept, or None for any.
            preferred: the precision to prefer.

        Raises:
            EngineError: the folder cannot be read.
            EngineMissingError: no engine was compiled from these models with this library.
            EngineMismatchError: engines exist but do not fit; the message says why.
        """
        reasons, fitting = [], []
        for record in self.records():
            if precision is not None and record.key.precision != precision:
                continue
            reason = mismatch_reason(record.key, target)
            if reason is None:
                fitting.append(record)
            elif record.key.library == target.library and record.key.onnx in target.models:
                reasons.append(f"{record.file} ({record.key.precision}): {reason}")
        if fitting:
            return min(fitting, key=lambda record: (record.key.dla is not None, record.key.precision != preferred))
        if reasons:
            raise EngineMismatchError(
                f"no engine in {self.folder} fits this machine. {'; '.join(reasons[:4])}. Run `{command}`"
            )
        wanted = f"{precision} " if precision else ""
        raise EngineMissingError(
            f"{self.folder} has no {wanted}engine of {target.library} for this bundle. Run `{command}`"
        )

    def read(self, record: EngineRecord) -> bytes:
        """Read an engine and verify its hash.

        Raises:
            EngineDamagedError: the file is missing or was changed.
            EngineUntrustedError: other users may have written it, its sidecar, or the folder.
        """
        path = self.folder / record.file
        try:
            for each in (self.folder, self.folder / f"{record.key.digest}.json", path):
                if (reason := safe_files.untrusted_owner(each)) is not None:
                    raise EngineUntrustedError(f"{reason}. Engines are programs, so they must be trusted")
            data = path.read_bytes()
        except OSError as error:
            raise EngineDamagedError(f"{path} cannot be read: {error.strerror or error}; compile it again") from error
        if hashlib.sha256(data).hexdigest() != record.sha256:
            raise EngineDamagedError(f"{path} was changed: its SHA-256 differs from its sidecar; compile it again")
        return data

    def write(self, record: EngineRecord, plan: bytes) -> None:
        """Store an engine. The sidecar is written last, because an engine without one is ignored.

        Raises:
            EngineError: the folder is not writable.
            EngineUntrustedError: the folder belongs to another user, or others may write to it.
        """
        sidecar = json.dumps(record.to_json(), indent=1).encode() + b"\n"
        with self._writing():
            safe_files.atomic_write(self.folder / record.file, plan, MODE)
            safe_files.atomic_write(self.folder / f"{record.key.digest}.json", sidecar, MODE)

    @contextlib.contextmanager
    def lock(self, key: EngineKey) -> Iterator[None]:
        """Hold the lock for building an engine, so that no other process builds the same one.

        Raises:
            EngineError: another process has held the lock for 30 minutes.
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
            # Remove what a killed writer left; no other process writes these files now.
            for temporary in (*self.folder.glob(f".{key.digest}.plan.*"), *self.folder.glob(f".{key.digest}.json.*")):
                temporary.unlink(missing_ok=True)
            yield
        finally:
            lock.release()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if (reason := safe_files.untrusted_owner(self.folder)) is not None:
                raise EngineUntrustedError(
                    f"{reason}, or set {FOLDER_VARIABLE} to a folder of your own. Engines are programs, so they must be trusted"
                )
            yield
        except TimeoutError:  # a subclass of OSError, raised by the lock
            raise
        except OSError as error:
            raise EngineError(
                f"{self.folder} cannot be written ({error.strerror or error}); set {FOLDER_VARIABLE} to a writable folder"
            ) from error

    def runtime_cache(self, record: EngineRecord) -> Path:
        """Return the file for the kernels that TensorRT for RTX compiles for this GPU on the first run."""
        return self.folder / f"{record.key.digest}.runtime"
