"""Read, check and write the lines of an index. This module reads no pixels."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from training.data.augment import Jpeg
from training.data.dataset import Generator
from training.labels import CONTINUOUS, DISCRETE, FAMILIES, LOSSES, Labels

SPLITS = ("train", "val", "test")
REBUILD_HINT = "rebuild the index with `python -m training index write DATA ZOO INDEX`"


class Place(NamedTuple):
    """Location of a picture: a file, and a number if the file holds several pictures."""

    file: Path
    number: int | None = None

    @staticmethod
    def parse(text: str, folder: Path) -> Place:
        """Parse the text of an index that lies in `folder`."""
        several = re.fullmatch(r"(.+\.npz)#(\d+)", text)
        return Place(folder / several[1], int(several[2])) if several else Place(folder / text)

    def text(self, folder: Path) -> str:
        """Return the text for an index in `folder`.

        The path is relative if the file lies below `folder`, so that both can be moved together. Otherwise it is absolute.
        """
        file = self.file.resolve()
        path = file.relative_to(folder) if file.is_relative_to(folder) else file
        return path.as_posix() if self.number is None else f"{path.as_posix()}#{self.number}"


@dataclass(frozen=True)
class Entry:
    """One picture. The fields are those of its line."""

    place: Place
    source: str
    split: str
    group: str | None
    twin: Place | None
    made: bool
    jpeg: Jpeg | None = None


@dataclass(frozen=True)
class Index:
    """Sources by key, and pictures, both in the order of the file."""

    sources: dict[str, Generator]
    entries: list[Entry]


def source_key(source: Generator) -> str:
    """Return the key of a source. A photo set can be both in the data folder and, as crops, in the zoo."""
    return f"zoo/{source.name}" if source.zoo else source.name


def write(index: Index, path: Path) -> None:
    """Write an index to `path` atomically."""
    folder = path.resolve().parent
    lines: list[dict[str, object]] = []
    for key, source in index.sources.items():
        known = source.labels and source.labels.to_json()
        family = known.pop("family") if known else None
        kind = "camera" if known is None else "generated"
        line = {"source": key, "name": source.name, "kind": kind, "zoo": source.zoo, "split": source.split}
        lines.append(line | {"family": family, "labels": known})
    for entry in index.entries:
        twin = entry.twin and entry.twin.text(folder)
        line = {"picture": entry.place.text(folder), "source": entry.source, "split": entry.split}
        lines.append(line | {"group": entry.group, "twin": twin, "made": entry.made, "jpeg": entry.jpeg})
    temporary = path.with_name(f".{path.name}")
    temporary.write_text("".join(json.dumps(line) + "\n" for line in lines))
    temporary.replace(path)


def read(path: Path) -> Index:
    """Read and check an index.

    Raises:
        ValueError: a line is malformed or inconsistent. The message names the line and the remedy.
    """
    folder = path.resolve().parent
    index = Index({}, [])
    cameras: set[Place] = set()
    twins: dict[Place, int] = {}
    with path.open() as file:
        for number, line in enumerate(file, 1):
            try:
                fields = json.loads(line)
                if "picture" not in fields:
                    _add_source(fields, index)
                    continue
                entry = _entry(fields, index, folder)
            except KeyError as error:
                raise _error(path, number, f"field {error} is missing") from error
            except (TypeError, ValueError) as error:
                raise _error(path, number, str(error)) from error
            index.entries.append(entry)
            if index.sources[entry.source].labels is None:
                cameras.add(entry.place)
            if entry.twin is not None:
                twins.setdefault(entry.twin, number)
    for twin, number in twins.items():
        if twin not in cameras:
            raise _error(path, number, f"twin must be a camera picture of this index, got {twin.text(folder)}")
    return index


def _error(path: Path, number: int, what: str) -> ValueError:
    return ValueError(f"{path}, line {number}: {what}; correct the line or {REBUILD_HINT}")


def _add_source(fields: dict[str, Any], index: Index) -> None:
    key, kind = fields["source"], _one_of("kind", fields["kind"], ("camera", "generated"))
    if key in index.sources:
        raise ValueError(f"source must be unique, got {key} twice")
    labels = None if kind == "camera" else _labels(fields.get("family"), fields.get("labels") or {})
    split = _one_of("split", fields["split"], SPLITS)
    index.sources[key] = Generator(fields["name"], labels, bool(fields["zoo"]), split)


def _labels(family: str | None, known: dict[str, Any]) -> Labels:
    """Check labels against the label spaces, because a misspelt label would count as unknown."""
    labels = Labels.from_json(
        {
            "family": family,
            "continuous": known.get("continuous") or {},
            "discrete": known.get("discrete") or {},
            "losses": known.get("losses"),
        }
    )
    if family is not None:
        _one_of("family", family, tuple(FAMILIES))
    for name in labels.continuous:
        _one_of("continuous parameter", name, tuple(CONTINUOUS))
    for name, value in labels.discrete.items():
        _one_of(name, value, DISCRETE[_one_of("discrete parameter", name, tuple(DISCRETE))])
    for loss in labels.losses or ():
        _one_of("loss", loss, LOSSES)
    return labels


def _entry(fields: dict[str, Any], index: Index, folder: Path) -> Entry:
    if fields["source"] not in index.sources:
        raise ValueError(f"source must be described by an earlier line, got {fields['source']}")
    twin = fields.get("twin")
    return Entry(
        Place.parse(fields["picture"], folder),
        fields["source"],
        _one_of("split", fields["split"], SPLITS),
        fields.get("group"),
        None if twin is None else Place.parse(twin, folder),
        bool(fields.get("made")),
        None if fields.get("jpeg") is None else _jpeg(*fields["jpeg"]),
    )


def _jpeg(quality: int, subsampling: int) -> Jpeg:
    if not 1 <= quality <= 100 or subsampling not in (0, 1, 2):
        raise ValueError(f"jpeg must be [quality 1 to 100, subsampling 0, 1 or 2], got [{quality}, {subsampling}]")
    return Jpeg(quality, subsampling)


def _one_of(what: str, value: str, values: tuple[str, ...]) -> str:
    if value not in values:
        raise ValueError(f"{what} must be one of {', '.join(values)}, got {value!r}")
    return value
