"""What is compiled for a device, read from TOML."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from edgeparse.backends.tensorrt.build import BuildConfig
from edgeparse.backends.tensorrt.engine_cache import parse_batches
from edgeparse.backends.tensorrt.library import LIBRARIES

# A recipe's name becomes a folder's, and a word of a shell script.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
FOLDER = Path(__file__).parent / "recipes"


class RecipeError(ValueError):
    """A recipe is missing, or says what cannot be."""


@dataclass(frozen=True)
class Recipe:
    """One device. `versions` are those of the flavour's library that it is meant for, `jetpack` those of JetPack that bring it."""

    name: str
    device: str
    flavour: str
    versions: SpecifierSet
    capability: str
    precision: str
    batches: tuple[int, int, int]
    workspace_mib: int | None
    dla: int | None
    jetpack: str | None
    note: str

    @property
    def ahead(self) -> bool:
        """Whether its engine compiles on a machine without that GPU."""
        return self.capability in LIBRARIES[self.flavour].capabilities

    @property
    def needs(self) -> str:
        """What the device has to have, in words."""
        library = f"{self.flavour} {self.versions}"
        return f"{library}, JetPack {self.jetpack}" if self.jetpack else library

    def order(self) -> BuildConfig:
        """What to compile."""
        return BuildConfig(
            library=self.flavour,
            precision=self.precision,
            batches=self.batches,
            capabilities=(self.capability,) if self.ahead else (),
            workspace=self.workspace_mib,
            dla=self.dla,
        )

    def command(self) -> list[str]:
        """What compiles it on the device."""
        words = ["edgeparse", "build", "--backend", self.flavour, "--precision", self.precision]
        words += ["--batch", ",".join(map(str, self.batches))]
        if self.workspace_mib is not None:
            words += ["--workspace", str(self.workspace_mib)]
        if self.dla is not None:
            words += ["--dla", str(self.dla)]
        return words


def names() -> list[str]:
    """Every recipe that comes with this package."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(name: str) -> Recipe:
    """A recipe by its name, or from a file of one's own (a path that ends in .toml).

    Raises:
        RecipeError: there is none, or it is not as expected; the message says which field.
    """
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    if not NAME.fullmatch(path.stem):
        raise RecipeError(f"{path.stem!r} is no name for a recipe; take letters, digits, dots, dashes and underscores")
    try:
        data = tomllib.loads(path.read_text())
    except OSError as error:
        raise RecipeError(
            f"there is no recipe {name}; choose from {', '.join(names())}, or name a .toml file"
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{path} is not TOML: {error}") from error
    known = {field.name for field in fields(Recipe)} - {"name"}
    if unknown := sorted(data.keys() - known):
        raise RecipeError(f"{path} has {', '.join(unknown)}; a recipe knows {', '.join(sorted(known))}")
    for key, value in data.items():
        if isinstance(value, str) and not value.isprintable():
            raise RecipeError(f"{path}: {key} is not printable on one line")
    for key in ("device", "note", "jetpack"):
        if not isinstance(data.get(key, ""), str):
            raise RecipeError(f"{path}: {key} is {data[key]!r}, a string was expected")
    try:
        recipe = Recipe(
            name=path.stem,
            device=data["device"],
            flavour=data["flavour"],
            versions=SpecifierSet(data["versions"]),
            capability=data["capability"],
            precision=data["precision"],
            batches=parse_batches(",".join(map(str, data["batches"]))),
            workspace_mib=data.get("workspace_mib"),
            dla=data.get("dla"),
            jetpack=data.get("jetpack"),
            note=data["note"],
        )
    except KeyError as error:
        raise RecipeError(f"{path} lacks {error}") from error
    except (TypeError, ValueError, InvalidSpecifier) as error:
        raise RecipeError(f"{path}: {error}") from error
    if recipe.flavour not in LIBRARIES:
        raise RecipeError(f"{path}: there is no flavour {recipe.flavour!r}; choose from {', '.join(LIBRARIES)}")
    if recipe.precision not in ("fp32", "fp16", "int8"):
        raise RecipeError(f"{path}: there is no precision {recipe.precision!r}; choose from fp32, fp16, int8")
    return recipe
