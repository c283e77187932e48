"""What can run here: versions, backends, the bundle."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from edgeparse import __version__
from edgeparse.backends import compiler, cuda, flavours, onnxruntime, openvino, select
from edgeparse.backends.plans import Store
from edgeparse.bundle import Bundle, open_bundle
from edgeparse.errors import BackendError, BundleError
from edgeparse.precision import variant_for


@dataclass(frozen=True)
class Line:
    """One finding; `good` is None for plain information, `required` where nothing works without it."""

    name: str
    text: str
    good: bool | None = None
    required: bool = False


def examine(folder: Path | None = None) -> list[Line]:
    """Every finding, in the order in which a person would ask."""
    lines = [
        Line("edgeparse", __version__),
        Line(
            "python",
            f"{platform.python_version()} on {platform.system()} {platform.machine()}, {onnxruntime.usable_cores()} usable cores",
        ),
        Line("numpy", metadata.version("numpy")),
        Line("pillow", metadata.version("pillow")),
        Line("onnxruntime", onnxruntime.version() or "not installed"),
        Line("openvino", openvino.version() or "not installed"),
    ]
    lines.append(_gpu())
    lines += [_library(flavour) for flavour in flavours.FLAVOURS.values()]
    try:
        bundle = open_bundle(folder)
        for file in bundle.hashes:
            bundle.read(file)
    except BundleError as error:
        return [*lines, Line("bundle", str(error), False, required=True)]
    lines.append(
        Line(
            "bundle",
            f"{bundle.label}, manifest SHA-256 {bundle.sha256[:16]}, {len(bundle.hashes)} files with right hashes",
            True,
        )
    )
    lines += [line for flavour in flavours.FLAVOURS.values() if (line := _parses(flavour, bundle))]
    lines.append(_engines())
    for finding in select.survey(bundle):
        lines.append(Line(f"backend {finding.name}", finding.reason or "can run", finding.usable))
    lines.append(_openvino())
    try:
        backend = select.create("auto", bundle)
    except BackendError as error:
        return [*lines, Line("auto", str(error), False, required=True)]
    lines.append(Line("auto", f"takes {backend.name}, the best of {', '.join(select.PREFERENCE)} that runs here", True))
    return lines


def _engines() -> Line:
    """How many there are, or why nobody can say."""
    store = Store()
    try:
        return Line("engines", f"{len(store.records())} in {store.folder}")
    except BackendError as error:
        return Line("engines", str(error), False)


def _openvino() -> Line:
    """It compiles at a process's first picture, so that only a name takes it."""
    if openvino.version() is None:
        return Line("backend openvino", f"not installed; {openvino.INSTALL}", False)
    return Line("backend openvino", "can run, by name only: --backend openvino", True)


def _gpu() -> Line:
    """The GPU with its memory, or why there is none."""
    try:
        gpu = cuda.gpu()
        free = cuda.free_memory()
    except BackendError as error:
        return Line("gpu", str(error), False)
    return Line("gpu", f"{gpu.name}, {gpu.capability}, {free / 2**20:.0f} of {gpu.memory / 2**20:.0f} MiB free", True)


def _library(flavour: flavours.Flavour) -> Line:
    """The version of a TensorRT, or why it cannot be used."""
    try:
        return Line(flavour.name, str(flavours.library(flavour).__version__), True)
    except BackendError as error:
        return Line(flavour.name, str(error), False)


def _parses(flavour: flavours.Flavour, bundle: Bundle) -> Line | None:
    """Whether the parser of a library that compiles without a GPU accepts the bundle's model; None where it cannot be asked."""
    try:
        builder = flavours.library(flavour).Builder(flavours.logger(flavour)) if flavour.capabilities else None
    except BackendError:
        return None
    if builder is None:
        return None
    variant = variant_for(bundle, flavour.name)
    try:
        network, _parser = compiler.parse(bundle.model(variant), flavour, builder)
    except BackendError as error:
        return Line(f"{flavour.name} parser", str(error), False)
    return Line(f"{flavour.name} parser", f"accepts all of the {variant} model, {network.num_layers} layers", True)
