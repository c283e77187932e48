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


class BundleError(EdgeparseError):
    """A model bundle is missing, damaged, or made for another version."""


class BackendError(EdgeparseError):
    """No inference library, or the one that was asked for, can run here."""


class GalleryError(EdgeparseError):
    """A gallery of enrolled generators is damaged, held by another process, or made with another network."""
