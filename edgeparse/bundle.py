"""A model bundle on disk: a folder with `bundle.json` and the files that it vouches for by SHA-256.

Nothing in a bundle can run code: JSON, ONNX, and NumPy archives read without pickle. What is wrong in a manifest is said when it is
opened, and its names can be printed anywhere.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import re
import reprlib
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeparse.errors import BundleError
from edgeparse.text import is_name

SCHEMA = 1
FRAMINGS = ("windows", "resize")
MAX_MANIFEST_BYTES = 4 * 1024 * 1024
# No ONNX file is larger: protobuf reads none.
MAX_FILE_BYTES = 2**31
# The smallest and the largest side of a window, in pixels: smaller ones have no texture to choose by, and of larger ones the most windows
# that a parser looks at would fill the memory of a small device.
MIN_WINDOW, MAX_WINDOW = 16, 1024


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
    does not tell camera from generated. `tf32` names the variants whose answers stay what they are where a GPU reads their float32 with
    eleven significant bits. `framing` is "windows" (pieces at native resolution) or "resize" (the whole picture, shrunk,
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
    tf32: frozenset[str]
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
    sizes: dict[str, int]
    metrics: dict[str, Any]

    @property
    def label(self) -> str:
        """What a report calls it."""
        return f"{self.name}-{self.version}"

    @property
    def network(self) -> str:
        """SHA-256 of the network in fp32: what embeddings of two bundles must share to be comparable, whatever precision ran."""
        return self.hashes[self.variants.get("fp32", self.variants[self.default_variant])]

    def must_fit(self, shapes: Mapping[str, tuple[int | None, ...]], embedding: int | None) -> None:
        """That a network takes this bundle's windows and gives what its labels speak of; `shapes` as `backends.base.Shaped` tells them,
        `embedding` how many numbers the gallery's vectors have, None where there are none.

        Raises:
            BundleError: it lacks an output, or has one of another shape.
        """
        side = self.window
        # None is any width: of an output that no label names there is nothing to say.
        widths: dict[str, int | None] = dict.fromkeys(self.outputs)
        widths |= {
            "generated": 1,
            "embedding": embedding,
            "family": len(self.families),
            "continuous": len(self.continuous),
            "losses": len(self.losses),
            "attribution": len(self.attribution),
            **{discrete.name: len(discrete.values) for discrete in self.discrete},
        }
        wanted: dict[str, tuple[int | None, ...]] = {name: (widths[name],) for name in self.outputs}
        if "fingerprint" in wanted:
            wanted["fingerprint"] = (3, side, side)
        for name, shape in {**wanted, "windows": (side, side, 3)}.items():
            if name not in shapes:
                raise BundleError(
                    f"the model of bundle {self.label} has no {name}, only {list(shapes)}; export the bundle again"
                )
            got = shapes[name]
            if len(got) != len(shape) or any(each not in (None, has) for each, has in zip(shape, got, strict=True)):
                raise BundleError(
                    f"the model of bundle {self.label} has {name} in the shape {_shown(got)}, its manifest is for {_shown(shape)}; "
                    "export the bundle again"
                )

    def read(self, file: str) -> bytes:
        """A file's bytes, after its hash was compared. The caller uses these bytes, so that nothing can be exchanged in between.

        Raises:
            BundleError: the manifest does not list it, it is missing, or it is not the file that was hashed.
        """
        if file not in self.hashes:
            raise BundleError(f"{self.folder / file} is not listed in bundle.json; export the bundle again")
        try:
            data = _bytes(self.folder / file, self.sizes[file])
        except OSError as error:
            raise BundleError(f"{self.folder / file} cannot be read: {error.strerror or error}") from error
        if len(data) > self.sizes[file]:
            raise BundleError(
                f"{self.folder / file} has more than the {self.sizes[file]} bytes of its manifest; it was changed or damaged: install or "
                "export the bundle again"
            )
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
        data = _bytes(manifest, MAX_MANIFEST_BYTES)
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
    except RecursionError as error:
        raise BundleError(f"{manifest} is nested too deeply; this is not a bundle's manifest") from error
    schema = fields.get("schema") if isinstance(fields, dict) else None
    if schema != SCHEMA:
        raise BundleError(
            f"{manifest} has schema {reprlib.repr(schema)}, this edgeparse reads schema {SCHEMA}; use the edgeparse that it was made for"
        )
    try:
        return _parse(place, fields, hashlib.sha256(data).hexdigest())
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = str(error) if isinstance(error, ValueError) else repr(error)
        raise BundleError(
            f"{manifest} lacks something or holds it in another form: {what}; export the bundle again"
        ) from error


def _shown(shape: tuple[int | None, ...]) -> str:
    return f"[N, {', '.join('any' if side is None else str(side) for side in shape)}]"


def _bytes(path: Path, limit: int) -> bytes:
    """What is in a file, and of one that is larger than `limit` one byte more than that.

    Raises:
        OSError: it cannot be read, or is a device or pipe, which may never end.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError("it is no file")
    with path.open("rb") as file:
        # As much as is asked for is allocated first.
        return file.read(min(limit, status.st_size) + 1)


