"""Run every evidence reader over one file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from edgeparse.provenance import c2pa, exif, iptc, rules, samsung, stealth, text, thumbnail, watermark, xmp
from edgeparse.provenance.containers import walk
from edgeparse.provenance.signals import Evidence, Problem, Signal, clean_text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Larger files are refused: metadata of a picture is never that large.
MAX_FILE = 512 * 1024 * 1024


def read(
    source: str | os.PathLike[str] | bytes,
    *,
    pixels: NDArray[np.uint8] | None = None,
    decode: bool = True,
    trust: str | None = None,
) -> Evidence:
    """Return what a file says about its origin.

    Nothing is written and nothing is fetched. A reader that fails becomes a `Problem`; the others still run.

    Args:
        source: A path, or the file's bytes.
        pixels: uint8[H, W, 3 or 4] in RGB order, as stored, when the caller has decoded the picture. It saves
            decoding a PNG for the watermark, and allows the check of the EXIF thumbnail.
        decode: False leaves out readers that must decode the picture when `pixels` is None.
        trust: Trust anchors for content credentials as PEM text.

    Raises:
        OSError: The file cannot be read.
        ValueError: The file is larger than 512 MiB.
    """
    data = source if isinstance(source, bytes) else _load(Path(source))
    container = walk(data)
    signals: list[Signal] = []
    problems: list[Problem] = []
    readers: dict[str, Callable[[], list[Signal]]] = {
        "c2pa": lambda: c2pa.read(container, data, trust=trust),
        "xmp": lambda: xmp.read(container),
        "iptc": lambda: iptc.read(container),
        "text": lambda: text.read(container),
        "exif": lambda: exif.read(container),
        "samsung": lambda: samsung.read(container, data),
        "stealth": lambda: stealth.read(container, data),
        "thumbnail": lambda: thumbnail.read(container, pixels),
    }
    if decode or pixels is not None:
        readers["watermark"] = lambda: watermark.read(container, data, pixels=pixels)
    if container.damage:
        problems.append(Problem("container", clean_text(container.damage, 200)))
    for name, reader in readers.items():
        # Metadata is hostile input: whatever one reader meets must not cost the others' answers.
        try:
            signals += reader()
        except Exception as error:
            problems.append(Problem(name, clean_text(f"{type(error).__name__}: {error}", 200)))
    signals.sort(key=rules.rank, reverse=True)
    return Evidence(container.format, tuple(signals), tuple(problems))


def _load(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(MAX_FILE + 1)
    if len(data) > MAX_FILE:
        raise ValueError(f"the file must hold at most {MAX_FILE} bytes; pass a smaller one")
    return data
