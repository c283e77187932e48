"""What several commands share: options, the way from arguments to pictures, messages, exit statuses."""

from __future__ import annotations

import contextlib
import glob
import os
import re
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn, TypeVar

import click
from click.core import ParameterSource

from edgeparse.errors import BackendError, BundleError, EdgeparseError, GalleryError
from edgeparse.text import printable

if TYPE_CHECKING:
    from rich.console import Console

    from edgeparse.images import Source
    from edgeparse.parser import Parser

T = TypeVar("T")

EXIT_INPUT = 1
EXIT_USAGE = 2
EXIT_SETUP = 3
EXIT_INTERRUPTED = 130

# What a folder is searched for; a file that is named is read whatever its name. HEIC is not read, and that is said of each.
_ENDINGS = "jpg jpeg jpe jfif mpo jp2 j2k png apng webp avif heic heif tif tiff bmp dib gif ppm pgm pnm"
SUFFIXES = frozenset(f".{ending}" for ending in _ENDINGS.split())
# Fewer pictures are done before a bar is read.
LONG_RUN = 5

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


class _Backends(click.Choice[str]):
    """The backends' names, looked up when they are asked for: NumPy, which that loads, is nothing that `--version` should wait for."""

    def __init__(self) -> None:
        self.case_sensitive = True

    @property
    def choices(self) -> Sequence[str]:  # type: ignore[override]
        from edgeparse.backends.select import NAMES

        return NAMES


backend_option = click.option(
    "--backend", type=_Backends(), default="auto", show_default=True, help="What runs the network."
)
bundle_option = click.option(
    "--bundle", type=click.Path(path_type=Path), help="A bundle's folder; by default the one in the package."
)
windows_option = click.option(
    "--windows", type=click.IntRange(1, 64), default=8, show_default=True, help="Most windows looked at in a picture."
)
gallery_option = click.option(
    "--gallery",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="EDGEPARSE_GALLERY",
    show_envvar=True,
    help="The folder of enrolled generators; by default this user's.",
)
recursive_option = click.option("-r", "--recursive", is_flag=True, help="Look into folders.")
quiet_option = click.option("-q", "--quiet", is_flag=True, help="No progress and no notices; errors are still said.")
# A picture that may not be read is one that failed, as is one that is not there, and no wrong usage.
PICTURE = click.Path(allow_dash=True, readable=False)
pictures_argument = click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=PICTURE)


def open_parser(backend: str, bundle: Path | None, windows: int, gallery: Path | None = None) -> Parser:
    """A parser; with a gallery's folder one that names what was enrolled there."""
    from edgeparse.parser import Parser

    try:
        return Parser(bundle=bundle, backend=backend, windows=windows, gallery=gallery)
    except GalleryError as error:
        fail(str(error), EXIT_SETUP)


def user_gallery() -> Path:
    """The user's folder of enrolled generators."""
    from edgeparse.enrolment import user_folder

    return user_folder()


def gallery_to_read(gallery: Path | None) -> Path:
    """The folder of enrolled generators to look into. One that the command line names has to be there, or else a typing error would be an
    answer without them; the user's own, or that of the environment, may be yet to come."""
    if gallery is None:
        return user_gallery()
    named = click.get_current_context().get_parameter_source("gallery") is ParameterSource.COMMANDLINE
    # os.path: one that may not be looked at is not there.
    if named and not os.path.isdir(gallery):
        fail(
            f"there is no gallery {gallery}; `edgeparse gallery add NAME FILES... --gallery {gallery}` makes one, and without --gallery "
            "this user's is looked into",
            EXIT_SETUP,
        )
    return gallery


def sources_of(names: Iterable[str]) -> Iterator[Source]:
    """Standard input for `-`, each other name as it is."""
    return (standard_input() if name == "-" else name for name in names)


