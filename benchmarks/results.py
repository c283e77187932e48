"""What was measured on a machine, kept as JSON: one file a machine, a section for each kind of measurement."""

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
    """What this machine is called where nobody says: its processor, GPU and cores."""
    told = system.describe()
    gpu = f" {told['gpu']['name']}" if told["gpu"] else ""
    return re.sub(r"[^a-z0-9]+", "-", f"{told['cpu']}{gpu} {told['cores']} cores".lower()).strip("-")


def save(name: str, section: str, found: dict[str, Any], folder: Path = FOLDER) -> Path:
    """Put a section into a machine's file; the others stay, each with the date, commit and versions that it was measured with."""
    file = folder / f"{name}.json"
    stored = load(file) if file.exists() else {"schema": SCHEMA, "name": name, "sections": {}}
    stored["sections"][section] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": system.describe(),
        **found,
    }
    folder.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(stored, indent=1) + "\n")
    partial.replace(file)
    return file


def load(file: Path) -> dict[str, Any]:
    """A machine's file.

    Raises:
        ValueError: it is none, or of another schema.
    """
    stored = json.loads(file.read_text())
    if not isinstance(stored, dict) or stored.get("schema") != SCHEMA:
        raise ValueError(f"{file} holds no results of schema {SCHEMA}; measure again")
    return stored


def commit() -> str | None:
    """The commit that is measured, with "+" where files differ from it; None outside of a repository."""
    try:
        said = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return said.stdout.strip()
