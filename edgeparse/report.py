"""The answer about one picture: frozen dataclasses, and their JSON (schema 1, `edgeparse/report.schema.json`)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Verdict = Literal["camera", "generated", "inconclusive"]

SCHEMA = 1


@dataclass(frozen=True)
class ImageInfo:
    """Size in pixels after the EXIF orientation, and the file's format (None for arrays)."""

    width: int
    height: int
    format: str | None


@dataclass(frozen=True)
class Candidate:
    """A known generator, its similarity, -1 to 1, or of a closed set its probability; and the score from which it is named."""

    name: str
    score: float
    needed: float


@dataclass(frozen=True)
class GeneratorAnswer:
    """Which known generator made the picture: the first of the candidates, of which `score` is, too. `name` is None and `known` False
    where that does not reach what it needs, and then none does."""

    name: str | None
    known: bool
    score: float
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True)
class FamilyAnswer:
    """The most probable family and the probability of each."""

    name: str
    probabilities: dict[str, float]


@dataclass(frozen=True)
class Interval:
    """An estimate and its 80% interval, in the parameter's own unit, all of which are counts."""

    value: int
    low: int
    high: int


@dataclass(frozen=True)
class Choice:
    """The most probable value of a discrete parameter and its probability."""

    value: str
    probability: float


@dataclass(frozen=True)
class Failure:
    """Why a picture has no answer. `kind` is one of `ImageError.KINDS`."""

    kind: str
    message: str


@dataclass(frozen=True)
class Timing:
    """Milliseconds spent on reading, on the network, and in all."""

    read: float
    infer: float
    total: float


@dataclass(frozen=True)
class Report:
    """Everything said about one picture. With `status` "error", `error` is set and the answers are None;
    with verdict `camera`, what is said of a generator is None. `family` is None, and parameters and losses are missing, too,
    where the bundle does not predict them better than a constant. What a bundle has no output for, the verdict too, is None."""

    source: str | None
    status: Literal["ok", "error"]
    error: Failure | None
    image: ImageInfo | None
    verdict: Verdict | None
    probability_generated: float | None
    generator: GeneratorAnswer | None
    family: FamilyAnswer | None
    architecture: dict[str, Interval | Choice] | None
    losses: dict[str, float] | None
    windows: int | None
    backend: str
    bundle: str
    timing_ms: Timing | None

    def to_json(self) -> dict[str, Any]:
        """The JSON contract, as plain dicts, lists, strings and numbers."""
        return {"schema": SCHEMA} | {key: plain(value) for key, value in asdict(self).items()}


def plain(value: Any) -> Any:
    """A value of a contract as JSON knows it: lists for tuples, four decimals for numbers."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return round(value, 4) if isinstance(value, float) else value
