"""Turn recipes into a folder of engines with a manifest, and a script that compiles the rest on the devices."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from edgeparse import __version__, safe_files
from edgeparse.backends import base
from edgeparse.backends.tensorrt import build, cuda, library
from edgeparse.backends.tensorrt.engine_cache import FOLDER_VARIABLE, MODE, EngineCache
from edgeparse.bundle import Bundle
from edgeparse.errors import BackendError, BundleError
from engines.recipes import Recipe

SCHEMA = 1
SCRIPT = "build-on-device.sh"


@dataclass(frozen=True)
class Built:
    """An engine that was compiled here; its sidecar file has the other facts."""

    recipe: str
    device: str
    file: str
    sha256: str
    bytes: int
    seconds: float
    precision: str
    library: str


@dataclass(frozen=True)
class Deferred:
    """An engine that must be compiled on its device, and why."""

    recipe: str
    device: str
    needs: str
    reason: str
    command: str


def reason_to_defer(recipe: Recipe) -> str | None:
    """Return why a recipe's engine cannot be compiled here, or None if it can."""
    flavour = library.get_library(recipe.flavour)
    try:
        version = str(library.import_library(flavour).__version__)
        if not recipe.versions.contains(version, prereleases=True):
            return f"{flavour.name} must be {recipe.versions} for this recipe, got {version}"
        if recipe.compiles_ahead:
            return None
        gpu = cuda.gpu()
    except BackendError as error:
        return str(error)
    return None if gpu.capability == recipe.capability else f"the GPU must be {recipe.capability}, got {gpu.capability}"


def make(
    recipes: Sequence[Recipe], bundle: Bundle, out: Path, progress: Callable[[str], None] = lambda _line: None
) -> tuple[list[Built], list[Deferred]]:
    """Compile what can be compiled here, and write `manifest.json` and the script for the rest.

    Args:
        recipes: What to compile.
        bundle: The bundle whose network is compiled.
        out: The folder to write; each recipe gets a subfolder of its name.
        progress: Receives a line for each recipe.

    Raises:
        BundleError: The bundle has no model of a recipe's precision.
        BackendError: A compiler refused a model.
    """
    for recipe in recipes:
        base.variant_for(bundle, recipe.flavour, recipe.precision)
    built, deferred = [], []
    for recipe in recipes:
        reason = reason_to_defer(recipe)
        if reason is not None:
            deferred.append(Deferred(recipe.name, recipe.device, recipe.needs, reason, shlex.join(recipe.command())))
            progress(f"{recipe.name}: on the device ({reason})")
            continue
        store = EngineCache(out / recipe.name)
        record, _ = build.build_engine(bundle, recipe.order(), store)
        built.append(
            Built(
                recipe=recipe.name,
                device=recipe.device,
                file=f"{recipe.name}/{record.file}",
                sha256=record.sha256,
                bytes=record.bytes,
                seconds=record.seconds,
                precision=record.key.precision,
                library=f"{record.key.library} {record.key.version}",
            )
        )
        progress(f"{recipe.name}: {record.bytes / 1e6:.1f} MB in {record.seconds:.1f} s")
    out.mkdir(parents=True, exist_ok=True)
    manifest = {
        "schema": SCHEMA,
        "edgeparse": __version__,
        "bundle": bundle.label,
        "bundle_sha256": bundle.sha256,
        "engines": [asdict(entry) for entry in built],
        "on_device": [asdict(entry) for entry in deferred],
    }
    safe_files.atomic_write(out / "manifest.json", json.dumps(manifest, indent=1).encode() + b"\n", MODE)
    safe_files.atomic_write(out / SCRIPT, script_for(deferred).encode(), 0o755)
    return built, deferred


def script_for(deferred: Sequence[Deferred]) -> str:
    """Return a POSIX shell script that takes a recipe's name and, optionally, a bundle's folder."""
    cases = "\n".join(
        f'  # {_line(entry.device)}, {_line(entry.needs)}\n  {shlex.quote(entry.recipe)}) set -- {entry.command} "$@" ;;'
        for entry in deferred
    )
    known = " ".join(entry.recipe for entry in deferred) or "none, all are compiled"
    usage = shlex.quote(f"usage: {SCRIPT} RECIPE [BUNDLE]; recipes: {known}")
    return f"""#!/bin/sh
# Compile the engine of a recipe on its device.
# Usage: {SCRIPT} RECIPE [BUNDLE]
# Engines go to ${FOLDER_VARIABLE}, by default to the folder RECIPE next to this script, where `python -m engines verify`
# looks for them.
set -eu
recipe="${{1:-}}"
bundle="${{2:-}}"
set --
[ -z "$bundle" ] || set -- --bundle "$bundle"
case "$recipe" in
{cases}
  *) echo {usage} >&2; exit 2 ;;
esac
here="$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)"
export {FOLDER_VARIABLE}="${{{FOLDER_VARIABLE}:-$here/$recipe}}"
exec "$@"
"""


def _line(text: str) -> str:
    """Return text that cannot end a comment line."""
    return "".join(character if character.isprintable() else " " for character in text)


def verify_files(out: Path) -> list[str]:
    """Return one line for each missing or changed file in a folder that `make` wrote.

    Raises:
        BundleError: The manifest is missing or has another schema.
    """
    try:
        manifest = json.loads((out / "manifest.json").read_text())
    except (OSError, ValueError) as error:
        raise BundleError(
            f"{out / 'manifest.json'} cannot be read: {error}; write it with python -m engines build"
        ) from error
    if manifest.get("schema") != SCHEMA:
        raise BundleError(
            f"{out / 'manifest.json'} must have schema {SCHEMA}, got {manifest.get('schema')!r}; build again"
        )
    wrong = []
    for entry in manifest["engines"]:
        store = EngineCache(out / entry["recipe"])
        record = next((r for r in store.records() if r.file == Path(entry["file"]).name), None)
        try:
            if record is None:
                wrong.append(f"{entry['file']} has no sidecar")
            elif record.sha256 != entry["sha256"]:
                wrong.append(f"{entry['file']}: sidecar and manifest have different SHA-256 hashes")
            else:
                store.read(record)
        except BackendError as error:
            wrong.append(str(error))
    return wrong