def _parse(folder: Path, fields: dict[str, Any], sha256: str) -> Bundle:
    files, variants, labels = fields["files"], fields["variants"], fields["labels"]
    hashes = {name: _sha256(entry["sha256"], f"files: {name!r}") for name, entry in files.items()}
    for name in hashes:
        if Path(_name(name, "files")).name != name:
            raise ValueError(f"file name {name!r} leads out of the folder")
    # `bytes` is optional, so that bundles open that others made before it was looked at.
    sizes = {
        name: _number(entry.get("bytes", MAX_FILE_BYTES), f"files: bytes of {name}", 0, MAX_FILE_BYTES, whole=True)
        for name, entry in files.items()
    }
    gallery = fields.get("gallery")
    for what, file in (*variants.items(), *([] if gallery is None else [("gallery", gallery)])):
        if not isinstance(file, str) or file not in hashes:
            raise ValueError(f"{what!r} is the file {reprlib.repr(file)}, which `files` does not list")
    _names(list(variants), "variants")
    if fields["default_variant"] not in variants:
        raise ValueError(f"default_variant {fields['default_variant']!r} is none of {', '.join(variants)}")
    tf32 = frozenset(_names(fields.get("tf32", []), "tf32"))
    if unknown := sorted(tf32 - variants.keys()):
        raise ValueError(f"tf32 names {', '.join(unknown)}, which variants does not")
    framing = fields.get("framing", "windows")
    if framing not in FRAMINGS:
        raise ValueError(f"framing {reprlib.repr(framing)} is none of {', '.join(FRAMINGS)}")
    if not isinstance(fields["metrics"], dict):
        raise ValueError(f"metrics is {reprlib.repr(fields['metrics'])}, and not by name")
    outputs = _names(fields["outputs"], "outputs")
    if not outputs:
        raise ValueError("outputs names nothing that the model computes")
    attribution = _names(labels.get("attribution", []), "labels.attribution")
    if "attribution" in outputs and not ("camera" in attribution and attribution[1:]):
        raise ValueError("labels.attribution has no class named camera, or no other")
    continuous, discrete, losses = _answers(labels)
    if continuous and "continuous" not in outputs and any(each.name in outputs for each in discrete):
        raise ValueError("labels.continuous has parameters, but outputs has no continuous")
    calibration, same = _calibrations(fields["calibration"])
    return Bundle(
        folder=folder,
        name=_name(str(fields["name"]), "name"),
        version=_name(str(fields["version"]), "version"),
        sha256=sha256,
        window=_number(fields["window"], "window", MIN_WINDOW, MAX_WINDOW, whole=True),
        framing=framing,
        outputs=outputs,
        variants=dict(variants),
        default_variant=fields["default_variant"],
        tf32=tf32,
        families=_names(labels["family"], "labels.family"),
        family_reported=bool(labels["family_reported"]),
        continuous=continuous,
        discrete=discrete,
        losses=losses,
        attribution=attribution,
        calibration=calibration,
        same=same,
        gallery=gallery,
        hashes=hashes,
        sizes=sizes,
        metrics=fields["metrics"],
    )


