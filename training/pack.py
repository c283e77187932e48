"""The evaluation pack: test pictures that may be shipped, small enough for the repository and enough for the headline figures.

`python -m training.pack write INDEX` chooses them, `python -m training.pack check BUNDLE` evaluates a bundle on them and fails
where a figure fell by more than a point against training/results/pack.json.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import click
import numpy as np
from PIL import Image

from edgeparse.backends.select import create
from edgeparse.bundle import Bundle, open_bundle
from training.dataset import Collection, Generator, Sample
from training.evaluate import detection, parsing, predict, same_generator
from training.index.load import load as load_index
from training.labels import Labels

ROOT = Path(__file__).parent
FOLDER = ROOT / "pack"
RESULT = ROOT / "results" / "pack.json"
PHOTO_SETS = ("cq100", "dreambooth_unsplash")
GENERATORS = ("sd3.5-large", "ldm-fourier")
LICENCES = """\
# Licences of the pictures in this folder

Each picture's name ends in its source; `index.json` names the photo that it shows, where it shows one.

- `cq100` and every picture whose photo is from it: CQ100 (github.com/Ivordir/quantette), CC BY-SA 4.0 as a set; its photos are CC BY-SA,
  CC BY, CC0 or in the public domain. They were cropped; zoo generators' pictures were made from them and are CC BY-SA 4.0 as well.
- `dreambooth_unsplash` and every picture whose photo is from it: photos by Unsplash's contributors, from google/dreambooth
  (CC BY 4.0, Unsplash licence). They were cropped; zoo generators' pictures were made from them.
- `sd3.5-large`: EnragedAntelope/Styles-SD35L, MIT licence. Cropped.
- `ldm-fourier`: dakshces/FourierImageDiffuse, MIT licence. Cropped.
"""
PHOTOS, OF_A_ZOO_GENERATOR, OF_A_PUBLIC_GENERATOR = 60, 5, 12
# A fall of more than this is a fault; figures are shares or areas, so a point is 0.01.
POINT = 0.01


def may_ship(sample: Sample, source: Generator) -> bool:
    """Whether the content's licence allows it. A texture of the zoo's GANs may repeat the photos that it was learned from, which are
    mostly for research only."""
    if sample.photo is None:
        return source.name in GENERATORS
    return sample.photo.split("/")[0] in PHOTO_SETS


def choose(collection: Collection, seed: int = 0) -> list[Sample]:
    """Test pictures that may be shipped: photo crops, and pictures of zoo and public generators that training never saw."""
    rng = np.random.default_rng(seed)

    def some(samples: list[Sample], count: int) -> list[Sample]:
        return [samples[i] for i in sorted(rng.permutation(len(samples))[:count])]

    def free(samples: list[Sample]) -> list[Sample]:
        return [sample for sample in samples if may_ship(sample, collection.sources[sample.source])]

    chosen = some(free(collection.select(split="test", camera=True, zoo=True)), PHOTOS)
    made = free(collection.select(split="test", camera=False, source_split="test"))
    for i, source in enumerate(collection.sources):
        mine = [sample for sample in made if sample.source == i]
        chosen += some(mine, OF_A_ZOO_GENERATOR if source.zoo else OF_A_PUBLIC_GENERATOR)
    return chosen


def write(collection: Collection, folder: Path) -> None:
    """Write the pack: lossless WebP files and index.json, which keeps the labels of training generators for the constants' sake."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    samples = choose(collection)
    used = {sample.source for sample in samples}
    kept = [
        i
        for i, source in enumerate(collection.sources)
        if i in used or (source.zoo and source.labels is not None and source.split == "train")
    ]
    places = {old: new for new, old in enumerate(kept)}
    entries = []
    for number, sample in enumerate(samples):
        name = f"{number:03d}-{collection.sources[sample.source].name}.webp"
        Image.fromarray(sample.pixels).save(folder / name, lossless=True, method=3)
        entries.append({"file": name, "source": places[sample.source], "photo": sample.photo, "made": sample.made})
    sources = [collection.sources[i] for i in kept]
    index = {
        "sources": [asdict(source) | {"labels": source.labels and source.labels.to_json()} for source in sources],
        "samples": entries,
    }
    (folder / "index.json").write_text(json.dumps(index, indent=1) + "\n")
    (folder / "LICENCES.md").write_text(LICENCES)