def standard_input() -> BinaryIO:
    """What `-` means.

    Raises:
        click.UsageError: it is closed.
    """
    if sys.stdin is None:
        raise click.UsageError("standard input is closed; name a file in place of -")
    return sys.stdin.buffer


def expand(paths: Iterable[str], recursive: bool, quiet: bool = False) -> list[str]:
    """The pictures that arguments mean: files, `-`, what is in folders, and patterns that the shell left alone.

    A folder in a folder that may not be looked into is among them, and fails as they do.

    Raises:
        click.UsageError: a folder without `recursive`, one without a picture, an address, or standard input twice.
    """
    names: list[str] = []
    for path in paths:
        refuse_address(path)
        # os.path and not Path: what may not be looked at is then not there, and no error.
        if path != "-" and glob.has_magic(path) and not os.path.exists(path):
            matches = sorted(glob.glob(path, recursive=True))  # noqa: PTH207 (a Path's glob takes no absolute patterns)
            # Without -r a pattern means the files among what it matches; `**` matches both a folder and what is in it.
            meant = matches if recursive else [match for match in matches if os.path.isfile(match)] or matches
            names += dict.fromkeys(name for match in meant for name in _in(match, recursive, quiet)) or [path]
        else:
            names += _in(path, recursive, quiet)
    if names.count("-") > 1:
        raise click.UsageError("standard input can be read once")
    if "-" in names:
        standard_input()
    return names


def refuse_address(path: str) -> None:
    """A path would lose a slash of it, and no file has such a name.

    Raises:
        click.UsageError: it is one.
    """
    if _ADDRESS.match(path) and not os.path.exists(path):
        raise click.UsageError(
            printable(
                f"{path} is an address, and nothing is fetched from a network; fetch it yourself: "
                f"curl -s {shlex.quote(path)} | edgeparse check -"
            )
        )


def _in(path: str, recursive: bool, quiet: bool) -> list[str]:
    """The pictures in a folder; any other path itself, there or not."""
    if path == "-" or not os.path.isdir(path):
        return [path]
    if not recursive:
        raise click.UsageError(printable(f"{path} is a folder; add -r to look into it"))
    found: list[Path] = []
    locked: list[Path] = []
    others = links = 0
    # Links to folders may lead round in a circle.
    for folder, folders, files in os.walk(path, onerror=lambda error: locked.append(Path(error.filename))):
        here = Path(folder)
        pictures = [here / name for name in files if Path(name).suffix.lower() in SUFFIXES]
        # What may not be looked at fails when it is read; no picture is a pipe.
        found += [file for file in pictures if os.path.isfile(file) or not os.path.exists(file)]
        others += len(files) - len(pictures)
        links += sum((here / name).is_symlink() for name in folders)
    if not found and not locked:
        raise click.UsageError(printable(f"there is no picture in {path} (looked for {' '.join(sorted(SUFFIXES))})"))
    if others or links:
        notice(
            f"left out in {path}, files of other endings: {others}, links to folders: {links}; name those to look at",
            quiet,
        )
    return list(map(str, sorted(found + locked)))


def is_read_by_a_person(quiet: bool) -> bool:
    """Whether what is said beside the results is read by one: on a terminal, and wanted."""
    return not quiet and sys.stderr.isatty()


def notice(text: str, quiet: bool) -> None:
    """A message beside the results, for people only."""
    if is_read_by_a_person(quiet):
        click.echo(printable(text), err=True)


