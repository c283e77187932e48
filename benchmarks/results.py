"""Store measurements as JSON: one file per machine, one section per kind of measurement."""

from __future__ import annotations

import json
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edgeparse import system

SCHEMA = 1
FOLDER = Path(__file__).parent / "results"


def default_name() -> str:
    """Name this machine after its CPU, GPU and cores."""
    facts = system.describe()
    gpu = f" {facts['gpu']['name']}" if facts["gpu"] else ""
    return re.sub(r"[^a-z0-9]+", "-", f"{facts['cpu']}{gpu} {facts['cores']} cores".lower()).strip("-")


def save(name: str, section: str, measured: dict[str, Any], folder: Path = FOLDER) -> Path:
    """Replace one section of a machine's file, with date, commit and versions; return the file."""
    file = folder / f"{name}.json"
    stored: dict[str, Any] = load(file) if file.exists() else {"schema": SCHEMA, "name": name, "sections": {}}
    stored["sections"][section] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": system.describe(),
        **measured,
    }
    folder.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(stored, indent=1) + "\n")
    partial.replace(file)
    return file


def load(file: Path) -> dict[str, Any]:
    """Load a machine's file.

    Raises:
        ValueError: The file has another schema.
    """
    stored = json.loads(file.read_text())
    if not isinstance(stored, dict) or stored.get("schema") != SCHEMA:
        raise ValueError(f"{file} must hold results of schema {SCHEMA}; measure again")
    return stored


def commit() -> str | None:
    """Return the measured commit, with "+" if files differ from it; None outside of a repository."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return described.stdout.strip()
