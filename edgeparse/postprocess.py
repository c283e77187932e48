"""Turn the raw outputs of one image's windows into calibrated answers about the image."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeparse.bundle import Bundle
from edgeparse.errors import BackendError
from edgeparse.manifest import Calibration
from edgeparse.report import Candidate, Choice, FamilyAnswer, GeneratorAnswer, Interval, Verdict

# Outputs by name, float32[N, K].
Outputs = Mapping[str, NDArray[np.float32]]

# Default number of known generators in a report.
CANDIDATES = 3


@dataclass(frozen=True)
class Prediction:
    """The answers about one image; None if the bundle lacks the output. `embedding` is float32[D] of unit length."""

    probability_generated: float | None
    verdict: Verdict | None
    generator: GeneratorAnswer | None
    family: FamilyAnswer | None
    architecture: dict[str, Interval | Choice] | None
    losses: dict[str, float] | None
    embedding: NDArray[np.float32] | None


def aggregate(
    outputs: Outputs, bundle: Bundle, backend: str = "the backend", candidates: int = CANDIDATES
) -> Prediction:
    """Average the outputs of N windows and calibrate the result.

    Parameters that the network does not predict better than a constant are left out.

    Args:
        outputs: raw outputs of the windows of one image.
        bundle: the bundle that the network belongs to.
        backend: name of the backend, for error messages.
        candidates: number of generators to list, for bundles that classify a closed set of generators.

    Raises:
        BackendError: an output contains NaN or Inf.
    """
    mean = _means({name: values for name, values in outputs.items() if name != "fingerprint"}, backend)
    calibration = bundle.calibration
    logit = logits(mean, bundle)
    probability = None if logit is None or calibration is None else calibrated(float(logit), calibration)
    return Prediction(
        probability_generated=probability,
        verdict=None if probability is None or calibration is None else verdict(probability, calibration),
        generator=_attribution(mean, bundle, candidates),
        family=_family(mean, bundle),
        architecture=_architecture(mean, bundle),
        losses=_losses(mean, bundle),
        embedding=unit(mean["embedding"]) if "embedding" in mean else None,
    )


def _means(outputs: Outputs, backend: str) -> dict[str, NDArray[np.float32]]:
    """Average each output over the windows: float32[N, K] -> float32[K]. One NumPy call is faster than one per output."""
    if not outputs:
        return {}
    joined = np.concatenate(list(outputs.values()), axis=1).mean(axis=0)
    ends = itertools.accumulate(values.shape[1] for values in outputs.values())
    mean = {
        name: joined[end - values.shape[1] : end] for (name, values), end in zip(outputs.items(), ends, strict=True)
    }
    if not np.isfinite(joined).all():
        check_finite(mean, backend)
    return mean


def check_finite(outputs: Outputs, backend: str) -> None:
    """Check that outputs contain finite numbers only.

    Args:
        outputs: arrays by name.
        backend: name of the backend, for the error message.

    Raises:
        BackendError: an output contains NaN or Inf.
    """
    if invalid := [name for name, values in outputs.items() if not np.isfinite(values).all()]:
        raise BackendError(
            f"{backend} returned NaN or Inf for {', '.join(invalid)}; its precision may overflow or its engine may be faulty: "
            'choose another --backend, or Parser(variant="fp32")'
        )


def logits(outputs: Outputs, bundle: Bundle) -> NDArray[np.float32] | None:
    """Return the uncalibrated log-odds of "generated" against "camera".

    For a closed set of generators, the most probable generator counts.

    Args:
        outputs: float32[..., C] by name: of each window, or their mean.
        bundle: the bundle that the network belongs to.

    Returns:
        float32[...], or None if the bundle does not separate camera from generated.
    """
    if "generated" in outputs:
        return outputs["generated"][..., 0]
    if "attribution" in outputs:
        values, camera = outputs["attribution"], bundle.attribution.index("camera")
        best: NDArray[np.float32] = np.delete(values, camera, axis=-1).max(axis=-1) - values[..., camera]
        return best
    return None


def scores(outputs: Outputs, bundle: Bundle) -> tuple[float, ...]:
    """Return each window's calibrated score, 0 (camera) to 1 (generated); empty if the bundle does not separate the two."""
    calibration, window_logits = bundle.calibration, logits(outputs, bundle)
    if calibration is None or window_logits is None:
        return ()
    return tuple(calibrated(float(value), calibration) for value in window_logits)


