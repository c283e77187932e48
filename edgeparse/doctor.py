"""What can run here: versions, backends, the bundle."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from edgeparse import __version__
from edgeparse.backends import onnxruntime, select
from edgeparse.bundle import open_bundle
from edgeparse.errors import BackendError, BundleError


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
    ]
    for finding in select.survey():
        lines.append(Line(f"backend {finding.name}", finding.reason or "can run", finding.usable))
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
    try:
        backend = select.create("auto", bundle)
    except BackendError as error:
        return [*lines, Line("auto", str(error), False, required=True)]
    lines.append(Line("auto", f"takes {backend.name}, the best of {', '.join(select.PREFERENCE)} that runs here", True))
    return lines
