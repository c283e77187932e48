"""Detection of public generators with spectral lines only.

Every public generator is left out in one of the study's folds, with its family as far as possible. Lines take a minute
to fit, a whole network ten, so this shows what a change of the lines is worth.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import click
import numpy as np
import torch
from torch import nn

from training.data.dataset import CHAINS, Collection, add_variants
from training.data.folds import FOLDS, refold
from training.data.index.load import collect
from training.data.index.records import Index, read
from training.evaluate.predict import predict
from training.evaluate.results import RESULTS, write_result
from training.experiments.ablations import CONDITIONS
from training.fit import heads_lines
from training.metrics import auc
from training.model.network import to_unit_range
from training.model.spectral import SpectralLines

RESULT = RESULTS / "spectral_lines.json"


def public_part(index: Index) -> Index:
    """Return the index without the zoo: lines learn from nothing else."""
    sources = {key: source for key, source in index.sources.items() if not source.zoo}
    return Index(sources, [entry for entry in index.entries if entry.source in sources])


def evaluate_fold(collection: Collection, fold: int, seed: int) -> dict[str, dict[str, float]]:
    """Fit lines on a fold's training pictures, and return the AUC of its test generators by name and condition."""
    folded = refold(collection, fold)
    add_variants(folded.select(split="train", source_split="train"), CHAINS, seed)
    layer = nn.Linear(SpectralLines.FEATURES, 1)
    fitted = heads_lines.fit_lines(folded, seed)
    layer.load_state_dict({name.removeprefix("by_lines."): value for name, value in fitted.items()})
    run = partial(predict, LinesBackend(layer), outputs=["generated"])
    photos = folded.select(split="test", camera=True)
    pictures = folded.select(split="test", camera=False, source_split="test")
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for condition in CONDITIONS:
        camera, generated = run(photos, condition), run(pictures, condition)
        for source in np.unique(generated.source):
            score = auc(camera.logit, generated.logit[generated.rows_of([source])])
            found[folded.sources[source].name][condition] = score
    return dict(sorted(found.items()))


@dataclass(frozen=True)
class LinesBackend:
    """A backend whose only output is the logit of spectral lines."""

    layer: nn.Linear
    lines: SpectralLines = field(default_factory=SpectralLines)
    name: str = "spectral lines"

    @torch.no_grad()
    def run(self, windows: np.ndarray, outputs: Sequence[str]) -> dict[str, np.ndarray]:
        """See `Backend.run`."""
        found = {"generated": self.layer(self.lines(to_unit_range(torch.from_numpy(windows)))).numpy()}
        return {name: found[name] for name in outputs}


@click.command("spectral-lines")
@click.argument("index", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--seed", default=1, show_default=True, help="Seed of the training windows.")
def main(index: Path, seed: int) -> None:
    """Fit spectral lines in every fold of INDEX, and evaluate them on the public generators that the fold leaves out."""
    collection = collect(public_part(read(index)))
    generators = {}
    for fold in range(len(FOLDS)):
        for name, figures in evaluate_fold(collection, fold, seed).items():
            generators[name] = {"fold": fold, "auc": figures}
            click.echo(f"{name} {json.dumps(figures)}", err=True)
    write_result(RESULT, {"seed": seed, "heavy_edits": True, "generators": generators})


if __name__ == "__main__":
    main()