def _attribution(mean: Outputs, bundle: Bundle, candidates: int) -> GeneratorAnswer | None:
    """Return the answer of a bundle that classifies a closed set of generators; scores are probabilities."""
    if "attribution" not in mean or bundle.calibration is None:
        return None
    probabilities = zip(bundle.attribution, _softmax(mean["attribution"]), strict=True)
    threshold = bundle.calibration.known
    known = (Candidate(name, float(p), threshold) for name, p in probabilities if name != "camera")
    ranked = sorted(known, key=lambda candidate: -candidate.score)
    return generator_answer(ranked, candidates)


def generator_answer(ranked: Sequence[Candidate], candidates: int) -> GeneratorAnswer:
    """Name the first of the ranked candidates if it reaches its threshold, and list the first `candidates` of them."""
    best = ranked[0]
    known = best.score >= best.threshold
    return GeneratorAnswer(best.name if known else None, known, best.score, tuple(ranked[:candidates]))


def _family(mean: Outputs, bundle: Bundle) -> FamilyAnswer | None:
    if "family" not in mean or not bundle.family_reported:
        return None
    probabilities = _softmax(mean["family"])
    by_name = {name: float(p) for name, p in zip(bundle.families, probabilities, strict=True)}
    return FamilyAnswer(bundle.families[int(probabilities.argmax())], by_name)


def _architecture(mean: Outputs, bundle: Bundle) -> dict[str, Interval | Choice] | None:
    architecture: dict[str, Interval | Choice] = {}
    if "continuous" not in mean and not any(discrete.name in mean for discrete in bundle.discrete):
        return None
    for scaled, parameter in zip(mean.get("continuous", ()), bundle.continuous, strict=True):
        if parameter.reported:
            architecture[parameter.name] = Interval(
                value=parameter.value(float(scaled)),
                low=parameter.value(float(scaled) - parameter.half_width),
                high=parameter.value(float(scaled) + parameter.half_width),
            )
    for discrete in bundle.discrete:
        if discrete.reported and discrete.name in mean:
            probabilities = _softmax(mean[discrete.name])
            best = int(probabilities.argmax())
            architecture[discrete.name] = Choice(discrete.values[best], float(probabilities[best]))
    return architecture


def _losses(mean: Outputs, bundle: Bundle) -> dict[str, float] | None:
    if "losses" not in mean:
        return None
    probabilities = 1 / (1 + np.exp(-mean["losses"]))
    return {loss.name: float(p) for loss, p in zip(bundle.losses, probabilities, strict=True) if loss.reported}


def calibrated(logit: float, calibration: Calibration) -> float:
    """Return the probability that a generator made the image, from the mean logit (Platt scaling)."""
    return sigmoid(calibration.scale * logit + calibration.bias)


def sigmoid(x: float) -> float:
    """Convert log-odds to a probability, without overflow."""
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def logit(probability: float) -> float:
    """Convert a probability, 0 < p < 1, to log-odds."""
    return math.log(probability / (1 - probability))


def verdict(probability: float, calibration: Calibration) -> Verdict:
    """Compare the probability with the two thresholds."""
    if probability >= calibration.generated:
        return "generated"
    return "camera" if probability < calibration.camera else "inconclusive"


def unit(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale a vector, float32[D], to unit length."""
    return vector / max(float(np.linalg.norm(vector)), 1e-12)


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    powers: NDArray[np.float32] = np.exp(logits - logits.max())
    probabilities: NDArray[np.float32] = powers / powers.sum()
    return probabilities
