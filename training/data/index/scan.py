"""From a data folder and a zoo to their index: which pictures there are, what is known of their generators, and who may see them."""

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
    """The index of both: public pictures, then the zoo's photo crops, then its generators'.

    Of a zoo that is a part of a `whole` one, whose generators are given by name, only these are kept, each on its side there; and of those
    for training that the part lacks, what is known without pictures.
    """
    index = Index({}, [])
    _add_public(index, data)
    _add_zoo(index, zoo, whole)
    return Index(index.sources, list(_as_photos_come(index.entries, data)))


def _as_photos_come(entries: list[Entry], data: Path) -> Iterator[Entry]:
    """Every picture that comes lossless from its generator with the compression of the photo that it was made from, or of some photo of
    training, the same one each time."""
    photos = {_group(picture.path): picture.path for picture in read_index(data) if picture.camera}
    of_photo = {group: jpeg_of_file(path) for group, path in photos.items()}
    trained = [of_photo[group] for group, path in photos.items() if photo_split(path) == "train"] or [None]
    for entry in entries:
        if not entry.made:
            yield entry
        elif entry.group is not None:
            yield replace(entry, jpeg=of_photo.get(entry.group))
        else:
            name = f"{entry.source}/{entry.place.file.name}#{entry.place.number}"
            yield replace(entry, jpeg=trained[hashed(name) % len(trained)])


def _group(photo: Path) -> str:
    return f"{photo.parent.name}/{photo.name}"


def _add(index: Index, source: Generator) -> str:
    key = source_key(source)
    index.sources.setdefault(key, source)
    return key


def _add_public(index: Index, folder: Path) -> None:
    """The data folder's photos and public generators' pictures, whole.

    A picture of a training generator is in `train` or, so that known generators can be tested, in `test`; one made from a photo is where
    its photo is, and left out where its generator is elsewhere.
    """
    entries = []
    for picture in read_index(folder):
        if picture.set in NOT_PHOTO_LIKE:
            continue
        labels = None if picture.camera else LABELS.get(picture.set, Labels(None, {}, {}, None))
        side = "train" if picture.camera else generator_split(picture.set)
        key = _add(index, Generator(picture.set, labels, False, side))
        split = _public_split(picture, side)
        if picture.twin is not None and photo_split(picture.twin) != split:
            continue
        photo = picture.path if picture.camera else picture.twin
        group = _group(photo) if photo is not None else None
        twin = Place(picture.twin) if picture.twin is not None else None
        entries.append(Entry(Place(picture.path), key, split, group, twin, made=not picture.camera))
    there = {entry.place for entry in entries}
    index.entries.extend(entry if entry.twin in there else replace(entry, twin=None) for entry in entries)


def _public_split(picture: Picture, side: str) -> str:
    if picture.camera:
        return photo_split(picture.path)
    if side != "train":
        return side
    return split_of(picture.path.stem) if picture.twin is None else photo_split(picture.twin)


def _add_zoo(index: Index, folder: Path, whole: Mapping[str, Generator] | None) -> None:
    """Every finished generator that passes the quality rule, and the photo crops that they saw, as one camera source a photo set."""
    files = [path for path in generator_files(folder) if whole is None or path.stem in whole]
    kept = {path: entry for path in files if passes(entry := read_entry(path))}
    labels = {path.stem: Labels.from_json(entry["labels"]) for path, entry in kept.items()}
    splits = zoo_splits(labels) if whole is None else {name: source.split for name, source in whole.items()}
    photos = list(folder.glob("photos-*.npz"))
    if len(photos) != 1:
        raise ValueError(f"{folder} holds {len(photos)} photos-SIZE.npz, not one; build a zoo of one size there")
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
            group, photo = (groups[twin], Place(photos[0], int(twin))) if twin >= 0 else (None, None)
            index.entries.append(Entry(Place(path, i), key, str(split), group, photo, made=True))
    for source in (whole or {}).values():
        if source.split == "train":
            _add(index, source)
