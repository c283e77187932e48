"""The report about one image: frozen dataclasses, and their JSON (schema 2, `edgeparse/report.schema.json`)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from edgeparse.provenance import Conclusion, Evidence

Verdict = Literal["camera", "generated", "inconclusive"]
# Why a verdict is inconclusive without a probability.
Reason = Literal["no photographic content"]

SCHEMA = 2


@dataclass(frozen=True)
class ImageInfo:
    """Size in pixels, upright according to EXIF, and the file format (None for arrays)."""

    width: int
    height: int
    format: str | None


@dataclass(frozen=True)
class Candidate:
    """A known generator.

    Attributes:
        name: the generator's name.
        score: cosine similarity, -1 to 1; of a closed set of generators, a probability.
        threshold: score from which the generator is named.
    """

    name: str
    score: float
    threshold: float


@dataclass(frozen=True)
class GeneratorAnswer:
    """Attribution to a known generator.

    Attributes:
        name: the first candidate's name if its score reaches its threshold, else None.
        known: whether `name` is set.
        score: the first candidate's score.
        candidates: known generators, best first.
    """

    name: str | None
    known: bool
    score: float
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True)
class FamilyAnswer:
    """The most probable generator family, and the probability of each family."""

    name: str
    probabilities: dict[str, float]


@dataclass(frozen=True)
class Interval:
    """An estimated count and its 80% interval."""

    value: int
    low: int
    high: int


@dataclass(frozen=True)
class Choice:
    """The most probable value of a discrete parameter, and its probability."""

    value: str
    probability: float


@dataclass(frozen=True)
class Failure:
    """Why an image has no answer; `kind` is one of `ImageError.KINDS`."""

    kind: str
    message: str


@dataclass(frozen=True)
class Timing:
    """Milliseconds for reading and cutting windows, for the network, and in total."""

    read: float
    infer: float
    total: float


@dataclass(frozen=True)
class Report:
    """The answers about one image.

    The pixels alone decide `verdict` and `probability_generated`. `evidence` is what the file says about its origin, or None if it
    was not read. `conclusion` reads both together by the rules in docs/provenance.md.

    An image without photographic content (flat, text, charts, noise) is "inconclusive" with a `reason`, without a probability and without
    answers about a generator.

    If `status` is "error", `error` is set and all answers of the network are None; a file that cannot be decoded may still have
    evidence. If the verdict is "camera", the answers about a
    generator are None. Answers that the bundle has no output for are None; so is the family, and parameters and losses are
    left out, if the bundle does not predict them better than a constant.
    """

    source: str | None
    status: Literal["ok", "error"]
    error: Failure | None
    image: ImageInfo | None
    verdict: Verdict | None
    probability_generated: float | None
    reason: Reason | None
    generator: GeneratorAnswer | None
    family: FamilyAnswer | None
    architecture: dict[str, Interval | Choice] | None
    losses: dict[str, float] | None
    windows: int | None
    backend: str
    bundle: str
    timing_ms: Timing | None
    evidence: Evidence | None = None
    conclusion: Conclusion | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the JSON contract as plain dicts, lists, strings and numbers."""
        return {"schema": SCHEMA} | {key: plain(value) for key, value in asdict(self).items()}


def plain(value: Any) -> Any:
    """Convert a value to JSON types: tuples become lists, floats are rounded to four decimals."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return round(value, 4) if isinstance(value, float) else value
