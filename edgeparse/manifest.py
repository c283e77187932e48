"""The manifest of a bundle (`bundle.json`): its fields and their validation. docs/bundle-format.md describes the format."""

from __future__ import annotations

import contextlib
import json
import math
import re
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCHEMA = 2
FRAMINGS = ("windows", "resize")
# Protobuf cannot read larger ONNX files.
MAX_FILE_BYTES = 2**31
# Side of a window in pixels. Smaller windows have too little texture; many larger ones would exhaust a small device's memory.
MIN_WINDOW, MAX_WINDOW = 16, 1024


def is_name(text: str) -> bool:
    """Return whether a text is not blank and fits on one line of a terminal (printable characters only)."""
    return bool(text.strip()) and text.isprintable()


@dataclass(frozen=True)
class Parameter:
    """One continuous architecture parameter and its scaling.

    `f(value) = f(low) + scaled * (f(high) - f(low))`, where f is log1p if `log`, else the identity.

    Attributes:
        name: the parameter's name.
        low: smallest value of the range.
        high: largest value of the range.
        log: whether the scale is logarithmic.
        unit: what is counted.
        half_width: half of the 80% interval, in scaled units.
        reported: whether the network beats the training median on validation generators.
    """

    name: str
    low: float
    high: float
    log: bool
    unit: str
    half_width: float
    reported: bool

    def value(self, scaled: float) -> int:
        """Convert a scaled value (clipped to 0..1) to the parameter's unit, rounded to a count."""
        scaled = min(1.0, max(0.0, scaled))
        if self.log:
            first, last = math.log1p(self.low), math.log1p(self.high)
            return round(math.expm1(first + scaled * (last - first)))
        return round(self.low + scaled * (self.high - self.low))

    def scaled(self, value: float) -> float:
        """Convert a value in the parameter's unit to its position on the range, 0 to 1."""
        low, high, value = (math.log1p(x) if self.log else x for x in (self.low, self.high, value))
        return min(1.0, max(0.0, (value - low) / (high - low)))


@dataclass(frozen=True)
class Discrete:
    """One discrete architecture parameter; `values` follow the order of the network's logits."""

    name: str
    values: tuple[str, ...]
    reported: bool


@dataclass(frozen=True)
class Loss:
    """One training loss; it counts as used if its probability is at least `threshold`."""

    name: str
    threshold: float
    reported: bool


@dataclass(frozen=True)
class Calibration:
    """Calibration of detection, and the similarity thresholds for naming a generator.

    Attributes:
        scale: slope of the Platt scaling, probability = sigmoid(scale * logit + bias).
        bias: offset of the Platt scaling.
        camera: probability below which the verdict is "camera".
        generated: probability from which the verdict is "generated". Between the two it is "inconclusive".
        known: similarity from which a generator of the bundle's own gallery is named.
        enrolled: like `known`, for generators that the user enrolled. Training separated the bundle's own generators, so
            impostors lie closer to enrolled ones. None means `known`.
        cohort_weight: weight of the image's cohort similarity, added to `enrolled` (`gallery.cohort_similarity`).
    """

    scale: float
    bias: float
    camera: float
    generated: float
    known: float
    enrolled: float | None = None
    cohort_weight: float = 0.0

    def threshold(self, enrolled: bool, cohort_similarity: float) -> float:
        """Return the similarity from which a generator is named.

        Args:
            enrolled: whether the user enrolled the generator.
            cohort_similarity: the image's similarity to the cohort of training generators.
        """
        if not enrolled or self.enrolled is None:
            return self.known
        return self.enrolled + self.cohort_weight * cohort_similarity


@dataclass(frozen=True)
class SameGenerator:
    """Calibration of pairs: P(same generator) = sigmoid(scale * cosine + bias), at equal prior odds.

    A pair counts as made by one generator if the probability is at least `threshold`.
    """

    scale: float
    bias: float
    threshold: float


