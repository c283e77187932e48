"""What spectral lines by themselves tell of public generators that they did not learn from: `python -m benchmarks.lines_alone INDEX`.

Over the study's folds every public generator is left out once, with its family as far as that goes. What they say takes a minute to fit,
where a fold's whole network takes ten: so this says of all public generators what a change of the lines is worth by itself. The figures go
to training/results/lines.json, which docs/accuracy.md shows.
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

from benchmarks.study import CONDITIONS
from training.data.dataset import CHAINS, Collection, add_variants
from training.data.folds import FOLDS, refold
from training.data.index.load import collect
from training.data.index.records import Index, read
from training.fit import heads_lines
from training.metrics import auc
from training.model.network import to_unit_range
from training.model.spectral import SpectralLines
from training.predictions import predict

RESULT = Path(__file__).parent.parent / "training" / "results" / "lines.json"


def public(index: Index) -> Index:
    """What is not of the zoo: lines learn from nothing else."""
    sources = {key: source for key, source in index.sources.items() if not source.zoo}
    return Index(sources, [entry for entry in index.entries if entry.source in sources])


def judge(collection: Collection, fold: int, seed: int) -> dict[str, dict[str, float]]:
    """AUC of the fold's test generators against its test photos, by name and condition, of lines that learnt from its training ones."""
    folded = refold(collection, fold)
    add_variants(folded.select(split="train", source_split="train"), CHAINS, seed)
    layer = nn.Linear(SpectralLines.FEATURES, 1)
    layer.load_state_dict(
        {name.removeprefix("by_lines."): of for name, of in heads_lines.fit_lines(folded, seed).items()}
    )
    look = partial(predict, Alone(layer), outputs=["generated"])
    photos = folded.select(split="test", camera=True)
    made = folded.select(split="test", camera=False, source_split="test")
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for condition in CONDITIONS:
        camera, generated = look(photos, condition), look(made, condition)
        for source in np.unique(generated.source):
            score = auc(camera.logit, generated.logit[generated.of([source])])
            found[folded.sources[source].name][condition] = score
    return dict(sorted(found.items()))


@dataclass(frozen=True)
class Alone:
    """A backend that knows lines, and of them whether a window is generated."""

    layer: nn.Linear
    lines: SpectralLines = field(default_factory=SpectralLines)
    name: str = "lines alone"

    @torch.no_grad()
    def run(self, windows: np.ndarray, outputs: Sequence[str]) -> dict[str, np.ndarray]:
        """As `Backend.run`."""
        said = {"generated": self.layer(self.lines(to_unit_range(torch.from_numpy(windows)))).numpy()}
        return {name: said[name] for name in outputs}


@click.command()
@click.argument("index", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--seed", default=1, show_default=True)
def main(index: Path, seed: int) -> None:
    """Fit lines in every fold of the photos and public generators of INDEX, and judge them by those that the fold leaves out."""
    collection = collect(public(read(index)))
    generators = {}
    for fold in range(len(FOLDS)):
        for name, figures in judge(collection, fold, seed).items():
            generators[name] = {"fold": fold, "auc": figures}
            click.echo(f"{name} {json.dumps(figures)}", err=True)
    RESULT.write_text(json.dumps({"seed": seed, "heavy_edits": True, "generators": generators}, indent=1) + "\n")


if __name__ == "__main__":
    main()