def _answers(labels: dict[str, Any]) -> tuple[tuple[Parameter, ...], tuple[Discrete, ...], tuple[Loss, ...]]:
    """What is answered of an unknown generator.

    Raises:
        KeyError, TypeError, ValueError: what is wrong.
    """
    continuous = tuple(Parameter(**entry) for entry in labels["continuous"])
    for parameter in continuous:
        _name(parameter.unit, f"the unit of {parameter.name!r}")
        for value in (parameter.low, parameter.high, parameter.half_width):
            _number(value, f"labels.continuous: a number of {parameter.name!r}", 0)
        if not parameter.low < parameter.high:
            raise ValueError(f"labels.continuous: {parameter.name!r} has the range {parameter.low} to {parameter.high}")
    discrete = tuple(
        Discrete(entry["name"], _names(entry["values"], "labels.discrete: values"), entry["reported"])
        for entry in labels["discrete"]
    )
    losses = tuple(Loss(**entry) for entry in labels["losses"])
    for loss in losses:
        _number(loss.threshold, f"labels.losses: the threshold of {loss.name!r}", 0, 1)
    names = [parameter.name for parameter in continuous] + [parameter.name for parameter in discrete]
    _names(names, "labels.continuous and labels.discrete")
    _names([loss.name for loss in losses], "labels.losses")
    return continuous, discrete, losses


def _calibrations(fields: dict[str, Any] | None) -> tuple[Calibration | None, SameGenerator | None]:
    """Both, None where there is none.

    Raises:
        TypeError, ValueError: what is wrong.
    """
    if fields is None:
        return None, None
    # `same` is optional, so that bundles made before pictures could be compared still open.
    numbers = dict(fields)
    same = numbers.pop("same", None)
    for each in (numbers, same or {}):
        for name, value in each.items():
            _number(value, f"calibration: {name!r}")
    if same is not None and not (same["scale"] != 0 and 0 < same["threshold"] < 1):
        raise ValueError(f"calibration.same has scale {same['scale']!r} and threshold {same['threshold']!r}")
    calibration = Calibration(**numbers)
    if not 0 <= calibration.camera <= calibration.generated <= 1:
        raise ValueError(
            f"calibration has the thresholds camera {calibration.camera!r} and generated {calibration.generated!r}, which are not "
            "in order between 0 and 1"
        )
    return calibration, None if same is None else SameGenerator(**same)


def _number(value: Any, what: str, low: float = -math.inf, high: float = math.inf, whole: bool = False) -> Any:
    """A number of a manifest, which may have any value in JSON.

    Raises:
        ValueError: it is none, not finite, or not from `low` to `high`.
    """
    wanted = int if whole else (int, float)
    with contextlib.suppress(OverflowError):  # a whole number of more digits than a float has
        if isinstance(value, wanted) and not isinstance(value, bool) and math.isfinite(value) and low <= value <= high:
            return value
    raise ValueError(
        f"{what} is {reprlib.repr(value)}, not a {'whole' if whole else 'finite'} number{_range(low, high)}"
    )


def _range(low: float, high: float) -> str:
    if math.isfinite(high):
        return f" from {low} to {high}"
    return f" from {low}" if math.isfinite(low) else ""


def _name(value: Any, what: str) -> str:
    """A text that steers no terminal that it is printed to.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(value, str) or not is_name(value):
        raise ValueError(f"{what} has {reprlib.repr(value)}, which is no name of printable characters")
    return value


def _names(values: Any, what: str) -> tuple[str, ...]:
    """Different names, in order.

    Raises:
        ValueError: it is no list of them.
    """
    if not isinstance(values, list):
        raise ValueError(f"{what} is {reprlib.repr(values)}, not a list of names")
    names = tuple(_name(value, what) for value in values)
    if len(set(names)) < len(names):
        raise ValueError(f"{what} has a name twice: {', '.join(names)}")
    return names


def _sha256(value: Any, what: str) -> str:
    if not isinstance(value, str) or not re.fullmatch("[0-9a-f]{64}", value):
        raise ValueError(f"{what} has the SHA-256 {reprlib.repr(value)}, not 64 hexadecimal digits")
    return value