@dataclass(frozen=True)
class Manifest:
    """The validated fields of `bundle.json`.

    Attributes:
        name: name of the bundle.
        version: version of the bundle.
        window: side of a window in pixels.
        framing: "windows" (crops at native resolution) or "resize" (the whole image, resized, as published networks expect).
        outputs: names of the network's outputs. A report field whose output is missing is None.
        variants: file of each precision.
        default_variant: the precision that a CPU runs.
        tf32: variants whose outputs do not change if a GPU computes float32 in TF32.
        families: classes of the output `family`.
        family_reported: whether reports include the family.
        continuous: parameters of the output `continuous`.
        discrete: discrete parameters, one output each.
        losses: classes of the output `losses`.
        attribution: classes of the output `attribution`, including "camera".
        calibration: None if the bundle does not separate camera from generated.
        same: None if the bundle is not calibrated for comparing images.
        gallery: file of the known generators, or None.
        hashes: SHA-256 of each file.
        sizes: size of each file in bytes.
        metrics: figures on validation data.
    """

    name: str
    version: str
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


class SchemaError(ValueError):
    """The manifest has another schema number."""


def parse_manifest(data: bytes) -> Manifest:
    """Parse and validate the bytes of `bundle.json`.

    Raises:
        SchemaError: the manifest has another schema number.
        ValueError: the data is not JSON, or a field is missing or invalid.
    """
    try:
        fields = json.loads(data)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except ValueError as error:
        raise ValueError(f"it is not JSON: {error}") from error
    schema = fields.get("schema") if isinstance(fields, dict) else None
    if schema != SCHEMA:
        raise SchemaError(schema)
    try:
        return _manifest(fields)
    except KeyError as error:
        raise ValueError(f"the field {error} is missing") from error
    except (TypeError, AttributeError) as error:
        raise ValueError(f"a field has the wrong type: {str(error)!r}") from error


