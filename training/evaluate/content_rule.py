"""How often the runtime's rule for photographic content excludes windows and whole pictures of photos and of generators."""

from __future__ import annotations

import json
from pathlib import Path

import click
import numpy as np

from edgeparse import content, windows
from training.data.public_sets import read_pictures
from training.data.sources import read_pixels

WINDOWS = 8


def measure(folder: Path) -> dict[str, dict[str, float]]:
    """Return, by class, the number of pictures and the fractions of windows and of whole pictures that are excluded."""
    found: dict[str, list[np.ndarray]] = {"camera": [], "generated": []}
    for picture in read_pictures(folder):
        if picture.set.role in found:
            cut = windows.cut(read_pixels(folder / picture.file), WINDOWS).pixels
            found[picture.set.role].append(content.photographic(cut))
    return {
        role: {
            "pictures": len(kept),
            "windows_excluded": float(1 - np.concatenate(kept).mean()),
            "pictures_excluded": float(np.mean([not of_picture.any() for of_picture in kept])),
        }
        for role, kept in found.items()
    }


@click.command()
@click.argument("data", type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(data: Path) -> None:
    """Print how much of the public pictures in DATA counts as without photographic content."""
    click.echo(json.dumps(measure(data), indent=1))
