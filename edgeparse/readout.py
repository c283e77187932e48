"""Raw outputs of the windows of one picture -> calibrated answers about the picture."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeparse.bundle import Bundle, Calibration
from edgeparse.report import Choice, FamilyAnswer, Interval, Verdict

Outputs = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Reading:
    """What the windows say together. `embedding` is float32[D], unit length."""

    probability_generated: float
    verdict: Verdict
    family: FamilyAnswer | None
    architecture: dict[str, Interval | Choice]
    losses: dict[str, float]
    embedding: NDArray[np.float32]


def aggregate(outputs: Outputs, bundle: Bundle) -> Reading:
    """One answer from the outputs of N windows: logits and estimates are averaged, then calibrated.

    What the network does not predict better than a constant on unseen generators are left out.
    """
    mean = {name: values.mean(axis=0) for name, values in outputs.items() if name != "fingerprint"}
    probability = calibrated(float(mean["generated"][0]), bundle.calibration)
    families = _softmax(mean["family"])
    family = FamilyAnswer(
        bundle.families[int(families.argmax())],
        {name: float(p) for name, p in zip(bundle.families, families, strict=True)},
    )
    architecture: dict[str, Interval | Choice] = {}
    for scaled, parameter in zip(mean["continuous"], bundle.continuous, strict=True):
        if parameter.reported:
            architecture[parameter.name] = Interval(
                value=parameter.value(float(scaled)),
                low=parameter.value(float(scaled) - parameter.half_width),
                high=parameter.value(float(scaled) + parameter.half_width),
            )
    for discrete in bundle.discrete:
        if discrete.reported:
            chances = _softmax(mean[discrete.name])
            architecture[discrete.name] = Choice(discrete.values[int(chances.argmax())], float(chances.max()))
    used = 1 / (1 + np.exp(-mean["losses"]))
    return Reading(
        probability_generated=probability,
        verdict=verdict(probability, bundle.calibration),
        family=family if bundle.family_reported else None,
        architecture=architecture,
        losses={loss.name: float(p) for loss, p in zip(bundle.losses, used, strict=True) if loss.reported},
        embedding=unit(mean["embedding"]),
    )


def calibrated(logit: float, calibration: Calibration) -> float:
    """Probability that a generator made it, from the mean logit (Platt scaling)."""
    return sigmoid(calibration.scale * logit + calibration.bias)


def sigmoid(x: float) -> float:
    """A probability from log-odds, without overflow."""
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def logit(probability: float) -> float:
    """Log-odds of a probability, 0 < p < 1."""
    return math.log(probability / (1 - probability))


def verdict(probability: float, calibration: Calibration) -> Verdict:
    """The probability against the two thresholds."""
    if probability >= calibration.generated:
        return "generated"
    return "camera" if probability < calibration.camera else "inconclusive"


def unit(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    """The vector at length one."""
    return vector / max(float(np.linalg.norm(vector)), 1e-12)


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    powers: NDArray[np.float32] = np.exp(logits - logits.max())
    chances: NDArray[np.float32] = powers / powers.sum()
    return chances
