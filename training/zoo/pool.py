"""Build generators in parallel processes, one file per generator. Finished generators are skipped."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from training.data.public_sets import folds_of, read_pictures, split_of_fold
from training.data.sources import read_pixels
from training.zoo.build import Budget, Photos, build_one
from training.zoo.files import read_entry
from training.zoo.space import Config

_photos: Photos | None = None


def prepare_photos(data: Path, out: Path, size: int) -> Path:
    """Write centre crops of all photos, aligned to the 16-pixel grid of JPEG, to `out`/photos-SIZE.npz, and return its path.

    The zoo follows the folds of photo owners: no generator is trained on photos that validate or test.
    """
    path = out / f"photos-{size}.npz"
    if path.exists():
        return path
    crops, splits, sources, corners = [], [], [], []
    pictures = read_pictures(data)
    folds = folds_of(pictures)
    for picture in tqdm([p for p in pictures if p.set.role == "camera"], desc="photos", unit="photo"):
        pixels = read_pixels(data / picture.file)
        top, left = ((side - size) // 2 // 16 * 16 for side in pixels.shape[:2])
        if min(top, left) >= 0:
            crops.append(pixels[top : top + size, left : left + size])
            splits.append(split_of_fold(folds[picture.owner]))
            sources.append(f"{picture.set.name}/{Path(picture.file).name}")
            corners.append((top, left))
    temporary = out / f".{path.name}.{os.getpid()}.npz"
    np.savez_compressed(
        temporary,
        pixels=np.stack(crops),
        splits=np.array(splits),
        sources=np.array(sources),
        corners=np.array(corners, np.int32),
    )
    temporary.replace(path)
    return path


def leave_with_parent() -> None:
    """End this process when its parent ends, so that a killed build leaves no workers behind."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _start_worker(photos: Path) -> None:
    global _photos
    leave_with_parent()
    torch.set_num_threads(1)
    _photos = Photos.load(photos)


def _work(config: Config, budget: Budget, out: Path, device: str) -> dict[str, object]:
    assert _photos is not None
    return build_one(config, _photos, budget, out, torch.device(device))


def _is_built(config: Config, out: Path) -> bool:
    path = out / f"{config.name}.npz"
    if not path.exists():
        return False
    if read_entry(path)["config"] != asdict(config):
        raise ValueError(
            f"{path} must match the drawn config; pass the count and seed that it was built with, or another folder"
        )
    return True


def build_all(
    configs: Sequence[Config], photos: Path, budget: Budget, out: Path, workers: int, device: str
) -> Iterator[dict[str, object]]:
    """Build the configs that have no file in `out` yet, and yield the entry of each when it is finished.

    Raises:
        ValueError: a file in `out` was built from another config.
    """
    context = multiprocessing.get_context("spawn")
    for temporary in out.glob(".*.npz"):  # left by killed builds
        temporary.unlink()
    waiting = [config for config in configs if not _is_built(config, out)]
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=(photos,)) as pool:
        jobs = [pool.submit(_work, config, budget, out, device) for config in waiting]
        bar = tqdm(
            as_completed(jobs), total=len(configs), initial=len(configs) - len(waiting), desc="zoo", unit="generator"
        )
        for job in bar:
            yield job.result()
