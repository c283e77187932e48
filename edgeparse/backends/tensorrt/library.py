"""TensorRT and TensorRT for RTX: one API, with the differences as data."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import platform
from collections import deque
from dataclasses import dataclass
from functools import cache
from typing import Any

from edgeparse.errors import BackendError, LibraryMissingError

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrtLibrary:
    """One of the two libraries.

    Attributes:
        name: name of the backend.
        module: Python module.
        minimum: oldest supported version.
        install: how to install it.
        capabilities: GPUs that it compiles for ahead of time. Empty: it compiles only for the GPU it runs on, and an engine fits
            only that model of GPU.
        graphs: whether it captures CUDA graphs itself.
        dla: whether it supports DLA cores.
    """

    name: str
    module: str
    minimum: tuple[int, ...]
    install: str
    capabilities: tuple[str, ...]
    graphs: bool
    dla: bool


LIBRARIES = {
    library.name: library
    for library in (
        TrtLibrary(
            name="tensorrt",
            module="tensorrt",
            minimum=(10, 1),
            install="on a Jetson, use JetPack's python3 or a virtual environment with --system-site-packages; elsewhere, install "
            "NVIDIA's TensorRT 10 or 11 with its Python package",
            capabilities=(),
            graphs=False,
            dla=True,
        ),
        TrtLibrary(
            name="tensorrt-rtx",
            module="tensorrt_rtx",
            minimum=(1, 4),
            install='run pip install "tensorrt-rtx>=1.7" "cuda-python>=13"',
            capabilities=("sm75", "sm80", "sm86", "sm89", "sm120", "sm121"),
            graphs=True,
            dla=False,
        ),
    )
}


def get_library(name: str) -> TrtLibrary:
    """Return the library of a name.

    Raises:
        BackendError: the name is unknown.
    """
    if name not in LIBRARIES:
        raise BackendError(f"library must be one of {', '.join(LIBRARIES)}, got {name!r}")
    return LIBRARIES[name]


def is_installed(library: TrtLibrary) -> bool:
    """Return whether the library's module exists, without loading its hundreds of megabytes."""
    return importlib.util.find_spec(library.module) is not None


def import_library(library: TrtLibrary) -> Any:
    """Import the library's module.

    Raises:
        LibraryMissingError: the library is not installed, is incomplete, or is too old.
    """
    try:
        module = importlib.import_module(library.module)
    except (ImportError, OSError) as error:
        raise LibraryMissingError(f"{library.name} cannot be imported ({error}); {library.install}") from error
    if not hasattr(module, "Builder"):
        # Without NVIDIA's own index, pip installs an empty placeholder of this name.
        raise LibraryMissingError(f"the installed {library.module} has no Builder; {library.install}")
    if parse_version(module.__version__) < library.minimum:
        minimum = ".".join(map(str, library.minimum))
        raise LibraryMissingError(f"{library.name} must be at least {minimum}, got {module.__version__}; upgrade it")
    return module


def parse_version(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version: "10.3.0.30" -> (10, 3, 0, 30)."""
    numbers = []
    for part in version.split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)


def platform_tag() -> str:
    """Return operating system and processor, for example "linux-x86_64"; engines are specific to them."""
    return f"{platform.system()}-{platform.machine()}".lower()


@cache
def get_logger(library: TrtLibrary) -> Any:
    """Return the library's only logger, because TensorRT keeps the first one it receives.

    Its `errors` holds the latest error messages.
    """
    trt = import_library(library)

    class Logger(trt.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: deque[str] = deque(maxlen=8)

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.errors.append(message.strip())
                _log.info("%s: %s", library.name, message)
            elif severity == trt.ILogger.Severity.WARNING:
                _log.debug("%s: %s", library.name, message)

    return Logger()
