"""Messages, exit statuses, Ctrl-C and progress bars."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from edgeparse.errors import BackendError, BundleError, EdgeparseError
from edgeparse.render.phrases import printable

if TYPE_CHECKING:
    from rich.console import Console

T = TypeVar("T")

EXIT_INPUT = 1
EXIT_USAGE = 2
EXIT_SETUP = 3
EXIT_INTERRUPTED = 130
# 128 + SIGPIPE, as shells report it: the reader, for example `head`, closed the pipe.
EXIT_CLOSED_PIPE = 141

# Shorter runs end before anybody reads a progress bar.
LONG_RUN = 5


def is_interactive(quiet: bool) -> bool:
    """Return whether a person reads standard error and wants notices."""
    # Standard error is None if it was closed.
    return not quiet and sys.stderr is not None and sys.stderr.isatty()


def notice(text: str, quiet: bool) -> None:
    """Print a message for people to standard error."""
    if is_interactive(quiet):
        click.echo(printable(text), err=True)


def fail(text: str, status: int) -> NoReturn:
    """Print an error message without control characters, and exit."""
    click.echo("\n".join(map(printable, f"error: {text}".expandtabs().splitlines())), err=True)
    sys.exit(status)


@contextlib.contextmanager
def exit_on_error() -> Iterator[None]:
    """Turn errors into messages and exit statuses."""
    try:
        yield
    except (BundleError, BackendError) as error:
        fail(str(error), EXIT_SETUP)
    except EdgeparseError as error:
        fail(str(error), EXIT_INPUT)
    except BrokenPipeError:
        exit_on_closed_pipe()
    except OSError as error:
        # Errors with a file name do not concern standard output. Images and output files have errors of their own.
        if error.filename is not None:
            raise
        discard_output()
        fail(f"standard output cannot be written: {error.strerror or error}", EXIT_USAGE)
    except KeyboardInterrupt:
        fail("interrupted", EXIT_INTERRUPTED)


def discard_output() -> None:
    """Discard what standard output still buffers, so that the interpreter does not flush it into a closed pipe."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def exit_on_closed_pipe() -> NoReturn:
    """Exit as a program that SIGPIPE ended. Status 1 would mean that an image could not be read."""
    discard_output()
    sys.exit(EXIT_CLOSED_PIPE)


def prepare_streams() -> None:
    """Make standard output and error usable: open if they were closed, and able to print every character.

    Python sets a closed stream to None. Characters that the encoding of standard output lacks, for example box lines on an ASCII
    terminal, become `?`. Standard error escapes such characters anyway.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            # Lives until the process ends, like the stream it replaces.
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115
        elif name == "stdout" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


class Interruptible:
    """Lets Ctrl-C end a run after the current image, so that finished results are written. A second Ctrl-C ends it at once.

    Attributes:
        interrupted: whether Ctrl-C was pressed.
    """

    def __init__(self) -> None:
        self.interrupted = False

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Handle the signal within the block. Only a main thread can; other threads change nothing."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.getsignal(signal.SIGINT)

        def handle(_number: int, _frame: FrameType | None) -> Any:
            self.interrupted = True
            signal.signal(signal.SIGINT, before)

        signal.signal(signal.SIGINT, handle)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def until(self, items: Iterable[T]) -> Iterator[T]:
        """Yield items until the run is interrupted."""
        for item in items:
            yield item
            if self.interrupted:
                return


def progress_console(quiet: bool, results: Console | None = None) -> Console | None:
    """Return the console for a progress bar, or None for no bar.

    Args:
        quiet: whether the user asked for no progress.
        results: the console that results are printed to as they arrive. If it is a terminal, the bar stays below them.
    """
    if not is_interactive(quiet):
        return None
    if results is not None and sys.stdout.isatty():
        return results
    from rich.console import Console

    return Console(stderr=True)


def track(items: Iterator[T], count: int, console: Console | None, label: str) -> Iterator[T]:
    """Yield items, with a progress bar and the remaining time on long runs."""
    if console is None or count < LONG_RUN:
        yield from items
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(label), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        yield from bar.track(items, total=count)
