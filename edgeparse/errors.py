"""What can go wrong: one base class, and one class for each thing that a caller may want to handle apart."""

from __future__ import annotations


class EdgeparseError(Exception):
    """Base of every error that this package raises on purpose."""


class ImageError(EdgeparseError):
    """A picture could not be read. `kind` is one of `KINDS`; the message says what was wrong and what to do."""

    KINDS = ("not_found", "unreadable", "empty", "not_an_image", "truncated", "too_large", "animated", "unsupported")

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind

    def __reduce__(self) -> tuple[type[ImageError], tuple[str, str]]:
        # An exception is rebuilt from `args`, which has the message alone; one that cannot be breaks a pool of processes.
        return type(self), (self.kind, str(self))


class BundleError(EdgeparseError):
    """A model bundle is missing, damaged, or made for another version."""


class BackendError(EdgeparseError):
    """No inference library, or the one that was asked for, can run here."""


class GalleryError(EdgeparseError):
    """A gallery of enrolled generators is damaged, held by another process, or made with another network."""


class LibraryMissingError(BackendError):
    """A library that the backend needs is not installed, or is too old."""


class DriverError(BackendError):
    """The NVIDIA driver is older than the CUDA libraries need."""


class NoDeviceError(BackendError):
    """There is no NVIDIA GPU, or no driver that speaks to it."""


class DeviceMemoryError(BackendError):
    """The GPU has not enough free memory."""


class EngineError(BackendError):
    """Base of what can go wrong with compiled engines."""


class EngineMissingError(EngineError):
    """No engine was compiled for this bundle."""


class EngineMismatchError(EngineError):
    """An engine was compiled for another library version, GPU, system or model."""


class EngineDamagedError(EngineError):
    """An engine's files are not what was written when it was compiled."""


class EngineUntrustedError(EngineError):
    """An engine's files belong to another user, or others may change them."""


class UnsupportedModelError(EngineError):
    """The compiler refuses something in the model."""
