"""Run every evidence reader over one file."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from edgeparse.provenance import rules
from edgeparse.provenance.containers import Container, isomedia, walk
from edgeparse.provenance.signals import Evidence, Problem, Signal, clean_text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgeparse.images import Picture

# Larger images are refused: metadata of a picture is never that large.
MAX_FILE = 512 * 1024 * 1024
_HEAD = 256


@dataclass(frozen=True)
class Job:
    """One file as the readers see it."""

    container: Container
    data: bytes
    picture: Picture | None
    decode: bool
    trust: str | None


# Each reader's module is imported by the first file that has something for it: most files have next to nothing.


def _c2pa(job: Job) -> list[Signal]:
    if not job.container.of("c2pa"):
        return []
    from edgeparse.provenance import c2pa

    return c2pa.read(job.container, job.data, trust=job.trust)


def _xmp(job: Job) -> list[Signal]:
    if not job.container.of("xmp"):
        return []
    from edgeparse.provenance import xmp

    return xmp.read(job.container)


def _iptc(job: Job) -> list[Signal]:
    if not job.container.of("iptc"):
        return []
    from edgeparse.provenance import iptc

    return iptc.read(job.container)


def _text(job: Job) -> list[Signal]:
    if not (job.container.of("text") or job.container.of("comment")):
        return []
    from edgeparse.provenance import text

    return text.read(job.container)


def _exif(job: Job) -> list[Signal]:
    if not job.container.of("exif"):
        return []
    from edgeparse.provenance import exif

    return exif.read(job.container)


def _media(job: Job) -> list[Signal]:
    if job.container.format not in ("MP4", "MOV") or not job.container.of("text"):
        return []
    from edgeparse.provenance import media

    return media.read(job.container)


def _samsung(job: Job) -> list[Signal]:
    from edgeparse.provenance import samsung

    return samsung.read(job.container, job.data)


def _stealth(job: Job) -> list[Signal]:
    if job.container.format != "PNG":
        return []
    from edgeparse.provenance import stealth

    return stealth.read(job.container, job.data)


def _thumbnail(job: Job) -> list[Signal]:
    if job.picture is None or not job.container.of("exif"):
        return []
    from edgeparse.provenance import thumbnail

    return thumbnail.read(job.container, job.picture)


def _watermark(job: Job) -> list[Signal]:
    if not job.container.lossless or (job.picture is None and not job.decode):
        return []
    from edgeparse.provenance import watermark

    return watermark.read(job.container, job.data, picture=job.picture)


_READERS: dict[str, Callable[[Job], list[Signal]]] = {
    "c2pa": _c2pa,
    "xmp": _xmp,
    "iptc": _iptc,
    "text": _text,
    "exif": _exif,
    "media": _media,
    "samsung": _samsung,
    "stealth": _stealth,
    "thumbnail": _thumbnail,
    "watermark": _watermark,
}


def read(
    source: str | os.PathLike[str] | bytes,
    *,
    pixels: NDArray[np.uint8] | Picture | None = None,
    decode: bool = True,
    trust: str | None = None,
) -> Evidence:
    """Return what a file says about its origin.

    Nothing is written and nothing is fetched. A reader that fails becomes a `Problem`; the others still run.

    Args:
        source: A path, or the file's bytes.
        pixels: uint8[H, W, 3 or 4] in RGB order, as stored, or an `images.Picture`, when the caller has decoded
            the file. It saves decoding a PNG for the watermark, and allows the check of the EXIF thumbnail.
        decode: False leaves out readers that must decode the picture when `pixels` is None.
        trust: Trust anchors for content credentials as PEM text.

    Raises:
        OSError: The file cannot be read.
        ValueError: An image is larger than 512 MiB.
    """
    if isinstance(source, bytes):
        return _read(source, pixels, decode, trust)
    with _loaded(Path(source)) as data:
        return _read(data, pixels, decode, trust)


def _read(data: bytes, pixels: NDArray[np.uint8] | Picture | None, decode: bool, trust: str | None) -> Evidence:
    signals: list[Signal] = []
    problems: list[Problem] = []
    try:
        # A map has no `startswith`, which the other walkers use.
        container = walk(data) if isinstance(data, bytes) else isomedia.walk(data) or Container(None)
    except Exception as error:
        return Evidence(None, problems=(_problem("container", error),))
    job = Job(container, data, _picture(pixels), decode, trust)
    if container.damage:
        problems.append(Problem("container", clean_text(container.damage, 200)))
    for name, reader in _READERS.items():
        # Metadata is hostile input: whatever one reader meets must not cost the others' answers.
        try:
            signals += reader(job)
        except Exception as error:
            problems.append(_problem(name, error))
    signals.sort(key=rules.rank, reverse=True)
    return Evidence(container.format, tuple(signals), tuple(problems))


def _problem(reader: str, error: Exception) -> Problem:
    return Problem(reader, clean_text(f"{type(error).__name__}: {error}", 200))


def _picture(pixels: NDArray[np.uint8] | Picture | None) -> Picture | None:
    if pixels is None:
        return None
    from edgeparse.images import Picture

    return pixels if isinstance(pixels, Picture) else Picture(pixels[:, :, :3])


@contextmanager
def _loaded(path: Path) -> Iterator[bytes]:
    """Return a file's bytes; a movie, of whatever size, is mapped and not read."""
    with path.open("rb") as file:
        if isomedia.format_of(file.read(_HEAD)):
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                # Slices of a map are bytes, and slices are all that the readers take.
                yield cast(bytes, mapped)
            return
        file.seek(0)
        data = file.read(MAX_FILE + 1)
    if len(data) > MAX_FILE:
        raise ValueError(f"the file must hold at most {MAX_FILE} bytes; pass a smaller one")
    yield data
