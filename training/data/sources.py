"""The photos and public generators' pictures in a data folder, and which split each belongs to.

The folder holds `index.csv` with the columns kind (`photos` or `generated`), set, file and encoding; the encoding of a
picture that was made from a photo ends in `camera twin: FILE`.
Splits never share a photo; sets with near-duplicates go to one split as a whole.
"""

from __future__ import annotations

import csv
import functools
import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, JpegImagePlugin

from training.data.augment import Jpeg

# Thirty subjects photographed several times under hashed names: only a split of the whole set keeps near-duplicates apart.
WHOLE_TEST_SETS = frozenset({"dreambooth_unsplash"})

# Public generators that training never sees. `ldm-fourier` is an unseen fork of a trained-on architecture, on purpose; of validation,
# `sd1-customdiffusion` is a fine-tune of one trained on and the facades are of an architecture trained on.
TEST_GENERATORS = frozenset({"ldm-fourier", "sd3.5-large", "dalle-mini", "stylegan2-256resized"})
VAL_GENERATORS = frozenset({"disco-diffusion", "pix2pix-facades_label2photo", "sd1-customdiffusion"})
# Drawn maps and shoe sketches on white: not pictures that a camera could have made.
NOT_PHOTO_LIKE = frozenset({"pix2pix-sat2map", "pix2pix-edges2shoes"})


@dataclass(frozen=True)
class Picture:
    """One file of the data folder."""

    camera: bool
    set: str
    path: Path
    twin: Path | None = None

    def read(self) -> np.ndarray:
        """uint8[H, W, 3]."""
        return read_pixels(self.path)


def read_pixels(path: Path) -> np.ndarray:
    """uint8[H, W, 3] of a picture's file."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


@functools.cache
def _standard_tables() -> np.ndarray:
    """The luminance table of every quality from 1 to 100, as libjpeg scales the standard's: int[100, 64]."""
    tables = []
    for quality in range(1, 101):
        buffer = io.BytesIO()
        Image.new("L", (8, 8)).save(buffer, "JPEG", quality=quality)
        with Image.open(buffer) as image:
            assert isinstance(image, JpegImagePlugin.JpegImageFile)
            tables.append(image.quantization[0])
    return np.array(tables)


def jpeg_of_file(path: Path) -> Jpeg | None:
    """How a picture's file was compressed, None where it is no JPEG. Tables that are not libjpeg's are taken for the nearest of these."""
    with Image.open(path) as image:
        if not isinstance(image, JpegImagePlugin.JpegImageFile):
            return None
        distance = np.abs(_standard_tables() - np.array(image.quantization[0])).sum(1)
        sampling = JpegImagePlugin.get_sampling(image)
        # -1: one plane, or a sampling that the library has no number for.
        return Jpeg(int(distance.argmin()) + 1, 2 if sampling < 0 else sampling)


def hashed(key: str) -> int:
    """64 bits of a key's hash: the same whatever else there is."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")


def split_of(key: str, parts: tuple[float, float] = (0.7, 0.1)) -> str:
    """Assign a key to train, val or test (the rest) by its hash, so that adding files moves none."""
    place = hashed(key) / 2**64
    return "train" if place < parts[0] else "val" if place < sum(parts) else "test"


def photo_split(photo: Path) -> str:
    """The split of a camera photo, and so of every picture that was made from it. `photo` is `.../SET/FILE`."""
    name = photo.parent.name
    return "test" if name in WHOLE_TEST_SETS else split_of(f"{name}/{photo.stem}")


def generator_split(name: str) -> str:
    """The split of a public generator."""
    return "test" if name in TEST_GENERATORS else "val" if name in VAL_GENERATORS else "train"


def read_index(folder: Path) -> list[Picture]:
    """Every picture of the data folder, in the order of `index.csv`."""
    pictures = []
    with (folder / "index.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            _, _, twin = row["encoding"].partition("camera twin: ")
            pictures.append(
                Picture(row["kind"] == "photos", row["set"], folder / row["file"], folder / twin if twin else None)
            )
    return pictures
