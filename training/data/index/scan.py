"""Build the index of a data folder and a zoo: all pictures, the labels of their generators, and the splits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from training.data.augment import Jpeg
from training.data.dataset import Generator
from training.data.index.records import Entry, Index, Place, source_key
from training.data.public_labels import UNKNOWN, read_labels
from training.data.public_sets import folds_of, held_out, read_pictures, split_of_fold
from training.data.sources import hashed, jpeg_of_file
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

    It is the setting of the photo that the picture was made from. A picture without photo gets the setting of a training photo, chosen by
    the hash of its name.
    """
    jpeg_by_photo: dict[str, Jpeg | None] = {}
    training_jpegs: list[Jpeg | None] = []
    pictures = read_pictures(data)
    folds = folds_of(pictures)
    for picture in pictures:
        if picture.set.role == "camera":
            setting = jpeg_of_file(data / picture.file)
            jpeg_by_photo[content_of(picture.file)] = setting
            training_jpegs += [setting] if split_of_fold(folds[picture.owner]) == "train" else []
    for entry in entries:
        if not entry.made:
            yield entry
        elif entry.group is not None:
            yield replace(entry, jpeg=jpeg_by_photo.get(entry.group))
        else:
            name = f"{entry.source}/{entry.place.file.name}#{entry.place.number}"
            yield replace(entry, jpeg=training_jpegs[hashed(name) % len(training_jpegs)] if training_jpegs else None)


def content_of(file: str) -> str:
    """Return the name of a photo's content, SET/FILE, from its path in the data folder."""
    path = Path(file)
    return f"{path.parent.name}/{path.name}"


def _add(index: Index, source: Generator) -> str:
    key = source_key(source)
    index.sources.setdefault(key, source)
    return key


def _add_public(index: Index, folder: Path) -> None:
    """Add photos and pictures of public generators, split by the folds of their owners (`public_sets`).

    Some pictures of training generators lie in `val` and `test`, for attribution among known generators. A picture made from a photo of
    another split is left out.
    """
    everything = read_pictures(folder)
    # Folds depend on all pictures.
    folds, labels, known = folds_of(everything), read_labels(folder), held_out(everything)
    pictures = [picture for picture in everything if picture.set.role in ("camera", "generated")]
    splits = {p.file: split_of_fold(folds[p.owner]) for p in pictures}
    entries = []
    for picture in pictures:
        camera = picture.set.role == "camera"
        own = splits[picture.file]
        key = _add(
            index,
            Generator(picture.set.name, None, False, "train")
            if camera
            else Generator(picture.set.name, labels.get(picture.set.name, UNKNOWN), False, own),
        )
        if own == "train" and picture.file in known:
            own = ("val", "test")[hashed(picture.file) % 2]
        if picture.twin is not None and splits.get(picture.twin, own) != own:
            continue
        photo = picture.file if camera else picture.twin
        twin = folder / picture.twin if picture.twin is not None else None
        entries.append(
            Entry(
                Place(folder / picture.file), key, own, None if photo is None else content_of(photo),
                None if twin is None else Place(twin), made=not camera and not picture.jpeg,
            )
        )  # fmt: skip
    cameras = {entry.place for entry in entries}
    index.entries.extend(entry if entry.twin in cameras else replace(entry, twin=None) for entry in entries)


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