def writable(output: Path | None, endings: Sequence[str], pictures: Iterable[str] = ()) -> None:
    """Better said before the work than after it. `endings` are what files of its kind end in, and what other programs believe; a name
    without one is taken, too. What is looked at, `pictures`, is never written to.

    Raises:
        click.UsageError: the file is named as something else, is one of the pictures, or cannot be written.
    """
    if output is None:
        return
    if str(output) == "-":
        raise click.UsageError("- is no file to write to; name one")
    if output.suffix and output.suffix.lower() not in endings:
        raise click.UsageError(printable(f"{output} does not end as what is written to it: {' or '.join(endings)}"))
    if output.exists():
        for picture in pictures:
            if picture != "-" and os.path.exists(picture) and output.samefile(picture):
                raise _unwritable(output, "it is one of the pictures")
    folder = output.absolute().parent
    if not folder.is_dir():
        raise _unwritable(output, "there is no such folder")
    if output.exists():
        if output.is_dir():
            raise _unwritable(output, "it is a folder")
        if not os.access(output, os.W_OK):
            raise _unwritable(output, "it is read-only")
        return
    import tempfile

    try:
        # Not the file itself: where the work fails, none is to be left.
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _unwritable(output, error.strerror or str(error)) from error


def write(output: Path, data: bytes) -> None:
    """Write a file that an option names.

    Raises:
        click.UsageError: it cannot be written.
    """
    try:
        output.write_bytes(data)
    except OSError as error:
        raise _unwritable(output, error.strerror or str(error)) from error


def _unwritable(output: Path, why: str) -> click.UsageError:
    return click.UsageError(printable(f"{output} cannot be written: {why}"))


def fail(text: str, status: int) -> NoReturn:
    """Say what went wrong, in lines that steer no terminal, and end."""
    click.echo("\n".join(map(printable, f"error: {text}".expandtabs().splitlines())), err=True)
    sys.exit(status)


@contextlib.contextmanager
def errors_end_the_run() -> Iterator[None]:
    """Each kind of error to its message and exit status."""
    try:
        yield
    except (BundleError, BackendError) as error:
        fail(str(error), EXIT_SETUP)
    except EdgeparseError as error:
        fail(str(error), EXIT_INPUT)
    except BrokenPipeError:
        # The reader, `head` say, has seen enough; keep the interpreter from flushing into the closed pipe.
        _drop_output()
        sys.exit(EXIT_INPUT)
    except OSError as error:
        # Of what was opened by a name the error tells it, and pictures and what options name have errors of their own.
        if error.filename is not None:
            raise
        _drop_output()
        fail(f"standard output cannot be written: {error.strerror or error}", EXIT_USAGE)
    except KeyboardInterrupt:
        fail("interrupted", EXIT_INTERRUPTED)


def _drop_output() -> None:
    """Let what standard output still holds go nowhere when the interpreter ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Interruptible:
    """Ctrl-C ends a run after the picture at hand, so that what was done so far is still written; a second one ends it at once."""

    def __init__(self) -> None:
        self.interrupted = False

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Take the signal while the block runs. Only a main thread can; elsewhere nothing changes."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.getsignal(signal.SIGINT)

        def note(_number: int, _frame: FrameType | None) -> Any:
            self.interrupted = True
            signal.signal(signal.SIGINT, before)

        signal.signal(signal.SIGINT, note)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def until(self, items: Iterable[T]) -> Iterator[T]:
        """The items until the signal came."""
        for item in items:
            yield item
            if self.interrupted:
                return


def progress_console(quiet: bool, results: Console | None = None) -> Console | None:
    """Where a bar may go: to standard error where that is a terminal, and above the results where both are one. None: nowhere.

    `results` is the console that results are printed to as they come; without one they are printed at the end.
    """
    if not is_read_by_a_person(quiet):
        return None
    if results is not None and sys.stdout.isatty():
        return results
    from rich.console import Console

    return Console(stderr=True)


def track(items: Iterator[T], count: int, console: Console | None, label: str) -> Iterator[T]:
    """The items, with a bar and the time left on long runs."""
    if console is None or count < LONG_RUN:
        yield from items
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(label), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        yield from bar.track(items, total=count)


def examples(*lines: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Examples at the end of a command's help, as they are."""

    def add(function: Callable[..., None]) -> Callable[..., None]:
        function.__doc__ = f"{function.__doc__}\n\n    \b\n    Examples:\n" + "\n".join(
            f"      {line}" for line in lines
        )
        return function

    return add
