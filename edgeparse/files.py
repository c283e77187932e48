"""Files that others read while they are written, and files that nobody else may write."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def replace(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Write a file so that others see the old one or the new one, whole, whatever happens, a loss of power too.

    `mode` is a new file's permissions before the user's mask. What a killed writer leaves is named `.NAME.*`.

    Raises:
        OSError: the folder cannot be written to.
    """
    temporary = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
    try:
        # A Path's own open has no way to say the permissions.
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


def deliver(path: Path, data: bytes) -> None:
    """Write a file that somebody named and may give away: with the permissions that it has, or else those that the user's mask leaves.

    What a symbolic link leads to is written, and a pipe or a device takes the bytes as they come; any other file is replaced whole.

    Raises:
        OSError: it cannot be written.
    """
    if path.exists() and not path.is_file():
        path.write_bytes(data)
        return
    target = Path(os.path.realpath(path))
    replace(target, data, stat.S_IMODE(target.stat().st_mode) if target.exists() else 0o666)


def strangers(path: Path) -> str | None:
    """Who else may have written a file or folder: another owner, or everybody. None where neither may; a group's members are trusted, as
    many systems give each user a group. Elsewhere than on POSIX nobody is asked.

    Raises:
        OSError: it is not there, or cannot be asked.
    """
    if os.name != "posix":
        return None
    status = path.stat()
    if status.st_uid not in (os.geteuid(), 0):
        return f"{path} belongs to another user; make it anew, or chown it to your own"
    if status.st_mode & stat.S_IWOTH:
        return f"{path} may be changed by every user of this machine; chmod o-w it, or make it anew"
    return None
