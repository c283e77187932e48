"""Describe a zoo as JSON, with hashes of labels and pictures, and draw its contact sheet."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from training.data.dataset import Generator
from training.labels import Labels
from training.zoo.files import generator_files, passes, read_entry, read_pictures, zoo_splits
from training.zoo.space import TASKS, Space

# A longer gap between two finished generators counts as a pause.
LONGEST_GAP_S = 300


def describe(folder: Path) -> dict[str, Any]:
    """Return the description: build time, and labels, quality and split of each generator (None if it fails the quality rule)."""
    files = generator_files(folder)
    entries = {path.stem: read_entry(path) for path in files}
    labels = {name: Labels.from_json(entry["labels"]) for name, entry in entries.items() if passes(entry)}
    splits = zoo_splits(labels)
    times = sorted(path.stat().st_mtime for path in files)
    generators = []
    for path in files:
        entry = entries[path.stem]
        pictures = read_pictures(path)
        generators.append(
            {
                "name": path.stem,
                "split": splits.get(path.stem),
                "task": entry["config"]["task"],
                "latent_size": entry["latent_size"],
                "steps": entry["steps"],
                "quality": {key: round(value, 3) for key, value in entry["quality"].items()},
                "variety": round(entry["variety"], 2),
                "labels": entry["labels"],
                "labels_sha256": hashlib.sha256(json.dumps(entry["labels"], sort_keys=True).encode()).hexdigest(),
                "pictures": pictures.shape[0],
                "side": pictures.shape[1],
                "pictures_sha256": hashlib.sha256(pictures.tobytes()).hexdigest(),
            }
        )
    return {
        "build": {
            "minutes": round(sum(min(b - a, LONGEST_GAP_S) for a, b in pairwise(times)) / 60, 1),
            "cores": os.cpu_count(),
            "bytes": sum(path.stat().st_size for path in files),
        },
        "space": asdict(Space()),
        "tasks": TASKS,
        "generators": generators,
    }


def described(file: Path) -> dict[str, Generator]:
    """Return the generators with a split of a description file, by name."""
    return {
        entry["name"]: Generator(entry["name"], Labels.from_json(entry["labels"]), True, entry["split"])
        for entry in json.loads(file.read_text())["generators"]
        if entry["split"]
    }


def sheet(folder: Path, names: list[str], columns: int, side: int, sets: tuple[str, ...] | None = None) -> Image.Image:
    """Draw one row per generator: its name and its first `columns` pictures of `side` pixels, only those of photo `sets` if given."""
    (photos_file,) = folder.glob("photos-*.npz")
    with np.load(photos_file, allow_pickle=False) as file:
        of_sets = np.array([sets is None or str(name).split("/")[0] in sets for name in file["sources"]])
    margin = 150
    image = Image.new("RGB", (margin + columns * side, len(names) * side), "white")
    pen = ImageDraw.Draw(image)
    for row, name in enumerate(names):
        pen.text((6, row * side + side // 2 - 6), name, fill="black")
        with np.load(folder / f"{name}.npz", allow_pickle=False) as file:
            twins = file["twins"]
        allowed = np.flatnonzero((twins < 0) | of_sets[twins])[:columns]
        for column, pixels in enumerate(read_pictures(folder / f"{name}.npz")[allowed]):
            tile = Image.fromarray(pixels).resize((side, side), Image.Resampling.LANCZOS)
            image.paste(tile, (margin + column * side, row * side))
    return image