def _manifest(fields: dict[str, Any]) -> Manifest:
    hashes, sizes = _files(fields["files"])
    variants, labels = fields["variants"], fields["labels"]
    gallery = fields.get("gallery")
    _check_variants(fields, variants, gallery, hashes)
    framing = fields.get("framing", "windows")
    if framing not in FRAMINGS:
        raise ValueError(f"framing must be one of {', '.join(FRAMINGS)}, got {reprlib.repr(framing)}")
    if not isinstance(fields["metrics"], dict):
        raise ValueError(f"metrics must be an object, got {reprlib.repr(fields['metrics'])}")
    outputs = _names(fields["outputs"], "outputs")
    if not outputs:
        raise ValueError("outputs must name at least one output of the model")
    attribution = _names(labels.get("attribution", []), "labels.attribution")
    if "attribution" in outputs and not ("camera" in attribution and attribution[1:]):
        raise ValueError("labels.attribution must name the class camera and at least one generator")
    continuous, discrete, losses = _label_spaces(labels)
    if continuous and "continuous" not in outputs and any(each.name in outputs for each in discrete):
        raise ValueError("labels.continuous lists parameters, but outputs lacks continuous")
    calibration, same = _calibrations(fields["calibration"])
    return Manifest(
        name=_name(str(fields["name"]), "name"),
        version=_name(str(fields["version"]), "version"),
        window=_number(fields["window"], "window", MIN_WINDOW, MAX_WINDOW, whole=True),
        framing=framing,
        outputs=outputs,
        variants=dict(variants),
        default_variant=fields["default_variant"],
        tf32=frozenset(fields.get("tf32", [])),
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


def _files(entries: dict[str, Any]) -> tuple[dict[str, str], dict[str, int]]:
    """Return the SHA-256 and the size of each file, by name."""
    hashes = {name: _sha256(entry["sha256"], f"files: {name!r}") for name, entry in entries.items()}
    for name in hashes:
        if Path(_name(name, "files")).name != name:
            raise ValueError(f"files: {name!r} must be a file name without folders")
    # `bytes` is optional, so that bundles written by other tools open.
    sizes = {
        name: _number(entry.get("bytes", MAX_FILE_BYTES), f"files: bytes of {name}", 0, MAX_FILE_BYTES, whole=True)
        for name, entry in entries.items()
    }
    return hashes, sizes


def _check_variants(
    fields: dict[str, Any], variants: dict[str, Any], gallery: object, hashes: Mapping[str, str]
) -> None:
    for what, file in (*variants.items(), *([] if gallery is None else [("gallery", gallery)])):
        if not isinstance(file, str) or file not in hashes:
            raise ValueError(f"{what!r} names the file {reprlib.repr(file)}, which `files` does not list")
    names = _names(list(variants), "variants")
    if fields["default_variant"] not in variants:
        raise ValueError(f"default_variant must be one of {', '.join(names)}, got {fields['default_variant']!r}")
    if unknown := sorted(set(_names(fields.get("tf32", []), "tf32")) - set(names)):
        raise ValueError(f"tf32 names {', '.join(unknown)}, which `variants` does not list")


def _label_spaces(labels: dict[str, Any]) -> tuple[tuple[Parameter, ...], tuple[Discrete, ...], tuple[Loss, ...]]:
    """Return the continuous parameters, the discrete parameters and the losses."""
    continuous = tuple(Parameter(**entry) for entry in labels["continuous"])
    for parameter in continuous:
        _name(parameter.unit, f"the unit of {parameter.name!r}")
        for value in (parameter.low, parameter.high, parameter.half_width):
            _number(value, f"labels.continuous: a number of {parameter.name!r}", 0)
        if not parameter.low < parameter.high:
            raise ValueError(
                f"labels.continuous: low must be below high for {parameter.name!r}, got {parameter.low} and {parameter.high}"
            )
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
    """Return the calibrations of detection and of pairs; None for each that the bundle lacks."""
    if fields is None:
        return None, None
    numbers = dict(fields)
    same = numbers.pop("same", None)
    for each in (numbers, same or {}):
        for name, value in each.items():
            _number(value, f"calibration: {name!r}")
    if same is not None and not (same["scale"] != 0 and 0 < same["threshold"] < 1):
        raise ValueError(
            f"calibration.same must have a scale other than 0 and a threshold between 0 and 1, got scale {same['scale']!r} "
            f"and threshold {same['threshold']!r}"
        )
    calibration = Calibration(**numbers)
    if not 0 <= calibration.camera <= calibration.generated <= 1:
        raise ValueError(
            f"calibration must satisfy 0 <= camera <= generated <= 1, got camera {calibration.camera!r} and generated "
            f"{calibration.generated!r}"
        )
    return calibration, None if same is None else SameGenerator(**same)


def _number(value: Any, what: str, low: float = -math.inf, high: float = math.inf, whole: bool = False) -> Any:
    """Return a value that must be a finite number from `low` to `high`.

    Raises:
        ValueError: it is not.
    """
    wanted = int if whole else (int, float)
    with contextlib.suppress(OverflowError):  # an integer that exceeds the range of a float
        if isinstance(value, wanted) and not isinstance(value, bool) and math.isfinite(value) and low <= value <= high:
            return value
    kind = "a whole number" if whole else "a finite number"
    raise ValueError(f"{what} must be {kind}{_range(low, high)}, got {reprlib.repr(value)}")


def _range(low: float, high: float) -> str:
    if math.isfinite(high):
        return f" from {low} to {high}"
    return f" of at least {low}" if math.isfinite(low) else ""


def _name(value: Any, what: str) -> str:
    """Return a value that must be a printable text, because it is shown in terminals.

    Raises:
        ValueError: it is not.
    """
    if not isinstance(value, str) or not is_name(value):
        raise ValueError(f"{what} must be printable text, got {reprlib.repr(value)}")
    return value


def _names(values: Any, what: str) -> tuple[str, ...]:
    """Return a value that must be a list of distinct names.

    Raises:
        ValueError: it is not.
    """
    if not isinstance(values, list):
        raise ValueError(f"{what} must be a list of names, got {reprlib.repr(values)}")
    names = tuple(_name(value, what) for value in values)
    if len(set(names)) < len(names):
        raise ValueError(f"{what} must not repeat a name, got {', '.join(names)}")
    return names


def _sha256(value: Any, what: str) -> str:
    if not isinstance(value, str) or not re.fullmatch("[0-9a-f]{64}", value):
        raise ValueError(f"{what} must have a SHA-256 of 64 hexadecimal digits, got {reprlib.repr(value)}")
    return value
