"""Run every evidence reader over one file."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgeparse.provenance import rules
from edgeparse.provenance.containers import Container, walk
from edgeparse.provenance.signals import Evidence, Problem, Signal, clean_text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgeparse.images import Picture

# Larger files are refused: metadata of a picture is never that large.
MAX_FILE = 512 * 1024 * 1024


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
        ValueError: The file is larger than 512 MiB.
    """
    data = source if isinstance(source, bytes) else _load(Path(source))
    signals: list[Signal] = []
    problems: list[Problem] = []
    try:
        container = walk(data)
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


def _load(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(MAX_FILE + 1)
    if len(data) > MAX_FILE:
        raise ValueError(f"the file must hold at most {MAX_FILE} bytes; pass a smaller one")
    return data
