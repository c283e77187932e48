"""Public pictures of a data folder: who published them, which role they play, and which fold leaves them out.

The folder holds `index.csv`, one row per picture, and the files that it names. `public_sets.csv` beside this module gives the role,
category and lineage of every set. Folds leave out whole owners, so that training sees no set of an owner that it is tested on.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

FOLDS = 5
TEST_FOLD, VAL_FOLD = 0, 1
# A set of this many pictures can be named by attribution; a fraction of its pictures is kept out of training to test that.
MIN_NAMED, HELD_OUT_FRACTION = 20, 0.2
# Sets that default-18 was trained or validated on. Training starts from its weights, so these sets can neither validate nor test.
SEEN_BY_INITIAL_WEIGHTS = frozenset(
    {
        *("bsds500", "cq100", "imagenet1k", "urban100"),
        *("pix2pix-real_B-facades_label2photo", "pix2pix-real_B-map2sat"),
        *("cyclegan-h2z-base", "cyclegan-h2z-finetune", "pix2pix-facades_label2photo", "pix2pix-map2sat"),
        *("disco-diffusion", "glid-3-xl", "latent-diffusion", "majesty-diffusion", "stability-beta-jul2022"),
        *("sd1", "sd1-384px", "sd1-customdiffusion", "taef2-reconstruction"),
    }
)
ROLES = ("camera", "generated", "partly_generated", "processed", "zoo")
_TABLE = Path(__file__).with_name("public_sets.csv")
# Owners of sets whose rows state no source.
_OLD_OWNERS = {
    **dict.fromkeys(("cyclegan-h2z-base", "cyclegan-h2z-finetune"), "blechn"),
    **dict.fromkeys(("pix2pix-facades_label2photo", "pix2pix-map2sat"), "mminerva"),
    **dict.fromkeys(("pix2pix-real_B-facades_label2photo", "pix2pix-real_B-map2sat"), "mminerva"),
    **dict.fromkeys(("dalle-mini", "disco-diffusion", "glid-3-xl", "latent-diffusion", "majesty-diffusion"), "dcsan"),
    "stability-beta-jul2022": "dcsan",
}


# Licences of sets whose rows state none.
_OLD_LICENCES = {
    **dict.fromkeys(("bsds500", "imagenet1k", "urban100"), "non-commercial research"),
    **dict.fromkeys(("ldm-fourier", "sd3.5-large"), "MIT"),
    "cq100": "CC BY-SA 4.0",
    "dreambooth_unsplash": "CC BY 4.0",
}


@dataclass(frozen=True)
class PictureSet:
    """One row of `public_sets.csv`, or a generator of the zoo.

    Attributes:
        name: name of the set.
        role: `camera`, `generated`, `partly_generated` (in-painted), `processed` (restored or enlarged by a network), or `zoo`. Detection
            is tested on the first two, and trained on them and the zoo.
        category: kind of photo, or the generator's task.
        lineage: architecture of the generator's last stage, which several generators may share; empty if unknown.
    """

    name: str
    role: str
    category: str
    lineage: str

    @property
    def mixed(self) -> bool:
        """Whether several generators made the pictures, so that the set is no label for attribution."""
        return "mixed" in self.name


@dataclass(frozen=True)
class PublicPicture:
    """One file of the data folder.

    Attributes:
        file: path relative to the folder.
        set: the set that it belongs to.
        owner: account or package that published the set.
        jpeg: whether the file is a JPEG; all others are lossless.
        twin: file of the photo that the picture was made from, or None.
        x, y: the photo's pixel at which the picture's top left corner lies.
        source: account and repository, or package, that published it.
        licence: what is known of the licence, as `index.csv` states it.
    """

    file: str
    set: PictureSet
    owner: str
    jpeg: bool
    twin: str | None = None
    x: int = 0
    y: int = 0
    source: str = ""
    licence: str = ""


@dataclass(frozen=True)
class Split:
    """Pictures by use. `known` are pictures of training generators that only attribution is tested on."""

    train: list[PublicPicture]
    val: list[PublicPicture]
    test: list[PublicPicture]
    known: list[PublicPicture]


def read_sets() -> dict[str, PictureSet]:
    """Return the rows of `public_sets.csv` by name."""
    with _TABLE.open(newline="") as file:
        return {
            row["set"]: PictureSet(row["set"], row["role"], row["category"], row["lineage"])
            for row in csv.DictReader(file)
        }


def read_pictures(folder: Path) -> list[PublicPicture]:
    """Return every picture of a data folder, in the order of `index.csv`.

    Raises:
        ValueError: `index.csv` names a set that `public_sets.csv` does not have.
    """
    sets = read_sets()
    pictures = []
    with (folder / "index.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            name = row["set"]
            if name not in sets:
                raise ValueError(
                    f"set must be a row of {_TABLE.name}, got {name!r}; add its role, category and lineage"
                )
            # Older rows name the twin in the encoding.
            _, _, named = row["encoding"].partition("camera twin: ")
            pictures.append(
                PublicPicture(
                    file=row["file"],
                    set=sets[name],
                    owner=owner_of(name, row["source"]),
                    jpeg=row["encoding"].startswith("JPEG"),
                    twin=row["twin"] or named or None,
                    x=int(row["x"] or 0),
                    y=int(row["y"] or 0),
                    source=row["source"],
                    licence=row.get("licence") or _OLD_LICENCES.get(name, ""),
                )
            )
    return pictures


def may_redistribute(licence: str) -> bool:
    """Return whether a statement names a licence of the pictures that clearly allows redistribution."""
    return (
        re.fullmatch(r"public domain|CC0( 1\.0)?|CC BY(-SA)? \d\.\d|MIT|Apache-2\.0", licence, re.IGNORECASE)
        is not None
    )


def owner_of(name: str, source: str) -> str:
    """Return who published a set.

    Args:
        name: name of the set, which stands in where nothing else is known.
        source: `account/repository`, `PyPI package ...`, `github account/repository ...`, `npm package ...`, or empty.
    """
    if not source:
        return _OLD_OWNERS.get(name, name)
    if source.startswith("PyPI "):
        return source.split()[1].rstrip(",")
    if source.startswith(("github ", "npm ")):
        return source.split()[1].split("/")[0]
    return source.split("/")[0]


def folds_of(pictures: Sequence[PublicPicture]) -> dict[str, int]:
    """Return the fold of every owner.

    Owners are dealt largest first to the fold that has least of their category, counted by the square root of set sizes as the sampler
    does. ImageNet, a sixth of all photos, and the sets behind the initial weights never fall into the test or validation fold.
    """
    sizes: dict[str, Counter[str]] = defaultdict(Counter)
    categories: dict[str, Counter[str]] = defaultdict(Counter)
    for picture in pictures:
        sizes[picture.owner][picture.set.name] += 1
        categories[picture.owner][f"{picture.set.role}/{picture.set.category}"] += 1
    weight = {owner: sum(n**0.5 for n in counts.values()) for owner, counts in sizes.items()}
    load: dict[tuple[str, int], float] = defaultdict(float)
    folds: dict[str, int] = {}
    for owner in sorted(weight, key=lambda name: (-weight[name], name)):
        category = max(sorted(categories[owner]), key=lambda name: categories[owner][name])
        role = category.partition("/")[0]
        seen = not SEEN_BY_INITIAL_WEIGHTS.isdisjoint(sizes[owner])
        allowed = [FOLDS - 1] if owner == "imagenet1k" else range(2 if seen else 0, FOLDS)
        fold = min(allowed, key=lambda i: (load[category, i], load[role, i], load["", i], -i))
        folds[owner] = fold
        for key in (category, role, ""):
            load[key, fold] += weight[owner]
    return folds


def split_of_fold(fold: int) -> str:
    """Return `test`, `val` or `train`."""
    return {TEST_FOLD: "test", VAL_FOLD: "val"}.get(fold, "train")


def split(pictures: Sequence[PublicPicture], *, test_fold: int = TEST_FOLD, val_fold: int | None = VAL_FOLD) -> Split:
    """Split pictures by the folds of their owners.

    A picture made from a photo of a held fold is not trained on. Without a validation fold, training takes four fifths of the owners.
    """
    folds = folds_of(pictures)
    fold = {picture.file: folds[picture.owner] for picture in pictures}
    held = {test_fold, val_fold}
    kept_out = held_out(pictures)
    parts = Split([], [], [], [])
    for picture in pictures:
        if fold[picture.file] == test_fold:
            parts.test.append(picture)
        elif fold[picture.file] == val_fold:
            parts.val.append(picture)
        elif picture.file in kept_out:
            parts.known.append(picture)
        elif picture.twin is None or fold.get(picture.twin) not in held:
            parts.train.append(picture)
    return parts


def held_out(pictures: Sequence[PublicPicture]) -> frozenset[str]:
    """Return the files, chosen by hash, on which attribution among known generators is tested: a fraction of each large set."""
    count = Counter(picture.set.name for picture in pictures)
    return frozenset(
        picture.file
        for picture in pictures
        if picture.set.role == "generated"
        and count[picture.set.name] >= MIN_NAMED
        and int.from_bytes(hashlib.sha256(picture.file.encode()).digest()[:8], "big") < HELD_OUT_FRACTION * 2**64
    )
