"""The hardest pairs: a test generator of the zoo and the same one trained again: `python -m benchmarks.trained_again BUNDLE INDEX OUT`.

The other network has the same architecture, losses and steps; other first weights, other training photos, and other constants where its
family draws them by the seed. What tells the two is what training left to chance. The figures go to training/results/trained_again.json,
which docs/accuracy.md shows.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import click
import numpy as np

from edgeparse.backends.onnxruntime import usable_cores
from edgeparse.backends.select import create
from edgeparse.bundle import open_bundle
from training.data.index.load import collect
from training.data.index.records import Entry, Index, Place, read, source_key
from training.predictions import predict
from training.provenance import measured_of
from training.questions import MOST_TRIED, same_generator
from training.zoo.build import MIN_STEPS, TERA_MACS, Budget
from training.zoo.files import read_entry
from training.zoo.pool import build_all
from training.zoo.space import Config

RESULT = Path(__file__).parent.parent / "training" / "results" / "trained_again.json"
# Generators of each family that are trained again, as long as the zoo's are, and the pictures that each makes.
OF_A_FAMILY = 4
BUDGET = Budget(TERA_MACS, {"test": 50}, min_steps=MIN_STEPS)
# What the name of one that was trained again ends in.
AGAIN = " trained again"


def chosen(index: Index) -> dict[str, list[Entry]]:
    """Test pictures of the first test generators of every family that shows photos, by the generator's key."""
    shown: dict[str, list[str]] = {}
    for key, source in sorted(index.sources.items()):
        if source.zoo and source.split == "test" and source.labels and source.shows_photos():
            shown.setdefault(source.labels.family, []).append(key)
    keys = {key for of_family in shown.values() for key in of_family[:OF_A_FAMILY]}
    entries: dict[str, list[Entry]] = {key: [] for key in sorted(keys)}
    for entry in index.entries:
        if entry.source in keys and entry.split == "test":
            entries[entry.source].append(entry)
    return entries


def again(config: Config) -> Config:
    """The same generator, left to another chance."""
    return replace(config, seed=config.seed + 1)


def beside(index: Index, entries: dict[str, list[Entry]], folder: Path) -> Index:
    """Those pictures and the ones of the generators that were trained again in `folder`, which come right after theirs.

    A picture is saved as the photo that it shows was, whichever of the two made it.
    """
    as_photos = {entry.group: entry.jpeg for entry in index.entries if entry.made and entry.group}
    groups = {entry.place.number: entry.group for entry in crops(index)}
    found = Index({}, [])
    for key, of_one in entries.items():
        other = replace(index.sources[key], name=f"{index.sources[key].name}{AGAIN}")
        found.sources[key], found.sources[source_key(other)] = index.sources[key], other
        found.entries.extend(replace(entry, twin=None) for entry in of_one)
        file = folder / of_one[0].place.file.name
        with np.load(file, allow_pickle=False) as arrays:
            shown = [groups[int(twin)] for twin in arrays["twins"]]
        found.entries.extend(
            Entry(Place(file, i), source_key(other), "test", group, None, made=True, jpeg=as_photos[group])
            for i, group in enumerate(shown)
        )
    return found


def crops(index: Index) -> list[Entry]:
    """The photo crops that the zoo's generators saw."""
    return [e for e in index.entries if index.sources[e.source].zoo and index.sources[e.source].labels is None]


@click.command()
@click.argument("folder", metavar="BUNDLE", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("index", metavar="INDEX", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option("--workers", default=usable_cores(), show_default=True, help="Processes that train, one thread each.")
def main(folder: Path, index: Path, out: Path, workers: int) -> None:
    """Train test generators of the zoo of INDEX again, into OUT, and look whether BUNDLE tells them from the first ones."""
    whole, bundle = read(index), open_bundle(folder)
    backend = create("cpu", bundle)
    entries = chosen(whole)
    configs = [again(Config(**read_entry(of_one[0].place.file)["config"])) for of_one in entries.values()]
    out.mkdir(parents=True, exist_ok=True)
    for _ in build_all(configs, crops(whole)[0].place.file, BUDGET, out, workers, "cpu"):
        pass
    collection = collect(beside(whole, entries, out))
    kinds = {i: source.name.removesuffix(AGAIN) for i, source in enumerate(collection.sources)}
    found = {
        condition: same_generator(predict(backend, collection.samples, condition), bundle.same, kinds=kinds)
        for condition in MOST_TRIED
    }
    result = measured_of(bundle) | {"generators": len(entries), "conditions": found}
    click.echo(json.dumps(result, indent=1))
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
