"""Raw outputs of the windows of one picture -> calibrated answers about the picture."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeparse.bundle import Bundle, Calibration
from edgeparse.errors import BackendError
from edgeparse.report import Candidate, Choice, FamilyAnswer, GeneratorAnswer, Interval, Verdict

Outputs = Mapping[str, NDArray[np.float32]]

# Known generators that a report names, best first.
CANDIDATES = 3


@dataclass(frozen=True)
class Reading:
    """What the windows say together; None is what the bundle has no output for. `embedding` is float32[D], unit length."""

    probability_generated: float | None
    verdict: Verdict | None
    generator: GeneratorAnswer | None
    family: FamilyAnswer | None
    architecture: dict[str, Interval | Choice] | None
    losses: dict[str, float] | None
    embedding: NDArray[np.float32] | None


def aggregate(outputs: Outputs, bundle: Bundle, backend: str = "the backend", candidates: int = CANDIDATES) -> Reading:
    """One answer from the outputs of N windows: logits and estimates are averaged, then calibrated.

    What the network does not predict better than a constant on unseen generators are left out.

    Raises:
        BackendError: an output is not a finite number; `backend` is what the message calls the one that computed it.
    """
    mean = _means({name: values for name, values in outputs.items() if name != "fingerprint"}, backend)
    calibration = bundle.calibration
    logit = logits(mean, bundle)
    probability = None if logit is None or calibration is None else calibrated(float(logit), calibration)
    return Reading(
        probability_generated=probability,
        verdict=None if probability is None or calibration is None else verdict(probability, calibration),
        generator=_attributed(mean, bundle, candidates),
        family=_family(mean, bundle),
        architecture=_architecture(mean, bundle),
        losses=_losses(mean, bundle),
        embedding=unit(mean["embedding"]) if "embedding" in mean else None,
    )


def _means(outputs: Outputs, backend: str) -> dict[str, NDArray[np.float32]]:
    """Each output's mean over the windows, float32[K] of float32[N, K]; at once, as NumPy's calls cost more than what they add up."""
    if not outputs:
        return {}
    all_at_once = np.concatenate(list(outputs.values()), axis=1).mean(axis=0)
    ends = itertools.accumulate(values.shape[1] for values in outputs.values())
    mean = {
        name: all_at_once[end - values.shape[1] : end]
        for (name, values), end in zip(outputs.items(), ends, strict=True)
    }
    if not np.isfinite(all_at_once).all():
        must_be_finite(mean, backend)
    return mean


def must_be_finite(outputs: Outputs, backend: str) -> None:
    """That numbers were computed.

    Raises:
        BackendError: some are none; `backend` is what the message calls the one that computed them.
    """
    if wrong := [name for name, values in outputs.items() if not np.isfinite(values).all()]:
        raise BackendError(
            f"{backend} computed what is no finite number for {', '.join(wrong)}; the precision that it ran may overflow, or its engine "
            'be faulty: take another --backend, or Parser(variant="fp32")'
        )


def logits(outputs: Outputs, bundle: Bundle) -> NDArray[np.float32] | None:
    """How much likelier a generator is than a camera, before calibration; of a closed set of generators, the likeliest.

    float32[...] from outputs of float32[..., C]: of each window, or of their mean. None where the bundle does not tell the two apart.
    """
    if "generated" in outputs:
        return outputs["generated"][..., 0]
    if "attribution" in outputs:
        values, camera = outputs["attribution"], bundle.attribution.index("camera")
        likeliest: NDArray[np.float32] = np.delete(values, camera, axis=-1).max(axis=-1) - values[..., camera]
        return likeliest
    return None


def scores(outputs: Outputs, bundle: Bundle) -> tuple[float, ...]:
    """Each window's own calibrated score, 0 (camera) to 1 (generated); none where the bundle does not tell the two apart."""
    calibration, each = bundle.calibration, logits(outputs, bundle)
    if calibration is None or each is None:
        return ()
    return tuple(calibrated(float(value), calibration) for value in each)


def _attributed(mean: Outputs, bundle: Bundle, candidates: int) -> GeneratorAnswer | None:
    """From the probabilities of a closed set of generators, where the bundle has an output for them; scores are probabilities."""
    if "attribution" not in mean or bundle.calibration is None:
        return None
    chances = zip(bundle.attribution, _softmax(mean["attribution"]), strict=True)
    needed = bundle.calibration.known
    found = (Candidate(name, float(chance), needed) for name, chance in chances if name != "camera")
    ranked = sorted(found, key=lambda candidate: -candidate.score)
    return generator_answer(ranked, candidates)


def generator_answer(ranked: Sequence[Candidate], candidates: int) -> GeneratorAnswer:
    """What known generators, best first, come to: the first is named where it reaches what is needed, and so many are told."""
    best = ranked[0]
    known = best.score >= best.needed
    return GeneratorAnswer(best.name if known else None, known, best.score, tuple(ranked[:candidates]))


def _family(mean: Outputs, bundle: Bundle) -> FamilyAnswer | None:
    if "family" not in mean or not bundle.family_reported:
        return None
    chances = _softmax(mean["family"])
    named = {name: float(p) for name, p in zip(bundle.families, chances, strict=True)}
    return FamilyAnswer(bundle.families[int(chances.argmax())], named)


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
            chances = _softmax(mean[discrete.name])
            architecture[discrete.name] = Choice(discrete.values[int(chances.argmax())], float(chances.max()))
    return architecture


def _losses(mean: Outputs, bundle: Bundle) -> dict[str, float] | None:
    if "losses" not in mean:
        return None
    used = 1 / (1 + np.exp(-mean["losses"]))
    return {loss.name: float(p) for loss, p in zip(bundle.losses, used, strict=True) if loss.reported}


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
