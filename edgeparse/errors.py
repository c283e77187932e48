"""Exceptions: one base class, and one class for each failure that a caller may handle differently."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgeparse.provenance.signals import Evidence


class EdgeparseError(Exception):
    """Base class of every error that this package raises deliberately."""


class ImageError(EdgeparseError):
    """An image could not be read.

    Attributes:
        kind: one of `KINDS`. The message states the cause and a remedy.
        evidence: what the file says about its origin, if it was read.
    """

    KINDS = ("not_found", "unreadable", "empty", "not_an_image", "truncated", "too_large", "animated", "unsupported")

    def __init__(self, kind: str, message: str, evidence: Evidence | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.evidence = evidence

    def __reduce__(self) -> tuple[type[ImageError], tuple[str, str, Evidence | None]]:
        # The default rebuilds an exception from `args`, which lacks `kind`; unpickling would then break a process pool.
        return type(self), (self.kind, str(self), self.evidence)


class BundleError(EdgeparseError):
    """A model bundle is missing, damaged, or in another format version."""


class BackendError(EdgeparseError):
    """No inference library can run here, or the requested one cannot."""


class GalleryError(EdgeparseError):
    """A user gallery is damaged, locked by another process, or belongs to another network."""


class LibraryMissingError(BackendError):
    """A library that the backend needs is not installed or is too old."""


class DriverError(BackendError):
    """The NVIDIA driver is older than the CUDA libraries require."""


class NoDeviceError(BackendError):
    """There is no NVIDIA GPU, or no driver for it."""


class DeviceMemoryError(BackendError):
    """The GPU has too little free memory."""


class EngineError(BackendError):
    """Base class of errors with compiled engines."""


class EngineMissingError(EngineError):
    """No engine was compiled for this bundle."""


class EngineMismatchError(EngineError):
    """An engine was compiled for another library version, GPU, system or model."""


class EngineDamagedError(EngineError):
    """An engine's files differ from what was written when it was compiled."""


class EngineUntrustedError(EngineError):
    """An engine's files belong to another user, or other users can change them."""


class UnsupportedModelError(EngineError):
    """TensorRT rejects something in the model."""
