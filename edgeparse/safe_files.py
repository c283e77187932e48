"""Atomic file writes, and a check that no other user can have written a file."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def atomic_write(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Write a file so that readers see either the old or the new content, even after a power loss.

    A writer that is killed leaves a temporary file named `.NAME.*`.

    Args:
        path: the file to create or replace.
        data: its new content.
        mode: permissions of a new file, before the umask is applied.

    Raises:
        OSError: the folder is not writable.
    """
    temporary = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
    try:
        # Path.open cannot set permissions at creation.
        with open(temporary, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    if os.name == "posix":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write_output(path: Path, data: bytes) -> None:
    """Write a file that the user named, keeping its permissions; a new file gets the umask's.

    A symbolic link is followed. A pipe or device receives the bytes directly; a regular file is replaced atomically.

    Raises:
        OSError: the file cannot be written.
    """
    if path.exists() and not path.is_file():
        path.write_bytes(data)
        return
    target = Path(os.path.realpath(path))
    atomic_write(target, data, stat.S_IMODE(target.stat().st_mode) if target.exists() else 0o666)


def untrusted_owner(path: Path) -> str | None:
    """Return why other users may have written a file or folder, or None if they cannot have.

    A file is untrusted if another user owns it or everybody may write to it. The owner's group is trusted, because many
    systems give each user a group. On systems other than POSIX nothing is checked.

    Raises:
        OSError: the path does not exist or cannot be inspected.
    """
    if os.name != "posix":
        return None
    status = path.stat()
    if status.st_uid not in (os.geteuid(), 0):
        return f"{path} belongs to another user; create it again, or chown it to yourself"
    if status.st_mode & stat.S_IWOTH:
        return f"{path} is writable by every user of this machine; run chmod o-w on it, or create it again"
    return None
