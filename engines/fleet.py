"""Recipes -> a folder of engines with a manifest, and one script that compiles on the devices what cannot be compiled here."""

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
    """An engine that was compiled here. Its sidecar, beside it, says everything else."""

    recipe: str
    device: str
    file: str
    sha256: str
    bytes: int
    seconds: float
    precision: str
    library: str


@dataclass(frozen=True)
class Left:
    """What is to be compiled on the device, and why not here."""

    recipe: str
    device: str
    needs: str
    reason: str
    command: str


def why_not_here(recipe: Recipe) -> str | None:
    """Why a recipe's engine cannot be compiled on this machine, or None where it can."""
    flavour = library.get_library(recipe.flavour)
    try:
        version = str(library.import_library(flavour).__version__)
        if not recipe.versions.contains(version, prereleases=True):
            return f"{flavour.name} {version} is here, the recipe wants {recipe.versions}"
        if recipe.ahead:
            return None
        gpu = cuda.gpu()
    except BackendError as error:
        return str(error)
    return (
        None
        if gpu.capability == recipe.capability
        else f"this GPU is {gpu.capability}, the device's is {recipe.capability}"
    )


def make(
    recipes: Sequence[Recipe], bundle: Bundle, out: Path, said: Callable[[str], None] = lambda _line: None
) -> tuple[list[Built], list[Left]]:
    """Compile what can be compiled here into `out`/RECIPE, and write `manifest.json` and the script for the rest.

    Raises:
        BundleError: the bundle has no model of a recipe's precision.
        BackendError: a compiler refused.
    """
    for recipe in recipes:
        base.variant_for(bundle, recipe.flavour, recipe.precision)
    built, left = [], []
    for recipe in recipes:
        reason = why_not_here(recipe)
        if reason is not None:
            left.append(Left(recipe.name, recipe.device, recipe.needs, reason, shlex.join(recipe.command())))
            said(f"{recipe.name}: on the device ({reason})")
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
        said(f"{recipe.name}: {record.bytes / 1e6:.1f} MB in {record.seconds:.1f} s")
    out.mkdir(parents=True, exist_ok=True)
    manifest = {
        "schema": SCHEMA,
        "edgeparse": __version__,
        "bundle": bundle.label,
        "bundle_sha256": bundle.sha256,
        "engines": [asdict(entry) for entry in built],
        "on_device": [asdict(entry) for entry in left],
    }
    safe_files.atomic_write(out / "manifest.json", json.dumps(manifest, indent=1).encode() + b"\n", MODE)
    safe_files.atomic_write(out / SCRIPT, script_for(left).encode(), 0o755)
    return built, left


def script_for(left: Sequence[Left]) -> str:
    """A POSIX shell script that takes a recipe's name and, for another bundle than the default one, a folder."""
    cases = "\n".join(
        f'  # {_line(entry.device)}, {_line(entry.needs)}\n  {shlex.quote(entry.recipe)}) set -- {entry.command} "$@" ;;'
        for entry in left
    )
    known = " ".join(entry.recipe for entry in left) or "none: every engine was compiled ahead of time"
    usage = shlex.quote(f"usage: {SCRIPT} RECIPE [BUNDLE]; recipes: {known}")
    return f"""#!/bin/sh
# Compiles, on the device itself, the engine that could not be compiled elsewhere.
# Usage: {SCRIPT} RECIPE [BUNDLE]     {FOLDER_VARIABLE} says where engines are kept, by default in the folder RECIPE beside this
# script, where `python -m engines verify` looks for them.
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
    """Words that cannot leave a comment."""
    return "".join(character if character.isprintable() else " " for character in text)


def verify_files(out: Path) -> list[str]:
    """What is wrong with the engines in a folder that `make` wrote: missing or changed files, one line each.

    Raises:
        BundleError: there is no manifest, or none of this schema.
    """
    try:
        manifest = json.loads((out / "manifest.json").read_text())
    except (OSError, ValueError) as error:
        raise BundleError(
            f"{out / 'manifest.json'} cannot be read: {error}; write it with python -m engines build"
        ) from error
    if manifest.get("schema") != SCHEMA:
        raise BundleError(f"{out / 'manifest.json'} has schema {manifest.get('schema')!r}, {SCHEMA} was expected")
    wrong = []
    for entry in manifest["engines"]:
        store = EngineCache(out / entry["recipe"])
        record = next((r for r in store.records() if r.file == Path(entry["file"]).name), None)
        try:
            if record is None:
                wrong.append(f"{entry['file']} has no sidecar")
            elif record.sha256 != entry["sha256"]:
                wrong.append(f"{entry['file']} has another SHA-256 in its sidecar than in the manifest")
            else:
                store.read(record)
        except BackendError as error:
            wrong.append(str(error))
    return wrong
