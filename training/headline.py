"""The headline figures of a network on the evaluation pack, and what one precision of it loses against another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeparse.backends.base import Backend
from edgeparse.bundle import Bundle
from training.data.dataset import Collection
from training.metrics import auc
from training.parsing import Answers, headline
from training.predictions import Predictions, predict
from training.questions import pairs_of, true_and_said

CONDITIONS = ("clean", "social media")
# What the other precisions are compared with.
REFERENCE = "fp32"


@dataclass(frozen=True)
class Measured:
    """What one precision says of the pack: `outputs[condition]` of the pictures by kind, camera, zoo or real (public generators)."""

    outputs: dict[str, dict[str, Predictions]]
    true: Answers
    said: Answers

    @staticmethod
    def of(bundle: Bundle, backend: Backend, collection: Collection) -> Measured:
        """Run it; `backend` has a network of the bundle's."""
        samples = {
            "camera": collection.select(split="test", camera=True),
            "zoo": collection.select(split="test", camera=False, zoo=True),
            "real": collection.select(split="test", camera=False, zoo=False),
        }
        outputs = {c: {kind: predict(backend, some, c) for kind, some in samples.items()} for c in CONDITIONS}
        return Measured(outputs, *true_and_said(outputs["clean"]["zoo"], collection, bundle))

    def generators(self) -> dict[str, np.ndarray]:
        """The sources of each kind."""
        return {kind: np.unique(self.outputs["clean"][kind].source) for kind in ("zoo", "real")}

    def figures(self, drawn: dict[str, np.ndarray] | None = None) -> dict[str, float]:
        """The headline figures, of these generators, each as often as it is named; higher is better, but for the error `continuous_l1`."""
        drawn = drawn or self.generators()
        clean = self.outputs["clean"]
        rows = {kind: np.concatenate([clean[kind].of([i]) for i in names]) for kind, names in drawn.items()}
        found: dict[str, float] = {}
        for condition, outputs in self.outputs.items():
            for kind in rows:
                score = auc(outputs["camera"].logit, outputs[kind].logit[rows[kind]])
                found[f"detection_{kind}_auc_{condition.replace(' ', '_')}"] = score
        cosine, same = pairs_of(clean["zoo"], generators=drawn["zoo"])
        if len(cosine):
            found["same_generator_auc"] = auc(cosine[~same], cosine[same])
        return found | headline(self.true.of(rows["zoo"]), self.said.of(rows["zoo"]))


def lost(name: str, before: float, now: float) -> float:
    """How much worse a figure is than before."""
    return now - before if name == "continuous_l1" else before - now


def losses(measured: dict[str, Measured], draws: int = 200, seed: int = 0) -> dict[str, dict[str, dict[str, float]]]:
    """What every precision loses against the reference, by figure: on all generators, and its 95% interval over draws of them.

    Both are measured on the same pictures, pairs and draws, so that the interval is that of the difference.
    """
    rng = np.random.default_rng(seed)
    generators = measured[REFERENCE].generators()
    samples = [{kind: rng.choice(names, len(names)) for kind, names in generators.items()} for _ in range(draws)]
    whole = {variant: one.figures() for variant, one in measured.items()}
    drawn = {variant: [one.figures(sample) for sample in samples] for variant, one in measured.items()}
    table: dict[str, dict[str, dict[str, float]]] = {}
    for variant in measured:
        if variant == REFERENCE:
            continue
        table[variant] = {}
        for name, figure in whole[variant].items():
            # A draw of one generator alone has no pair of two.
            pairs = [
                (before[name], now[name])
                for before, now in zip(drawn[REFERENCE], drawn[variant], strict=True)
                if name in before
            ]
            low, high = np.percentile([lost(name, *pair) for pair in pairs], [2.5, 97.5])
            table[variant][name] = {
                "lost": lost(name, whole[REFERENCE][name], figure),
                "low": float(low),
                "high": float(high),
            }
    return table