def load(folder: Path = FOLDER) -> Collection:
    """The pack as a collection, all of it of the test split."""
    index = json.loads((folder / "index.json").read_text())
    collection = Collection([], [])
    for source in index["sources"]:
        labels = None if source["labels"] is None else Labels.from_json(source["labels"])
        collection.sources.append(Generator(source["name"], labels, source["zoo"], source["split"]))
    for entry in index["samples"]:
        with Image.open(folder / entry["file"]) as image:
            pixels = np.asarray(image.convert("RGB"))
        collection.samples.append(Sample(pixels, entry["source"], "test", entry["photo"], entry["made"]))
    return collection


def figures(bundle: Bundle, variant: str | None, collection: Collection) -> dict[str, float]:
    """The headline figures of one precision; higher is better, but for the error `continuous_l1`."""
    backend = create("cpu", bundle, variant)
    camera = collection.select(split="test", camera=True)
    zoo = collection.select(split="test", camera=False, zoo=True)
    real = collection.select(split="test", camera=False, zoo=False)
    found: dict[str, float] = {}
    for condition in ("clean", "social media"):
        p = {name: predict(backend, s, condition) for name, s in (("camera", camera), ("zoo", zoo), ("real", real))}
        key = condition.replace(" ", "_")
        for name in ("zoo", "real"):
            found[f"detection_{name}_auc_{key}"] = detection(p["camera"], p[name], collection, bundle.calibration)[
                "auc"
            ]
        if condition == "clean":
            if same := same_generator(p["zoo"]):
                found["same_generator_auc"] = same["auc"]
            parsed = parsing(p["zoo"], collection, bundle)
            found["family_macro_f1"] = parsed["family"]["macro_f1"]
            found["continuous_l1"] = float(np.mean([f["l1"] for f in parsed["continuous"].values()]))
            for group in ("discrete", "losses"):
                found[f"{group}_macro_f1"] = float(np.mean([f["macro_f1"] for f in parsed[group].values()]))
    return found


def fallen(before: dict[str, float], now: dict[str, float]) -> dict[str, float]:
    """The figures that are worse than before by more than a point, and by how much."""
    worse = {
        name: (now[name] - value if name == "continuous_l1" else value - now[name]) for name, value in before.items()
    }
    return {name: fall for name, fall in worse.items() if fall > POINT}


@click.group()
def main() -> None:
    """Test pictures that may be shipped."""


@main.command("write")
@click.argument("index", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def write_command(index: Path) -> None:
    """Choose the pictures from INDEX."""
    write(load_index(index), FOLDER)


@main.command()
@click.argument("folder", metavar="BUNDLE", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--write", "keep", is_flag=True, help="Keep these figures as the ones to hold.")
def check(folder: Path, keep: bool) -> None:
    """Evaluate every precision of BUNDLE that a CPU runs, and compare with the kept figures."""
    bundle, collection = open_bundle(folder), load()
    found = {variant: figures(bundle, variant, collection) for variant in bundle.variants}
    click.echo(json.dumps(found, indent=1))
    if keep:
        RESULT.write_text(json.dumps({"bundle_sha256": bundle.sha256, "figures": found}, indent=1) + "\n")
        return
    kept = json.loads(RESULT.read_text())["figures"]
    worse = {variant: fallen(kept[variant], found[variant]) for variant in kept.keys() & found.keys()}
    if any(worse.values()):
        raise click.ClickException(f"worse than training/results/pack.json by more than a point: {worse}")


if __name__ == "__main__":
    main()
