"""From arguments to images, parsers and output files."""

from __future__ import annotations

import glob
import os
import re
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click
from click.core import ParameterSource

from edgeparse.cli.console import EXIT_SETUP, fail, notice
from edgeparse.errors import GalleryError
from edgeparse.render.phrases import printable
from edgeparse.video.sniff import SUFFIXES as CLIP_SUFFIXES

if TYPE_CHECKING:
    from edgeparse.images import Source
    from edgeparse.parser import Parser

# Files that a folder is searched for. A file that is named is read whatever its suffix. HEIC cannot be read, and each file reports it.
_SUFFIXES = "jpg jpeg jpe jfif mpo jp2 j2k png apng webp avif heic heif tif tiff bmp dib gif ppm pgm pnm"
SUFFIXES = frozenset(f".{suffix}" for suffix in _SUFFIXES.split())

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def open_parser(
    backend: str,
    bundle: Path | None,
    windows: int,
    gallery: Path | None = None,
    *,
    evidence: bool = False,
    trust: str | None = None,
) -> Parser:
    """Create a parser, optionally with a gallery of enrolled generators; exit if the gallery cannot be read."""
    from edgeparse.parser import Parser

    try:
        return Parser(bundle=bundle, backend=backend, windows=windows, gallery=gallery, evidence=evidence, trust=trust)
    except GalleryError as error:
        fail(str(error), EXIT_SETUP)


def user_gallery() -> Path:
    """Return the folder of the user's enrolled generators."""
    from edgeparse.gallery_store import user_gallery_folder

    return user_gallery_folder()


def gallery_to_read(gallery: Path | None) -> Path:
    """Return the gallery folder to read.

    A folder named on the command line must exist, because a typing error would silently ignore its generators. The user's folder,
    or that of the environment variable, may not exist yet.
    """
    if gallery is None:
        return user_gallery()
    named = click.get_current_context().get_parameter_source("gallery") is ParameterSource.COMMANDLINE
    # os.path.isdir returns False instead of raising if access is denied.
    if named and not os.path.isdir(gallery):
        fail(
            f"there is no gallery {gallery}; create it with `edgeparse gallery add NAME FILES... --gallery {gallery}`, or omit "
            "--gallery to use your own",
            EXIT_SETUP,
        )
    return gallery


def sources_of(names: Iterable[str]) -> Iterator[Source]:
    """Return standard input for `-`, and every other name unchanged."""
    return (standard_input() if name == "-" else name for name in names)


def standard_input() -> BinaryIO:
    """Return standard input as a binary file.

    Raises:
        click.UsageError: it is closed.
    """
    if sys.stdin is None:
        raise click.UsageError("standard input is closed; name a file instead of -")
    return sys.stdin.buffer


def collect_inputs(paths: Iterable[str], recursive: bool, quiet: bool = False, clips: bool = False) -> list[str]:
    """Expand arguments to images: files, `-`, the content of folders, and patterns that the shell did not expand.

    Subfolders that may not be read are included, so that they fail like unreadable images.

    Args:
        paths: the arguments.
        recursive: whether folders are read.
        quiet: whether to hide notices.
        clips: whether a folder is searched for clips too. It is not if PyAV, which reads them, is missing.

    Raises:
        click.UsageError: a folder without `recursive`, a folder without images, a URL, or standard input twice.
    """
    names: list[str] = []
    suffixes = SUFFIXES | CLIP_SUFFIXES if clips and find_spec("av") else SUFFIXES
    for path in paths:
        reject_url(path)
        # os.path.exists returns False instead of raising if access is denied.
        if path != "-" and glob.has_magic(path) and not os.path.exists(path):
            names += _expand_pattern(path, recursive, quiet, suffixes)
        else:
            names += _expand_folder(path, recursive, quiet, suffixes)
    if names.count("-") > 1:
        raise click.UsageError("standard input (-) can be given only once")
    if "-" in names:
        standard_input()
    return names


