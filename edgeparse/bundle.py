"""A model bundle on disk: a folder with `bundle.json` and the files that it vouches for by SHA-256.

Nothing in a bundle can run code: JSON, ONNX, and NumPy archives read without pickle.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeparse.errors import BundleError

SCHEMA = 1
FRAMINGS = ("windows", "resize")
MAX_MANIFEST_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class Parameter:
    """One continuous architecture parameter and how it is scaled: `f(value) = f(low) + scaled * (f(high) - f(low))`,
    `f` = log1p where `log`, else identity. `half_width` is the interval's, in scaled units; `reported` whether the
    network beats the training median on generators it has never seen."""

    name: str
    low: float
    high: float
    log: bool
    unit: str
    half_width: float
    reported: bool

    def value(self, scaled: float) -> int:
        """Scaled to the parameter's unit, a count, kept within its range."""
        scaled = min(1.0, max(0.0, scaled))
        if self.log:
            begin, end = math.log1p(self.low), math.log1p(self.high)
            return round(math.expm1(begin + scaled * (end - begin)))
        return round(self.low + scaled * (self.high - self.low))

    def scaled(self, value: float) -> float:
        """The place of a value on the range, 0 to 1."""
        low, high, value = (math.log1p(x) if self.log else x for x in (self.low, self.high, value))
        return min(1.0, max(0.0, (value - low) / (high - low)))


@dataclass(frozen=True)
class Discrete:
    """One discrete architecture parameter: its values in the order of the network's logits."""

    name: str
    values: tuple[str, ...]
    reported: bool


@dataclass(frozen=True)
class Loss:
    """One loss type; `threshold` is the probability above which it is said to have been used."""

    name: str
    threshold: float
    reported: bool


@dataclass(frozen=True)
class Calibration:
    """probability = sigmoid(scale * logit + bias); below `camera` it is a camera's, from `generated` on a generator's, between them
    inconclusive. `known` is the similarity from which a generator of the bundle's gallery is named. From `enrolled` on, and
    `enrolled_share` of the similarity that is usual for the picture (`gallery.usual`), one is that the user enrolled: training drew the
    bundle's own apart, so strangers lie farther from them. None in older bundles, as `known`."""

    scale: float
    bias: float
    camera: float
    generated: float
    known: float
    enrolled: float | None = None
    enrolled_share: float = 0.0

    def needed(self, enrolled: bool, usual: float) -> float:
        """The similarity from which a generator is named, by whose it is and by what is `usual` for the picture."""
        return self.known if not enrolled or self.enrolled is None else self.enrolled + self.enrolled_share * usual


@dataclass(frozen=True)
class SameGenerator:
    """How alike two pictures of one generator are: probability = sigmoid(scale * cosine + bias), where a pair of one generator and a
    pair of two are equally likely beforehand. From `threshold`, a probability, a pair is said to be of one generator."""

    scale: float
    bias: float
    threshold: float


@dataclass(frozen=True)
class Bundle:
    """An opened bundle whose manifest was checked; each file's hash is checked when it is read.

    `outputs` says what the bundle can answer: what needs an output that it lacks is None in a report. `calibration` is None where it
    does not tell camera from generated. `framing` is "windows" (pieces at native resolution) or "resize" (the whole picture, shrunk,
    as the published networks were trained). `attribution` names the classes of an output of that name, "camera" among them.
    """

    folder: Path
    name: str
    version: str
    sha256: str
    window: int
    framing: str
    outputs: tuple[str, ...]
    variants: dict[str, str]
    default_variant: str
    families: tuple[str, ...]
    family_reported: bool
    continuous: tuple[Parameter, ...]
    discrete: tuple[Discrete, ...]
    losses: tuple[Loss, ...]
    attribution: tuple[str, ...]
    calibration: Calibration | None
    same: SameGenerator | None
    gallery: str | None
    hashes: dict[str, str]
    metrics: dict[str, Any]

    @property
    def label(self) -> str:
        """What a report calls it."""
        return f"{self.name}-{self.version}"

    @property
    def network(self) -> str:
        """SHA-256 of the network in fp32: what embeddings of two bundles must share to be comparable, whatever precision ran."""
        return self.hashes[self.variants.get("fp32", self.variants[self.default_variant])]

    def read(self, file: str) -> bytes:
        """A file's bytes, after its hash was compared. The caller uses these bytes, so that nothing can be exchanged in between.

        Raises:
            BundleError: the manifest does not list it, it is missing, or it is not the file that was hashed.
        """
        if file not in self.hashes:
            raise BundleError(f"{self.folder / file} is not listed in bundle.json; export the bundle again")
        try:
            data = (self.folder / file).read_bytes()
        except OSError as error:
            raise BundleError(f"{self.folder / file} cannot be read: {error.strerror or error}") from error
        digest = hashlib.sha256(data).hexdigest()
        if digest != self.hashes[file]:
            raise BundleError(
                f"{self.folder / file} has SHA-256 {digest[:12]}..., its manifest says {self.hashes[file][:12]}...; "
                "it was changed or damaged: install or export the bundle again"
            )
        return data

    def model(self, variant: str | None = None) -> bytes:
        """The ONNX file of a precision, by default the bundle's own choice.

        Raises:
            BundleError: there is none of that precision, or its hash is wrong.
        """
        wanted = variant or self.default_variant
        if wanted not in self.variants:
            raise BundleError(f"bundle {self.label} has no {wanted} model; it has {', '.join(self.variants)}")
        return self.read(self.variants[wanted])


