"""The evaluation pack: test pictures that may be shipped, small enough for the repository and enough for the headline figures.

`python -m training.pack write INDEX` chooses them, `python -m training.pack check BUNDLE` evaluates a bundle on them and fails
where a figure fell by more than a point against training/results/pack.json.
"""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
from PIL import Image

from edgeparse.backends.select import create
from edgeparse.bundle import open_bundle
from training.data import augment
from training.data.dataset import Generator, Sample
from training.data.index.load import collect, load
from training.data.index.records import Entry, Index, Place, read
from training.data.index.records import write as write_index
from training.headline import Measured, losses, lost

ROOT = Path(__file__).parent
FOLDER = ROOT / "pack"
INDEX = FOLDER / "index.jsonl"
RESULT = ROOT / "results" / "pack.json"
PHOTO_SETS = ("cq100", "dreambooth_unsplash")
GENERATORS = ("sd3.5-large", "ldm-fourier")
LICENCES = """\
# Licences of the pictures in this folder

Each picture's name ends in its source; `index.jsonl` names, as `group`, the photo that it shows.
Generated pictures are lossless where that photo was, and JPEG where it was one.

- `cq100` and every picture whose photo is from it: CQ100 (github.com/Ivordir/quantette), CC BY-SA 4.0 as a set; its photos are CC BY-SA,
  CC BY, CC0 or in the public domain. They were cropped; zoo generators' pictures were made from them and are CC BY-SA 4.0 as well.
- `dreambooth_unsplash` and every picture whose photo is from it: photos by Unsplash's contributors, from google/dreambooth
  (CC BY 4.0, Unsplash licence). They were cropped; zoo generators' pictures were made from them.
- `sd3.5-large`: EnragedAntelope/Styles-SD35L, MIT licence. Cropped.
- `ldm-fourier`: dakshces/FourierImageDiffuse, MIT licence. Cropped.
"""
# At most; a zoo generator gets fewer where the files would not fit.
PHOTOS, OF_A_ZOO_GENERATOR, OF_A_PUBLIC_GENERATOR = 100, 25, 12
# Bytes of the pictures; with the index and the licences the pack is below 19 MB.
ROOM = 18_500_000
# A fall of more than this is a fault; figures are shares or areas, so a point is 0.01.
POINT = 0.01


def may_ship(entry: Entry, source: Generator) -> bool:
    """Whether the content's licence allows it. A texture of the zoo's GANs may repeat the photos that it was learned from, which are
    mostly for research only."""
    if entry.group is None:
        return source.name in GENERATORS
    return entry.group.split("/")[0] in PHOTO_SETS


def choose(index: Index, of_a_zoo_generator: int = OF_A_ZOO_GENERATOR, seed: int = 0) -> list[Entry]:
    """Test pictures that may be shipped: photo crops, and pictures of zoo and public generators that training never saw.

    Fewer of a zoo generator are some of those of more.
    """
    rng = np.random.default_rng(seed)

    def some(entries: list[Entry], count: int) -> list[Entry]:
        return [entries[i] for i in sorted(rng.permutation(len(entries))[:count])]

    free: dict[str, list[Entry]] = {key: [] for key in index.sources}
    for entry in index.entries:
        if entry.split == "test" and may_ship(entry, index.sources[entry.source]):
            free[entry.source].append(entry)
    cameras = [key for key, source in index.sources.items() if source.labels is None and source.zoo]
    chosen = some([entry for key in cameras for entry in free[key]], PHOTOS)
    for key, source in index.sources.items():
        if source.labels is not None and source.split == "test":
            chosen += some(free[key], of_a_zoo_generator if source.zoo else OF_A_PUBLIC_GENERATOR)
    return chosen


def as_file(sample: Sample) -> tuple[str, bytes]:
    """(ending, content) of a picture's file: the JPEG that an evaluation would send it through, else lossless WebP."""
    if sample.jpeg is not None:
        return "jpg", augment.encoded(sample.pixels, "JPEG", *sample.jpeg)
    buffer = io.BytesIO()
    Image.fromarray(sample.pixels).save(buffer, "WEBP", lossless=True, method=3)
    return "webp", buffer.getvalue()


def fitting(index: Index, sizes: dict[Place, int], room: int = ROOM) -> list[Entry]:
    """The choice with the most pictures a zoo generator that fits into so many bytes.

    Raises:
        ValueError: not even one of each does.
    """
    for count in range(OF_A_ZOO_GENERATOR, 0, -1):
        chosen = choose(index, count)
        if sum(sizes[entry.place] for entry in chosen) <= room:
            return chosen
    raise ValueError(f"one picture a zoo generator is too much for {room} bytes: lower PHOTOS or OF_A_PUBLIC_GENERATOR")


def write(index: Index, folder: Path) -> None:
    """Write the pack: the pictures, generated ones as photos come, and their index, which keeps training generators of the zoo for the
    constants' sake."""
    widest = choose(index)
    pictures = collect(replace(index, entries=widest))
    files = {entry.place: as_file(sample) for entry, sample in zip(widest, pictures.samples, strict=True)}
    chosen = fitting(index, {place: len(content) for place, (_, content) in files.items()})
    used = {entry.source for entry in chosen}
    sources = {
        key: source
        for key, source in index.sources.items()
        if key in used or (source.zoo and source.labels is not None and source.split == "train")
    }
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    places = {}
    for number, entry in enumerate(chosen):
        ending, content = files[entry.place]
        path = folder / f"{number:03d}-{index.sources[entry.source].name}.{ending}"
        path.write_bytes(content)
        places[entry.place] = Place(path)
    entries = [
        replace(
            entry, place=places[entry.place], twin=places.get(entry.twin) if entry.twin else None, made=False, jpeg=None
        )
        for entry in chosen
    ]
    write_index(Index(sources, entries), folder / INDEX.name)
    (folder / "LICENCES.md").write_text(LICENCES)


def fallen(before: dict[str, float], now: dict[str, float]) -> dict[str, float]:
    """The figures that are worse than before by more than a point, and by how much."""
    worse = {name: lost(name, value, now[name]) for name, value in before.items()}
    return {name: fall for name, fall in worse.items() if fall > POINT}


@click.group()
def main() -> None:
    """Test pictures that may be shipped."""


@main.command("write")
@click.argument("index", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def write_command(index: Path) -> None:
    """Choose the pictures from INDEX."""
    write(read(index), FOLDER)


@main.command()
@click.argument("folder", metavar="BUNDLE", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--write", "keep", is_flag=True, help="Keep these figures as the ones to hold.")
def check(folder: Path, keep: bool) -> None:
    """Evaluate every precision of BUNDLE that a CPU runs, and compare with the kept figures and with fp32."""
    bundle, collection = open_bundle(folder), load(INDEX)
    measured = {variant: Measured.of(bundle, create("cpu", bundle, variant), collection) for variant in bundle.variants}
    found = {variant: one.figures() for variant, one in measured.items()}
    result = {"bundle_sha256": bundle.sha256, "figures": found, "lost_against_fp32": losses(measured)}
    click.echo(json.dumps(result, indent=1))
    if keep:
        RESULT.write_text(json.dumps(result, indent=1) + "\n")
        return
    kept = json.loads(RESULT.read_text())["figures"]
    worse = {variant: fallen(kept[variant], found[variant]) for variant in kept.keys() & found.keys()}
    if any(worse.values()):
        raise click.ClickException(f"worse than training/results/pack.json by more than a point: {worse}")


if __name__ == "__main__":
    main()
