"""Build the index of a data folder and a zoo: all pictures, the labels of their generators, and the splits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from training.data.dataset import Generator
from training.data.index.records import Entry, Index, Place, source_key
from training.data.public_generators import LABELS
from training.data.sources import (
    NOT_PHOTO_LIKE,
    Picture,
    generator_split,
    hashed,
    jpeg_of_file,
    photo_split,
    read_index,
    split_of,
)
from training.labels import Labels
from training.zoo.files import generator_files, passes, read_entry, zoo_splits


def scan(data: Path, zoo: Path, whole: Mapping[str, Generator] | None = None) -> Index:
    """Build the index: public pictures, then the zoo's photo crops, then pictures of zoo generators.

    Args:
        data: folder of public pictures with `index.csv`.
        zoo: folder of a zoo.
        whole: generators by name of a complete zoo that `zoo` rebuilds in part. Only generators of the complete zoo are kept, in their
            splits there. Training generators that `zoo` lacks are listed without pictures.
    """
    index = Index({}, [])
    _add_public(index, data)
    _add_zoo(index, zoo, whole)
    return Index(index.sources, list(_with_photo_compression(index.entries, data)))


def _with_photo_compression(entries: list[Entry], data: Path) -> Iterator[Entry]:
    """Assign a JPEG setting to every picture that came lossless from its generator.

    It is the setting of the photo that the picture was made from. A picture without photo gets the setting of a training photo, chosen
    by the
    hash of its name.
    """
    photos = {_group(picture.path): picture.path for picture in read_index(data) if picture.camera}
    jpeg_by_photo = {group: jpeg_of_file(path) for group, path in photos.items()}
    training_jpegs = [jpeg_by_photo[group] for group, path in photos.items() if photo_split(path) == "train"] or [None]
    for entry in entries:
        if not entry.made:
            yield entry
        elif entry.group is not None:
            yield replace(entry, jpeg=jpeg_by_photo.get(entry.group))
        else:
            name = f"{entry.source}/{entry.place.file.name}#{entry.place.number}"
            yield replace(entry, jpeg=training_jpegs[hashed(name) % len(training_jpegs)])


def _group(photo: Path) -> str:
    return f"{photo.parent.name}/{photo.name}"


def _add(index: Index, source: Generator) -> str:
    key = source_key(source)
    index.sources.setdefault(key, source)
    return key


def _add_public(index: Index, folder: Path) -> None:
    """Add whole photos and pictures of public generators.

    A picture of a training generator lies in `train`, or in `test` to evaluate attribution of known generators. A picture made from a photo
    lies in the split of its photo. It is left out if its generator lies in another split.
    """
    entries = []
    for picture in read_index(folder):
        if picture.set in NOT_PHOTO_LIKE:
            continue
        labels = None if picture.camera else LABELS.get(picture.set, Labels(None, {}, {}, None))
        split_of_source = "train" if picture.camera else generator_split(picture.set)
        key = _add(index, Generator(picture.set, labels, False, split_of_source))
        split = _public_split(picture, split_of_source)
        if picture.twin is not None and photo_split(picture.twin) != split:
            continue
        photo = picture.path if picture.camera else picture.twin
        group = _group(photo) if photo is not None else None
        twin = Place(picture.twin) if picture.twin is not None else None
        entries.append(Entry(Place(picture.path), key, split, group, twin, made=not picture.camera))
    cameras = {entry.place for entry in entries}
    index.entries.extend(entry if entry.twin in cameras else replace(entry, twin=None) for entry in entries)


def _public_split(picture: Picture, split_of_source: str) -> str:
    if picture.camera:
        return photo_split(picture.path)
    if split_of_source != "train":
        return split_of_source
    return split_of(picture.path.stem) if picture.twin is None else photo_split(picture.twin)


def _add_zoo(index: Index, folder: Path, whole: Mapping[str, Generator] | None) -> None:
    """Add every finished generator that passes the quality rule, and the photo crops it was trained on, one camera source per photo set."""
    files = [path for path in generator_files(folder) if whole is None or path.stem in whole]
    kept = {path: entry for path in files if passes(entry := read_entry(path))}
    labels = {path.stem: Labels.from_json(entry["labels"]) for path, entry in kept.items()}
    splits = zoo_splits(labels) if whole is None else {name: source.split for name, source in whole.items()}
    photos = list(folder.glob("photos-*.npz"))
    if len(photos) != 1:
        raise ValueError(f"{folder} must hold one photos-SIZE.npz, got {len(photos)}; build a zoo of one size there")
    with np.load(photos[0], allow_pickle=False) as file:
        photo_splits, groups = file["splits"], [str(name) for name in file["sources"]]
    for i, (split, group) in enumerate(zip(photo_splits, groups, strict=True)):
        key = _add(index, Generator(group.split("/")[0], None, True, "train"))
        index.entries.append(Entry(Place(photos[0], i), key, str(split), group, None, made=False))
    for path in kept:
        key = _add(index, Generator(path.stem, labels[path.stem], True, splits[path.stem]))
        with np.load(path, allow_pickle=False) as file:
            picture_splits, twins = file["splits"], file["twins"]
        for i, (split, twin) in enumerate(zip(picture_splits, twins, strict=True)):
            content, photo = (groups[twin], Place(photos[0], int(twin))) if twin >= 0 else (None, None)
            index.entries.append(Entry(Place(path, i), key, str(split), content, photo, made=True))
    for source in (whole or {}).values():
        if source.split == "train":
            _add(index, source)