def default_folder() -> Path:
    """Where the wheel keeps the default bundle."""
    return Path(__file__).parent / "models" / "default"


def open_bundle(folder: Path | str | None = None) -> Bundle:
    """Open a bundle, by default the one that came with the package.

    Raises:
        BundleError: no manifest, not JSON, another schema, or a field that is missing or of another kind.
    """
    place = Path(folder) if folder is not None else default_folder()
    manifest = place / "bundle.json"
    try:
        with manifest.open("rb") as file:
            data = file.read(MAX_MANIFEST_BYTES + 1)
    except OSError as error:
        raise BundleError(
            f"{manifest} cannot be read ({error.strerror or error}); name a folder made by `python -m export bundle`"
        ) from error
    if len(data) > MAX_MANIFEST_BYTES:
        raise BundleError(
            f"{manifest} is larger than {MAX_MANIFEST_BYTES // 2**20} MiB; this is not a bundle's manifest"
        )
    try:
        fields = json.loads(data)
    except ValueError as error:
        raise BundleError(f"{manifest} is not JSON: {error}") from error
    schema = fields.get("schema") if isinstance(fields, dict) else None
    if schema != SCHEMA:
        raise BundleError(
            f"{manifest} has schema {schema!r}, this edgeparse reads schema {SCHEMA}; use the edgeparse that it was made for"
        )
    try:
        return _parse(place, fields, hashlib.sha256(data).hexdigest())
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BundleError(
            f"{manifest} lacks something or holds it in another form: {error!r}; export the bundle again"
        ) from error


def _parse(folder: Path, fields: dict[str, Any], sha256: str) -> Bundle:
    hashes = {name: str(entry["sha256"]) for name, entry in fields["files"].items()}
    for name in hashes:
        if Path(name).name != name:
            raise ValueError(f"file name {name!r} leads out of the folder")
    for variant, file in fields["variants"].items():
        if file not in hashes:
            raise ValueError(f"variant {variant!r} is the file {file!r}, which `files` does not list")
    if fields["default_variant"] not in fields["variants"]:
        raise ValueError(f"default_variant {fields['default_variant']!r} is none of {', '.join(fields['variants'])}")
    labels = fields["labels"]
    framing = fields.get("framing", "windows")
    if framing not in FRAMINGS:
        raise ValueError(f"framing {framing!r} is none of {', '.join(FRAMINGS)}")
    if "attribution" in fields["outputs"] and "camera" not in labels["attribution"]:
        raise ValueError("labels.attribution has no class named camera")
    # `same` is optional, so that bundles made before pictures could be compared still open.
    calibration = None if fields["calibration"] is None else dict(fields["calibration"])
    same = None if calibration is None else calibration.pop("same", None)
    for numbers in (calibration or {}, same or {}):
        for name, value in numbers.items():
            if not math.isfinite(value):
                raise ValueError(f"calibration has {name} {value!r}")
    if same is not None and not (same["scale"] != 0 and 0 < same["threshold"] < 1):
        raise ValueError(f"calibration.same has scale {same['scale']!r} and threshold {same['threshold']!r}")
    return Bundle(
        folder=folder,
        name=str(fields["name"]),
        version=str(fields["version"]),
        sha256=sha256,
        window=int(fields["window"]),
        framing=framing,
        outputs=tuple(fields["outputs"]),
        variants={str(k): str(v) for k, v in fields["variants"].items()},
        default_variant=str(fields["default_variant"]),
        families=tuple(labels["family"]),
        family_reported=bool(labels["family_reported"]),
        continuous=tuple(Parameter(**entry) for entry in labels["continuous"]),
        discrete=tuple(Discrete(e["name"], tuple(e["values"]), e["reported"]) for e in labels["discrete"]),
        losses=tuple(Loss(**entry) for entry in labels["losses"]),
        attribution=tuple(labels.get("attribution", ())),
        calibration=None if calibration is None else Calibration(**calibration),
        same=None if same is None else SameGenerator(**same),
        gallery=fields.get("gallery"),
        hashes=hashes,
        metrics=fields["metrics"],
    )
