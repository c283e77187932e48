"""Read from TOML what to compile for a device."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from edgeparse.backends.tensorrt.build import BuildConfig
from edgeparse.backends.tensorrt.engine_cache import parse_batches
from edgeparse.backends.tensorrt.library import LIBRARIES

# A recipe's name becomes a folder's name and a word of a shell script.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
FOLDER = Path(__file__).parent / "recipes"
PRECISIONS = ("fp32", "fp16", "int8")


class RecipeError(ValueError):
    """Raised for a missing or invalid recipe."""


@dataclass(frozen=True)
class Recipe:
    """One device.

    Attributes:
        name: The recipe's name.
        device: The device's name for people.
        flavour: "tensorrt" or "tensorrt-rtx".
        versions: Versions of that library.
        capability: The GPU's compute capability, such as "sm87".
        precision: "fp32", "fp16" or "int8".
        batches: Smallest, typical and largest batch.
        workspace_mib: Memory limit of the compiler in MiB.
        dla: The DLA core, if one is used.
        jetpack: JetPack versions that bring the library.
        note: What else a reader should know.
    """

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
    def compiles_ahead(self) -> bool:
        """Whether the engine compiles on a machine without that GPU."""
        return self.capability in LIBRARIES[self.flavour].capabilities

    @property
    def needs(self) -> str:
        """What the device must have, in words."""
        library = f"{self.flavour} {self.versions}"
        return f"{library}, JetPack {self.jetpack}" if self.jetpack else library

    def order(self) -> BuildConfig:
        """Return the compiler's settings."""
        return BuildConfig(
            library=self.flavour,
            precision=self.precision,
            batches=self.batches,
            capabilities=(self.capability,) if self.compiles_ahead else (),
            workspace=self.workspace_mib,
            dla=self.dla,
        )

    def command(self) -> list[str]:
        """Return the command that compiles the engine on the device."""
        words = ["edgeparse", "build", "--backend", self.flavour, "--precision", self.precision]
        words += ["--batch", ",".join(map(str, self.batches))]
        if self.workspace_mib is not None:
            words += ["--workspace", str(self.workspace_mib)]
        if self.dla is not None:
            words += ["--dla", str(self.dla)]
        return words


def names() -> list[str]:
    """Return the names of the recipes in this package."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(name: str) -> Recipe:
    """Load a recipe by name, or from a path that ends in .toml.

    Raises:
        RecipeError: The recipe is missing or invalid; the message names the field.
    """
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    if not NAME.fullmatch(path.stem):
        raise RecipeError(
            f"a recipe's name must have letters, digits, dots, dashes and underscores, got {path.stem!r}; rename the file"
        )
    fields_of_file = _read(path, name)
    try:
        recipe = Recipe(
            name=path.stem,
            device=fields_of_file["device"],
            flavour=fields_of_file["flavour"],
            versions=SpecifierSet(fields_of_file["versions"]),
            capability=fields_of_file["capability"],
            precision=fields_of_file["precision"],
            batches=parse_batches(",".join(map(str, fields_of_file["batches"]))),
            workspace_mib=fields_of_file.get("workspace_mib"),
            dla=fields_of_file.get("dla"),
            jetpack=fields_of_file.get("jetpack"),
            note=fields_of_file["note"],
        )
    except KeyError as error:
        raise RecipeError(f"{path} lacks {error}; add it") from error
    except (TypeError, ValueError, InvalidSpecifier) as error:
        raise RecipeError(f"{path}: {error}") from error
    if recipe.flavour not in LIBRARIES:
        raise RecipeError(f"{path}: flavour must be one of {', '.join(LIBRARIES)}, got {recipe.flavour!r}")
    if recipe.precision not in PRECISIONS:
        raise RecipeError(f"{path}: precision must be one of {', '.join(PRECISIONS)}, got {recipe.precision!r}")
    return recipe


def _read(path: Path, name: str) -> dict[str, Any]:
    """Read a recipe's fields and check their names and strings, which reach a shell script."""
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
        raise RecipeError(f"{path} has unknown fields {', '.join(unknown)}; choose from {', '.join(sorted(known))}")
    for key, value in data.items():
        if isinstance(value, str) and not value.isprintable():
            raise RecipeError(f"{path}: {key} must be printable on one line, got {value!r}")
    for key in ("device", "note", "jetpack"):
        if not isinstance(data.get(key, ""), str):
            raise RecipeError(f"{path}: {key} must be a string, got {data[key]!r}")
    return data
