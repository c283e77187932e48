"""A small data folder in the form of the real one, with pictures that a network can tell apart in seconds."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image

COLUMNS = ("kind", "set", "file", "encoding", "twin", "x", "y", "width", "height", "source", "licence", "note")
# Real names, so that roles come from the real table: photos, generators and a restoration network of several owners.
SETS = {
    "photos": ("camvid-dashcam", "cq100", "urban100", "web-raccoons__datitran", "iphone7-bark__alicevision"),
    "generated": ("sd1", "muse__muse-model", "adain-style__xunhuang1995", "taef2-reconstruction", "fsrcnn-x2"),
}


def write_data(folder: Path, count: int = 6, side: int = 160) -> Path:
    """Write a data folder: smooth noise for photos, a grid of period 4 over it for generators."""
    rng = np.random.default_rng(0)
    rows = []
    for kind, names in SETS.items():
        for name in names:
            (folder / kind / name).mkdir(parents=True, exist_ok=True)
            for i in range(count):
                twin = f"photos/cq100/{i}.jpg" if name == "taef2-reconstruction" else ""
                photo = np.asarray(Image.open(folder / twin)) if twin else _photo(rng, side)
                pixels = _with_grid(photo) if kind == "generated" else photo
                jpeg = kind == "photos"
                file = f"{kind}/{name}/{i}{'.jpg' if jpeg else '.webp'}"
                Image.fromarray(pixels).save(folder / file, **({"quality": 80 + i} if jpeg else {"lossless": True}))
                encoding = "JPEG, cropped without re-encoding" if jpeg else "lossless source, cropped, lossless WebP"
                rows.append((kind, name, file, encoding, twin, 0, 0, side, side, f"{name}/repository", "", ""))
    with (folder / "index.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([COLUMNS, *rows])
    return folder


def _photo(rng: np.random.Generator, side: int) -> np.ndarray:
    coarse = rng.integers(60, 190, (side // 16, side // 16, 3), np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)).astype(int)
    return np.clip(smooth + rng.integers(-6, 7, (side, side, 1)), 0, 255).astype(np.uint8)


def _with_grid(photo: np.ndarray) -> np.ndarray:
    line = np.arange(len(photo)) % 4 == 0
    return np.clip(photo + 24 * (line[:, None] ^ line[None, :])[..., None], 0, 255).astype(np.uint8)
