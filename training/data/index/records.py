"""An index's lines and what must hold of them; no pixel is read here."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from training.data.augment import Jpeg
from training.data.dataset import Generator
from training.labels import CONTINUOUS, DISCRETE, FAMILIES, LOSSES, Labels

SPLITS = ("train", "val", "test")
AGAIN = "write the index again with `python -m training index write DATA ZOO INDEX`"


class Place(NamedTuple):
    """Where a picture is: a file, and its number where the file holds several."""

    file: Path
    number: int | None = None

    @staticmethod
    def parse(text: str, folder: Path) -> Place:
        """Of an index in `folder`."""
        several = re.fullmatch(r"(.+\.npz)#(\d+)", text)
        return Place(folder / several[1], int(several[2])) if several else Place(folder / text)

    def text(self, folder: Path) -> str:
        """For an index in `folder`: relative where the file lies below it, so that both can be moved together, else absolute."""
        file = self.file.resolve()
        path = file.relative_to(folder) if file.is_relative_to(folder) else file
        return path.as_posix() if self.number is None else f"{path.as_posix()}#{self.number}"


@dataclass(frozen=True)
class Entry:
    """One picture; the fields are those of its line."""

    place: Place
    source: str
    split: str
    group: str | None
    twin: Place | None
    made: bool
    jpeg: Jpeg | None = None


@dataclass(frozen=True)
class Index:
    """Sources by their key, and pictures, both in the order of the file."""

    sources: dict[str, Generator]
    entries: list[Entry]


def source_key(source: Generator) -> str:
    """What pictures name their source by: a photo set may be in the data folder and, as crops, in the zoo."""
    return f"zoo/{source.name}" if source.zoo else source.name


def write(index: Index, path: Path) -> None:
    """Write `path`, whole or not at all."""
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
    """Read an index.

    Raises:
        ValueError: a line is not what it should be; the message says which, and what to do.
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
                    _take_source(fields, index)
                    continue
                entry = _entry(fields, index, folder)
            except KeyError as error:
                raise _fault(path, number, f"there is no {error}") from error
            except (TypeError, ValueError) as error:
                raise _fault(path, number, str(error)) from error
            index.entries.append(entry)
            if index.sources[entry.source].labels is None:
                cameras.add(entry.place)
            if entry.twin is not None:
                twins.setdefault(entry.twin, number)
    for twin, number in twins.items():
        if twin not in cameras:
            raise _fault(path, number, f"the twin {twin.text(folder)} is no camera picture of this index")
    return index


def _fault(path: Path, number: int, what: str) -> ValueError:
    return ValueError(f"{path}, line {number}: {what}; correct the line, or {AGAIN}")


def _take_source(fields: dict, index: Index) -> None:
    key, kind = fields["source"], _one_of("kind", fields["kind"], ("camera", "generated"))
    if key in index.sources:
        raise ValueError(f"the source {key} has a line already")
    labels = None if kind == "camera" else _labels(fields.get("family"), fields.get("labels") or {})
    split = _one_of("split", fields["split"], SPLITS)
    index.sources[key] = Generator(fields["name"], labels, bool(fields["zoo"]), split)


def _labels(family: str | None, known: dict) -> Labels:
    """Labels, of which each must be one that the networks know: a misspelt one would pass for unknown."""
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


def _entry(fields: dict, index: Index, folder: Path) -> Entry:
    if fields["source"] not in index.sources:
        raise ValueError(f"unknown source {fields['source']}: no line before this one describes it")
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
        raise ValueError(f"jpeg [{quality}, {subsampling}] is no quality from 1 to 100 and subsampling 0, 1 or 2")
    return Jpeg(quality, subsampling)


def _one_of(what: str, value: str, values: tuple[str, ...]) -> str:
    if value not in values:
        raise ValueError(f"{what} {value!r} is none of {', '.join(values)}")
    return value
