"""Summary metrics of a network on the test set of the repository, and what a precision loses against fp32."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeparse.backends.base import Backend
from edgeparse.bundle import Bundle
from training.data.dataset import Collection
from training.evaluate.attribution import sample_pairs
from training.evaluate.model_parsing import Attributes, group_means, true_and_predicted
from training.evaluate.predict import Predictions, predict
from training.metrics import auc

CONDITIONS = ("as is", "social chain")
# The precision that the others are compared with.
REFERENCE = "fp32"


@dataclass(frozen=True)
class VariantOutputs:
    """Predictions of one precision.

    Attributes:
        outputs: predictions by condition, and by kind: camera, zoo or public.
        true: attributes of the zoo's pictures.
        predicted: attributes that were predicted for them, as is.
    """

    outputs: dict[str, dict[str, Predictions]]
    true: Attributes
    predicted: Attributes

    @staticmethod
    def run(bundle: Bundle, backend: Backend, collection: Collection) -> VariantOutputs:
        """Run a backend that holds the bundle's network in some precision."""
        samples = {
            "camera": collection.select(split="test", camera=True),
            "zoo": collection.select(split="test", camera=False, zoo=True),
            "public": collection.select(split="test", camera=False, zoo=False),
        }
        outputs = {c: {kind: predict(backend, some, c) for kind, some in samples.items()} for c in CONDITIONS}
        return VariantOutputs(outputs, *true_and_predicted(outputs["as is"]["zoo"], collection, bundle))

    def generators(self) -> dict[str, np.ndarray]:
        """Return the sources of each kind."""
        return {kind: np.unique(self.outputs["as is"][kind].source) for kind in ("zoo", "public")}

    def figures(self, drawn: dict[str, np.ndarray] | None = None) -> dict[str, float]:
        """Return the metrics, on all generators or on `drawn` ones, which may repeat.

        Higher is better, except for `continuous_l1`.
        """
        drawn = drawn or self.generators()
        clean = self.outputs["as is"]
        rows = {kind: np.concatenate([clean[kind].rows_of([i]) for i in names]) for kind, names in drawn.items()}
        found: dict[str, float] = {}
        for condition, outputs in self.outputs.items():
            for kind in rows:
                score = auc(outputs["camera"].logit, outputs[kind].logit[rows[kind]])
                found[f"detection_{kind}_auc_{condition.replace(' ', '_')}"] = score
        cosine, same = sample_pairs(clean["zoo"], generators=drawn["zoo"])
        if len(cosine):
            found["same_generator_auc"] = auc(cosine[~same], cosine[same])
        return found | group_means(self.true.take(rows["zoo"]), self.predicted.take(rows["zoo"]))


def degradation(name: str, before: float, now: float) -> float:
    """Return how much worse a metric is than before."""
    return now - before if name == "continuous_l1" else before - now


def degradations(
    measured: dict[str, VariantOutputs], draws: int = 200, seed: int = 0
) -> dict[str, dict[str, dict[str, float]]]:
    """Return what every precision loses against the reference, with a 95 % interval over draws of generators.

    Both use the same pictures, pairs and draws, so the interval is that of the difference.
    """
    rng = np.random.default_rng(seed)
    generators = measured[REFERENCE].generators()
    samples = [{kind: rng.choice(names, len(names)) for kind, names in generators.items()} for _ in range(draws)]
    whole = {variant: outputs.figures() for variant, outputs in measured.items()}
    drawn = {variant: [outputs.figures(sample) for sample in samples] for variant, outputs in measured.items()}
    table: dict[str, dict[str, dict[str, float]]] = {}
    for variant in measured:
        if variant == REFERENCE:
            continue
        table[variant] = {}
        for name, figure in whole[variant].items():
            # A draw of a single generator has no pair of two.
            pairs = [
                (before[name], now[name])
                for before, now in zip(drawn[REFERENCE], drawn[variant], strict=True)
                if name in before
            ]
            low, high = np.percentile([degradation(name, *pair) for pair in pairs], [2.5, 97.5])
            table[variant][name] = {
                "lost": degradation(name, whole[REFERENCE][name], figure),
                "low": float(low),
                "high": float(high),
            }
    return table


def zoo_points_lost(before: dict[str, float], now: dict[str, float]) -> float:
    """Return the most points (hundredths) that any metric of the zoo is worse than before."""
    return 100 * max(degradation(name, value, now[name]) for name, value in before.items() if "public" not in name)
