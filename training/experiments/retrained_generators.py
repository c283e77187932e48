"""The hardest pairs: a test generator of the zoo, and the same one trained again.

The second network has the same architecture, losses and steps, but other first weights, other training photos, and
other constants if its family draws them from the seed.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import click
import numpy as np

from edgeparse.backends.select import create
from edgeparse.bundle import open_bundle
from edgeparse.system import usable_cores
from training.data.index.load import collect
from training.data.index.records import Entry, Index, Place, read, source_key
from training.evaluate.attribution import same_generator_metrics
from training.evaluate.predict import predict
from training.evaluate.results import RESULTS, bundle_identity, write_result
from training.evaluate.tasks import MAIN_CONDITIONS
from training.zoo.build import MIN_STEPS, TERA_MACS, Budget
from training.zoo.files import read_entry
from training.zoo.pool import build_all
from training.zoo.space import Config

RESULT = RESULTS / "retrained_generators.json"
# Generators of each family, and their budget: that of the zoo, with 50 test pictures each.
PER_FAMILY = 4
BUDGET = Budget(TERA_MACS, {"test": 50}, min_steps=MIN_STEPS)
# Suffix of the name of a generator that was trained again.
SUFFIX = " trained again"


def choose(index: Index) -> dict[str, list[Entry]]:
    """Return test pictures of the first test generators of every family that shows photos, by the generator's key."""
    by_family: dict[str | None, list[str]] = {}
    for key, source in sorted(index.sources.items()):
        if source.zoo and source.split == "test" and source.labels and source.has_photo_content():
            by_family.setdefault(source.labels.family, []).append(key)
    keys = {key for members in by_family.values() for key in members[:PER_FAMILY]}
    entries: dict[str, list[Entry]] = {key: [] for key in sorted(keys)}
    for entry in index.entries:
        if entry.source in keys and entry.split == "test":
            entries[entry.source].append(entry)
    return entries


def reseeded(config: Config) -> Config:
    """Return the same generator with another seed."""
    return replace(config, seed=config.seed + 1)


def with_retrained(index: Index, entries: dict[str, list[Entry]], folder: Path) -> Index:
    """Return an index of these pictures and of the retrained generators' pictures in `folder`.

    A picture is saved like the photo that it shows, whichever of the two networks made it.
    """
    jpegs = {entry.group: entry.jpeg for entry in index.entries if entry.made and entry.group}
    groups = {entry.place.number: entry.group for entry in photo_crops(index)}
    found = Index({}, [])
    for key, members in entries.items():
        retrained = replace(index.sources[key], name=f"{index.sources[key].name}{SUFFIX}")
        found.sources[key], found.sources[source_key(retrained)] = index.sources[key], retrained
        found.entries.extend(replace(entry, twin=None) for entry in members)
        file = folder / members[0].place.file.name
        with np.load(file, allow_pickle=False) as arrays:
            photos = [groups[int(photo)] or "" for photo in arrays["twins"]]
        found.entries.extend(
            Entry(Place(file, i), source_key(retrained), "test", photo, None, made=True, jpeg=jpegs[photo])
            for i, photo in enumerate(photos)
        )
    return found


def photo_crops(index: Index) -> list[Entry]:
    """Return the photo crops that the zoo's generators saw."""
    return [e for e in index.entries if index.sources[e.source].zoo and index.sources[e.source].labels is None]


@click.command("retrained-generators")
@click.argument("folder", metavar="BUNDLE", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("index", metavar="INDEX", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--workers", default=usable_cores(), show_default=True, help="Number of training processes, one thread each."
)
def main(folder: Path, index: Path, out: Path, workers: int) -> None:
    """Train test generators of INDEX again into OUT, and measure whether BUNDLE tells them from the first ones."""
    whole, bundle = read(index), open_bundle(folder)
    backend = create("cpu", bundle)
    entries = choose(whole)
    configs = [reseeded(Config(**read_entry(members[0].place.file)["config"])) for members in entries.values()]
    out.mkdir(parents=True, exist_ok=True)
    for _ in build_all(configs, photo_crops(whole)[0].place.file, BUDGET, out, workers, "cpu"):
        pass
    collection = collect(with_retrained(whole, entries, out))
    kinds = {i: source.name.removesuffix(SUFFIX) for i, source in enumerate(collection.sources)}
    found = {
        condition: same_generator_metrics(predict(backend, collection.samples, condition), bundle.same, kinds=kinds)
        for condition in MAIN_CONDITIONS
    }
    result = bundle_identity(bundle) | {"generators": len(entries), "conditions": found}
    click.echo(json.dumps(result, indent=1))
    write_result(RESULT, result)


if __name__ == "__main__":
    main()
