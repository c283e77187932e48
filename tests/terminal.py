"""Run commands in a pseudo-terminal, as a person would see them."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Seen:
    """What the terminal showed, with escape codes, and the exit status."""

    text: str
    status: int


def run_in_terminal(
    *arguments: object,
    environment: Mapping[str, str] = {},
    interrupt_after: str | None = None,
    stdout_to: str | None = None,
    answer: bytes = b"",
    columns: int = 110,
    seconds: float = 60,
) -> Seen:
    """Run edgeparse in a pseudo-terminal.

    Args:
        arguments: The command line.
        environment: Extra environment variables.
        interrupt_after: Press Ctrl-C once the output matches this pattern.
        stdout_to: Redirect standard output to this file.
        answer: Typed after the start.
        columns: Width of the terminal.
        seconds: Kill the command after this time.
    """
    child, terminal = pty.fork()
    if child == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        for name in ("NO_COLOR", "FORCE_COLOR"):
            os.environ.pop(name, None)
        os.environ.update({"TERM": "xterm-256color", **environment})
        if stdout_to is not None:
            os.dup2(os.open(stdout_to, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), 1)
        os.execv(sys.executable, [sys.executable, "-m", "edgeparse", *map(str, arguments)])
    shown, end = b"", time.monotonic() + seconds
    if answer:
        os.write(terminal, answer)
    while time.monotonic() < end:
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                data = os.read(terminal, 65536)
            except OSError:  # on Linux, the other end was closed
                break
            if not data:
                break
            shown += data
            if interrupt_after is not None and re.search(interrupt_after.encode(), shown):
                os.write(terminal, b"\x03")
                interrupt_after = None
    else:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    os.close(terminal)
    return Seen(shown.decode(errors="replace"), os.waitstatus_to_exitcode(status))
