"""TensorRT and TensorRT for RTX: one programming interface, and what differs between them as data."""

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
class Flavour:
    """One of the two libraries.

    `capabilities` are the GPUs that it compiles for without having one (empty: it compiles only for the GPU that it runs on, and an
    engine fits only that kind of GPU). `graphs` is whether it captures CUDA graphs by itself, `dla` whether it knows DLA cores.
    """

    name: str
    module: str
    minimum: tuple[int, ...]
    install: str
    capabilities: tuple[str, ...]
    graphs: bool
    dla: bool


FLAVOURS = {
    flavour.name: flavour
    for flavour in (
        Flavour(
            name="tensorrt",
            module="tensorrt",
            minimum=(10, 1),
            install="a Jetson has it from JetPack (use its python3, or a virtual environment with --system-site-packages); "
            "elsewhere install NVIDIA's TensorRT 10 or 11 with its Python package",
            capabilities=(),
            graphs=False,
            dla=True,
        ),
        Flavour(
            name="tensorrt-rtx",
            module="tensorrt_rtx",
            minimum=(1, 4),
            install='install it with pip install "tensorrt-rtx>=1.7" "cuda-python>=13"',
            capabilities=("sm75", "sm80", "sm86", "sm89", "sm120", "sm121"),
            graphs=True,
            dla=False,
        ),
    )
}


def flavour(name: str) -> Flavour:
    """The flavour of that name.

    Raises:
        BackendError: there is none.
    """
    if name not in FLAVOURS:
        raise BackendError(f"there is no TensorRT flavour {name!r}; choose from {', '.join(FLAVOURS)}")
    return FLAVOURS[name]


def installed(flavour: Flavour) -> bool:
    """Whether the library's module is there, without loading it: that takes hundreds of megabytes."""
    return importlib.util.find_spec(flavour.module) is not None


def library(flavour: Flavour) -> Any:
    """The library's module.

    Raises:
        LibraryMissingError: it is not installed, lacks one of its own libraries, or is too old.
    """
    try:
        module = importlib.import_module(flavour.module)
    except (ImportError, OSError) as error:
        raise LibraryMissingError(f"{flavour.name} cannot be imported ({error}); {flavour.install}") from error
    if not hasattr(module, "Builder"):
        # The registry's package of this name is a placeholder that holds nothing where NVIDIA's own index is not set up.
        raise LibraryMissingError(f"the installed {flavour.module} has no builder in it; {flavour.install}")
    if numbers(module.__version__) < flavour.minimum:
        wanted = ".".join(map(str, flavour.minimum))
        raise LibraryMissingError(f"{flavour.name} {module.__version__} is too old; {wanted} or later is needed")
    return module


def numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: "10.3.0.30" -> (10, 3, 0, 30)."""
    found = []
    for part in version.split("."):
        if not part.isdigit():
            break
        found.append(int(part))
    return tuple(found)


def system() -> str:
    """Operating system and processor, as "linux-x86_64": an engine runs on no other."""
    return f"{platform.system()}-{platform.machine()}".lower()


@cache
def logger(flavour: Flavour) -> Any:
    """The one logger of a library: TensorRT keeps the first that it is given. Its `errors` are the latest messages of failures."""
    trt = library(flavour)

    class Logger(trt.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: deque[str] = deque(maxlen=8)

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.errors.append(message.strip())
                _log.info("%s: %s", flavour.name, message)
            elif severity == trt.ILogger.Severity.WARNING:
                _log.debug("%s: %s", flavour.name, message)

    return Logger()
