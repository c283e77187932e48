"""The test set of the repository: test pictures whose licence allows redistribution, in one file.

It is too small and too hard to stand for all test pictures. It protects against regressions: `check` fails if a metric
falls by more than a point below training/results/testset.json.
"""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
from PIL import Image

from edgeparse.backends.select import create
from edgeparse.bundle import open_bundle
from training.data import augment
from training.data.dataset import Collection, Generator, Sample
from training.data.index.load import collect, load
from training.data.index.records import Entry, Index, Place, read
from training.data.index.records import write as write_index
from training.evaluate.results import RESULTS, bundle_identity, write_result
from training.evaluate.summary_metrics import VariantOutputs, degradation, degradations

FILE = Path(__file__).parent / "testset.zip"
RESULT = RESULTS / "testset.json"
INDEX_NAME, LICENCES_NAME = "index.jsonl", "LICENCES.txt"
PHOTO_SETS = ("cq100", "dreambooth_unsplash")
GENERATORS = ("sd3.5-large", "ldm-fourier")
LICENCES = """\
Licences of the pictures in this archive

The name of each picture ends in its source. `index.jsonl` names the photo that it shows as `group`.
Generated pictures are lossless if that photo was, and JPEG if it was one.

- `cq100` and every picture whose photo is from it: CQ100 (github.com/Ivordir/quantette), CC BY-SA 4.0 as a set.
  Its photos are CC BY-SA, CC BY, CC0 or in the public domain. They were cropped. Pictures of zoo generators were made
  from them and are CC BY-SA 4.0 as well.
- `dreambooth_unsplash` and every picture whose photo is from it: photos by contributors of Unsplash, from
  google/dreambooth (CC BY 4.0, Unsplash licence). They were cropped. Pictures of zoo generators were made from them.
- `sd3.5-large`: EnragedAntelope/Styles-SD35L, MIT licence. Cropped.
- `ldm-fourier`: dakshces/FourierImageDiffuse, MIT licence. Cropped.
"""
# Largest numbers of pictures. A zoo generator gets fewer if the files would not fit.
PHOTOS, ZOO_PICTURES, PUBLIC_PICTURES = 100, 25, 12
# Bytes of all pictures. With the index and the licences the archive stays below 10 MB.
MAX_BYTES = 9_700_000
# A metric may fall by this much.
POINT = 0.01


def may_redistribute(entry: Entry, source: Generator) -> bool:
    """Return whether the content's licence allows redistribution.

    Textures of the zoo's GANs are excluded: they may repeat photos for research only.
    """
    if entry.group is None:
        return source.name in GENERATORS
    return entry.group.split("/")[0] in PHOTO_SETS


def choose(index: Index, zoo_pictures: int = ZOO_PICTURES, seed: int = 0) -> list[Entry]:
    """Choose test pictures: photo crops, and pictures of zoo and public generators that training never saw.

    With fewer `zoo_pictures`, a subset of those chosen with more is returned.
    """
    rng = np.random.default_rng(seed)

    def some(entries: list[Entry], count: int) -> list[Entry]:
        return [entries[i] for i in sorted(rng.permutation(len(entries))[:count])]

    free: dict[str, list[Entry]] = {key: [] for key in index.sources}
    for entry in index.entries:
        if entry.split == "test" and may_redistribute(entry, index.sources[entry.source]):
            free[entry.source].append(entry)
    cameras = [key for key, source in index.sources.items() if source.labels is None and source.zoo]
    chosen = some([entry for key in cameras for entry in free[key]], PHOTOS)
    for key, source in index.sources.items():
        if source.labels is not None and source.split == "test":
            chosen += some(free[key], zoo_pictures if source.zoo else PUBLIC_PICTURES)
    return chosen


def choose_fitting(index: Index, sizes: Mapping[Place, int], max_bytes: int = MAX_BYTES) -> list[Entry]:
    """Choose the most pictures of each zoo generator whose files fit.

    Raises:
        ValueError: one picture of each does not fit.
    """
    for count in range(ZOO_PICTURES, 0, -1):
        chosen = choose(index, count)
        if sum(sizes[entry.place] for entry in chosen) <= max_bytes:
            return chosen
    raise ValueError(
        f"one picture of each zoo generator must fit into {max_bytes} bytes; lower PHOTOS or PUBLIC_PICTURES"
    )


