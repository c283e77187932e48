"""The test set of the repository: test pictures whose licence allows redistribution, in one file.

It has pictures of public generators of the test fold, of test generators of the zoo, and crops of photos. No photo of the
test fold is free, so training may have seen the photos. It protects against regressions only: `check` fails if a
metric falls by more than a point below training/results/testset.json.
"""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from edgeparse.backends.select import create
from edgeparse.bundle import open_bundle
from training.data.dataset import Collection, Generator
from training.data.index.load import load
from training.data.index.records import Entry, Index, Place, read
from training.data.index.records import write as write_index
from training.data.index.scan import content_of
from training.data.public_labels import UNKNOWN, read_labels
from training.data.public_sets import PublicPicture, may_redistribute, read_pictures, split
from training.evaluate.results import RESULTS, bundle_identity, write_result
from training.evaluate.summary_metrics import VariantOutputs, degradation, degradations

FILE = Path(__file__).parent / "testset.zip"
RESULT = RESULTS / "testset.json"
INDEX_NAME, LICENCES_NAME = "index.jsonl", "LICENCES.txt"
PHOTO_SETS = ("cq100", "dreambooth_unsplash")
LICENCES = """\
Licences of the pictures in this archive

The name of each picture ends in its source. `index.jsonl` names the photo that it shows as `group`.

- `cq100` and every picture whose photo is from it: CQ100 (github.com/Ivordir/quantette), CC BY-SA 4.0 as a set.
  Its photos are CC BY-SA, CC BY, CC0 or in the public domain. They were cropped. Pictures of zoo generators were made
  from them and are CC BY-SA 4.0 as well.
- `dreambooth_unsplash` and every picture whose photo is from it: photos by contributors of Unsplash, from
  google/dreambooth (CC BY 4.0, Unsplash licence). They were cropped. Pictures of zoo generators were made from them.
- `ldm-fourier`: dakshces/FourierImageDiffuse, MIT. Cropped.
"""
# Pictures of each public generator; one with fewer free pictures is left out.
PUBLIC_PICTURES = 12
# A metric may fall by this much.
POINT = 0.01


def choose(data: Path) -> list[PublicPicture]:
    """Return pictures of public generators of the test fold that may be redistributed, as the photo that each shows may."""
    pictures = read_pictures(data)
    licence = {picture.file: picture.licence for picture in pictures}
    by_set: dict[str, list[PublicPicture]] = defaultdict(list)
    for picture in split(pictures).test:
        free = may_redistribute(picture.licence)
        shown = picture.twin is None or may_redistribute(licence.get(picture.twin, ""))
        if picture.set.role == "generated" and free and shown:
            by_set[picture.set.name].append(picture)
    return [
        picture for chosen in by_set.values() if len(chosen) >= PUBLIC_PICTURES for picture in chosen[:PUBLIC_PICTURES]
    ]


def write(data: Path, before: Path, file: Path) -> None:
    """Write the archive: the zoo's part of an earlier archive, and public pictures of a data folder.

    Files are copied byte for byte. The index keeps the zoo's training generators, whose constants are baselines.
    """
    chosen, labels = choose(data), read_labels(data)
    with tempfile.TemporaryDirectory() as temporary, unpacked(before) as old_index:
        folder, old = Path(temporary), read(old_index)
        entries: list[Entry] = []
        places: dict[Place, Place] = {}
        kept = [entry for entry in old.entries if old.sources[entry.source].zoo]
        for entry in kept:
            places[entry.place] = Place(folder / entry.place.file.name)
            places[entry.place].file.write_bytes(entry.place.file.read_bytes())
        for entry in kept:
            twin = places.get(entry.twin) if entry.twin else None
            entries.append(Entry(places[entry.place], entry.source, entry.split, entry.group, twin, made=False))
        sources = {key: source for key, source in old.sources.items() if source.zoo}
        for number, picture in enumerate(chosen):
            name = picture.set.name
            sources.setdefault(name, Generator(name, labels.get(name, UNKNOWN), False, "test"))
            place = Place(folder / f"public-{number:03d}-{name}{Path(picture.file).suffix}")
            place.file.write_bytes((data / picture.file).read_bytes())
            group = picture.twin and content_of(picture.twin)
            entries.append(Entry(place, name, "test", group, None, made=False))
        write_index(Index(sources, entries), folder / INDEX_NAME)
        (folder / LICENCES_NAME).write_text(LICENCES + _licences(chosen))
        _pack(folder, file)


def _licences(chosen: list[PublicPicture]) -> str:
    sets = {picture.set.name: picture for picture in chosen}
    return "".join(f"- `{name}`: {one.source}, {one.licence}. Cropped.\n" for name, one in sets.items() if one.source)


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
@click.argument("data", type=click.Path(exists=True, file_okay=False, path_type=Path))
def write_command(data: Path) -> None:
    """Replace the public pictures of training/evaluate/testset.zip by those of the folder DATA; keep the zoo's."""
    temporary = FILE.with_suffix(".new")
    write(data, FILE, temporary)
    temporary.replace(FILE)


@main.command()
@click.argument("folder", metavar="BUNDLE", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--write", "output", type=click.Path(dir_okay=False, path_type=Path), help="Store the metrics in a file.")
def check(folder: Path, output: Path | None) -> None:
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
    if output is not None:
        write_result(output, result)
        return
    kept = json.loads(RESULT.read_text())["figures"]
    worse = {variant: regressions(kept[variant], found[variant]) for variant in kept.keys() & found.keys()}
    if any(worse.values()):
        raise click.ClickException(f"metrics fell by more than a point below {RESULT.name}: {worse}")


if __name__ == "__main__":
    main()