def reject_url(path: str) -> None:
    """Reject a URL, which pathlib would change silently.

    Raises:
        click.UsageError: the path is a URL.
    """
    if _URL.match(path) and not os.path.exists(path):
        raise click.UsageError(
            printable(
                f"{path} is a URL, and edgeparse does not use the network; download it yourself: "
                f"curl -s {shlex.quote(path)} | edgeparse check -"
            )
        )


def _expand_pattern(pattern: str, recursive: bool, quiet: bool, suffixes: frozenset[str]) -> list[str]:
    matches = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 (Path.glob accepts no absolute patterns)
    # Without -r a pattern means files. `**` matches both a folder and its content, hence the deduplication.
    chosen = matches if recursive else [match for match in matches if os.path.isfile(match)] or matches
    names = dict.fromkeys(name for match in chosen for name in _expand_folder(match, recursive, quiet, suffixes))
    return list(names) or [pattern]


def _expand_folder(path: str, recursive: bool, quiet: bool, suffixes: frozenset[str]) -> list[str]:
    """Return the images in a folder, or the path itself if it is not a folder."""
    if path == "-" or not os.path.isdir(path):
        return [path]
    if not recursive:
        raise click.UsageError(printable(f"{path} is a folder; add -r to read it"))
    found: list[Path] = []
    unreadable: list[Path] = []
    others = links = 0
    # Symbolic links to folders are not followed, because they may form a cycle.
    for folder, folders, files in os.walk(path, onerror=lambda error: unreadable.append(Path(error.filename))):
        here = Path(folder)
        pictures = [here / name for name in files if Path(name).suffix.lower() in suffixes]
        # Skips pipes and devices; files that may not be inspected fail when they are read.
        found += [file for file in pictures if os.path.isfile(file) or not os.path.exists(file)]
        others += len(files) - len(pictures)
        links += sum((here / name).is_symlink() for name in folders)
    if not found and not unreadable:
        raise click.UsageError(printable(f"{path} contains no images ({' '.join(sorted(suffixes))})"))
    if others or links:
        notice(
            f"skipped in {path}: {others} files with other suffixes, {links} links to folders; name them to include them",
            quiet,
        )
    return list(map(str, sorted(found + unreadable)))


def check_output_path(output: Path | None, suffixes: Sequence[str], pictures: Iterable[str] = ()) -> None:
    """Check an output file before the work starts.

    Args:
        output: the file, or None.
        suffixes: accepted suffixes; a name without a suffix is accepted too.
        pictures: the input images, which must not be overwritten.

    Raises:
        click.UsageError: the file has another suffix, is an input image, or is not writable.
    """
    if output is None:
        return
    if str(output) == "-":
        raise click.UsageError("an output must be a file, got -; name one")
    if output.suffix and output.suffix.lower() not in suffixes:
        raise click.UsageError(printable(f"{output} must end in {' or '.join(suffixes)}"))
    if output.exists():
        for picture in pictures:
            if picture != "-" and os.path.exists(picture) and output.samefile(picture):
                raise _unwritable(output, "it is one of the input images")
    folder = output.absolute().parent
    if not folder.is_dir():
        raise _unwritable(output, "the folder does not exist")
    if output.exists():
        if output.is_dir():
            raise _unwritable(output, "it is a folder")
        if not os.access(output, os.W_OK):
            raise _unwritable(output, "it is read-only")
        return
    import tempfile

    try:
        # A temporary file, so that nothing is left if the work fails.
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _unwritable(output, error.strerror or str(error)) from error


def write_file(output: Path, data: bytes) -> None:
    """Write an output file.

    Raises:
        click.UsageError: the file is not writable.
    """
    try:
        output.write_bytes(data)
    except OSError as error:
        raise _unwritable(output, error.strerror or str(error)) from error


def _unwritable(output: Path, reason: str) -> click.UsageError:
    return click.UsageError(printable(f"{output} cannot be written: {reason}"))