def encode_picture(sample: Sample) -> tuple[str, bytes]:
    """Return suffix and content of a picture's file: the JPEG that an evaluation would save, or lossless WebP."""
    if sample.jpeg is not None:
        return "jpg", augment.encoded(sample.pixels, "JPEG", *sample.jpeg)
    buffer = io.BytesIO()
    Image.fromarray(sample.pixels).save(buffer, "WEBP", lossless=True, method=4, quality=90)
    return "webp", buffer.getvalue()


def write(index: Index, file: Path) -> None:
    """Write the archive: pictures, licences and their index.

    The index keeps the zoo's training generators, whose constants are baselines.
    """
    candidates = choose(index)
    pictures = collect(replace(index, entries=candidates))
    files = {entry.place: encode_picture(sample) for entry, sample in zip(candidates, pictures.samples, strict=True)}
    chosen = choose_fitting(index, {place: len(content) for place, (_, content) in files.items()})
    used = {entry.source for entry in chosen}
    sources = {
        key: source
        for key, source in index.sources.items()
        if key in used or (source.zoo and source.labels is not None and source.split == "train")
    }
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        places = {}
        for number, entry in enumerate(chosen):
            suffix, content = files[entry.place]
            path = folder / f"{number:03d}-{index.sources[entry.source].name}.{suffix}"
            path.write_bytes(content)
            places[entry.place] = Place(path)
        entries = [
            replace(
                entry,
                place=places[entry.place],
                twin=places.get(entry.twin) if entry.twin else None,
                made=False,
                jpeg=None,
            )
            for entry in chosen
        ]
        write_index(Index(sources, entries), folder / INDEX_NAME)
        (folder / LICENCES_NAME).write_text(LICENCES)
        _pack(folder, file)


def _pack(folder: Path, file: Path) -> None:
    """Write an archive that depends on the contents of a folder alone; pictures are stored, text is compressed."""
    with zipfile.ZipFile(file, "w") as archive:
        for path in sorted(folder.iterdir()):
            text = path.suffix in (".jsonl", ".txt")
            archive.writestr(
                zipfile.ZipInfo(path.name), path.read_bytes(), zipfile.ZIP_DEFLATED if text else zipfile.ZIP_STORED
            )


@contextmanager
def unpacked(file: Path = FILE) -> Iterator[Path]:
    """Unpack the archive into a temporary folder, and return the path of its index."""
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(file) as archive:
        archive.extractall(folder)
        yield Path(folder) / INDEX_NAME


def load_testset(file: Path = FILE) -> Collection:
    """Read all pictures of the archive."""
    with unpacked(file) as index:
        return load(index)


def regressions(before: dict[str, float], now: dict[str, float]) -> dict[str, float]:
    """Return the metrics that are worse than before by more than a point, and by how much."""
    worse = {name: degradation(name, value, now[name]) for name, value in before.items()}
    return {name: loss for name, loss in worse.items() if loss > POINT}


@click.group("testset")
def main() -> None:
    """Write or check the test set of the repository."""


@main.command("write")
@click.argument("index", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def write_command(index: Path) -> None:
    """Choose the pictures from INDEX, and write training/evaluate/testset.zip."""
    write(read(index), FILE)


@main.command()
@click.argument("folder", metavar="BUNDLE", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--write", "keep", is_flag=True, help="Store the metrics as the new reference instead of comparing.")
def check(folder: Path, keep: bool) -> None:
    """Evaluate every precision of BUNDLE that a CPU runs, and compare with training/results/testset.json."""
    bundle, collection = open_bundle(folder), load_testset()
    measured = {name: VariantOutputs.run(bundle, create("cpu", bundle, name), collection) for name in bundle.variants}
    found = {variant: outputs.figures() for variant, outputs in measured.items()}
    result = {
        "measured": [bundle_identity(bundle, variant) for variant in bundle.variants],
        "figures": found,
        "lost_against_fp32": degradations(measured),
    }
    click.echo(json.dumps(result, indent=1))
    if keep:
        write_result(RESULT, result)
        return
    kept = json.loads(RESULT.read_text())["figures"]
    worse = {variant: regressions(kept[variant], found[variant]) for variant in kept.keys() & found.keys()}
    if any(worse.values()):
        raise click.ClickException(f"metrics fell by more than a point below {RESULT.name}: {worse}")


if __name__ == "__main__":
    main()
