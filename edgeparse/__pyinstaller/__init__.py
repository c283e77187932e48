"""What PyInstaller needs to know of this package; it finds this by the entry point `pyinstaller40`."""

from __future__ import annotations

from pathlib import Path


def get_hook_dirs() -> list[str]:
    """Where the hook is."""
    return [str(Path(__file__).parent)]
