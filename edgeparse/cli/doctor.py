"""`edgeparse doctor`: what can run on this machine, and why not."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeparse.cli.console import EXIT_SETUP, exit_on_error
from edgeparse.cli.options import bundle_option, examples
from edgeparse.errors import BackendError, BundleError
from edgeparse.render.phrases import printable

if TYPE_CHECKING:
    from edgeparse.backends.tensorrt.library import TrtLibrary
    from edgeparse.bundle import Bundle


@click.command()
@bundle_option
@examples("edgeparse doctor", "edgeparse doctor --bundle my-bundle")
def doctor(bundle: Path | None) -> None:
    """Show what can run on this machine.

    Lists the backends, which one `auto` chooses, what prevents the others, and the bundle's hash.
    """
    healthy = True
    with exit_on_error():
        for line in examine(bundle):
            mark = {True: "ok  ", False: "--  ", None: "    "}[line.good]
            click.echo(printable(f"{mark}{line.name}: {line.text}"))
            healthy = healthy and not (line.required and line.good is False)
    if not healthy:
        sys.exit(EXIT_SETUP)


@dataclass(frozen=True)
class Line:
    """One finding.

    Attributes:
        name: what was examined.
        text: the result.
        good: whether it works; None for plain information.
        required: whether edgeparse is unusable without it.
    """

    name: str
    text: str
    good: bool | None = None
    required: bool = False


def examine(folder: Path | None = None) -> list[Line]:
    """Examine versions, hardware, the bundle and the backends."""
    from edgeparse.backends import select
    from edgeparse.backends.tensorrt.library import LIBRARIES
    from edgeparse.bundle import open_bundle

    lines = [*_versions(), _gpu(), *(_library(library) for library in LIBRARIES.values())]
    try:
        bundle = open_bundle(folder)
        for file in bundle.hashes:
            bundle.read(file)
    except BundleError as error:
        return [*lines, Line("bundle", str(error), False, required=True)]
    lines.append(
        Line(
            "bundle",
            f"{bundle.label}, manifest SHA-256 {bundle.sha256[:16]}, {len(bundle.hashes)} files with correct hashes",
            True,
        )
    )
    lines += [line for library in LIBRARIES.values() if (line := _onnx_parser(library, bundle))]
    lines.append(_engines())
    for finding in select.survey_backends(bundle):
        lines.append(Line(f"backend {finding.name}", finding.reason or "can run", finding.usable))
    lines.append(_openvino())
    try:
        backend = select.create("auto", bundle)
    except BackendError as error:
        return [*lines, Line("auto", str(error), False, required=True)]
    order = ", ".join(select.PREFERENCE)
    lines.append(Line("auto", f"chooses {backend.name}, the first of {order} that runs here", True))
    return lines


def _versions() -> list[Line]:
    import platform
    from importlib import metadata

    from edgeparse import __version__
    from edgeparse.backends import onnxruntime, openvino
    from edgeparse.system import usable_cores

    machine = f"{platform.system()} {platform.machine()}"
    return [
        Line("edgeparse", __version__),
        Line("python", f"{platform.python_version()} on {machine}, {usable_cores()} usable cores"),
        Line("numpy", metadata.version("numpy")),
        Line("pillow", metadata.version("pillow")),
        Line("onnxruntime", onnxruntime.version() or "not installed"),
        Line("openvino", openvino.version() or "not installed"),
    ]


def _engines() -> Line:
    """Return the number of engines in the cache."""
    from edgeparse.backends.tensorrt.engine_cache import EngineCache

    cache = EngineCache()
    try:
        return Line("engines", f"{len(cache.records())} in {cache.folder}")
    except BackendError as error:
        return Line("engines", str(error), False)


def _openvino() -> Line:
    """Return whether OpenVINO can run. It compiles at the first image of a process, so `auto` never chooses it."""
    from edgeparse.backends import openvino

    if openvino.version() is None:
        return Line("backend openvino", f"not installed; run {openvino.INSTALL}", False)
    return Line("backend openvino", "can run, but must be named: --backend openvino", True)


def _gpu() -> Line:
    """Return the GPU with its memory, or why there is none."""
    from edgeparse.backends.tensorrt import cuda

    try:
        gpu = cuda.gpu()
        free = cuda.free_memory()
    except BackendError as error:
        return Line("gpu", str(error), False)
    return Line("gpu", f"{gpu.name}, {gpu.capability}, {free / 2**20:.0f} of {gpu.memory / 2**20:.0f} MiB free", True)


def _library(library: TrtLibrary) -> Line:
    """Return the version of a TensorRT library, or why it cannot be used."""
    from edgeparse.backends.tensorrt.library import import_library

    try:
        return Line(library.name, str(import_library(library).__version__), True)
    except BackendError as error:
        return Line(library.name, str(error), False)


def _onnx_parser(library: TrtLibrary, bundle: Bundle) -> Line | None:
    """Return whether a library that compiles without a GPU accepts the bundle's model; None if it cannot be tried."""
    from edgeparse.backends.base import variant_for
    from edgeparse.backends.tensorrt.build import parse_onnx
    from edgeparse.backends.tensorrt.library import get_logger, import_library

    if not library.capabilities:
        return None
    try:
        builder = import_library(library).Builder(get_logger(library))
    except BackendError:
        return None
    variant = variant_for(bundle, library.name)
    try:
        network, _parser = parse_onnx(bundle.model(variant), library, builder)
    except BackendError as error:
        return Line(f"{library.name} parser", str(error), False)
    return Line(f"{library.name} parser", f"accepts the whole {variant} model, {network.num_layers} layers", True)
