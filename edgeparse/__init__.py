"""Was this image made by a camera or a generative model, by which model, and what is that model like inside?

    >>> from edgeparse import Parser
    >>> report = Parser().parse("photo.jpg")
    >>> report.verdict, report.probability_generated

Importing this package loads neither an inference library nor Pillow; they are loaded when first needed. It switches off the telemetry
of ONNX Runtime, unless the environment variable `ORT_DISABLE_TELEMETRY` is set.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING

__version__ = "0.1.0"

# ONNX Runtime 1.32 writes a device id and sends telemetry unless this is set before it is imported. Processes that this one starts
# inherit it. A value that the user chose stays.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from edgeparse.compare import Comparison
    from edgeparse.errors import BackendError, BundleError, EdgeparseError, GalleryError, ImageError
    from edgeparse.parser import Inspection, Parser
    from edgeparse.report import Report
    from edgeparse.video.frames import VideoLimits
    from edgeparse.video.report import VideoReport

_MODULES = {
    "Parser": "edgeparse.parser",
    "Inspection": "edgeparse.parser",
    "Comparison": "edgeparse.compare",
    "Report": "edgeparse.report",
    "VideoLimits": "edgeparse.video.frames",
    "VideoReport": "edgeparse.video.report",
    "EdgeparseError": "edgeparse.errors",
    "ImageError": "edgeparse.errors",
    "BundleError": "edgeparse.errors",
    "BackendError": "edgeparse.errors",
    "GalleryError": "edgeparse.errors",
}

__all__ = [
    "BackendError",
    "BundleError",
    "Comparison",
    "EdgeparseError",
    "GalleryError",
    "ImageError",
    "Inspection",
    "Parser",
    "Report",
    "VideoLimits",
    "VideoReport",
    "__version__",
]


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'edgeparse' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
