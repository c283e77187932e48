"""Detection on sources that training left out: public generators and cameras of other owners.

A picture's score is the mean logit of its windows, cut as the runtime cuts them. Intervals come from drawing sources
again, since the pictures of one source are alike.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from edgeparse import windows
from training.data.augment import CONDITIONS
from training.data.public_sets import read_pictures, split
from training.data.stream import Store
from training.device import supports_fast_bfloat16
from training.metrics import auc, interval_over_groups
from training.model.network import Network

# Logits, float32[N], of windows, uint8[N, S, S, 3].
Detector = Callable[[np.ndarray], np.ndarray]
WINDOWS = 8


DURING_TRAINING = ("as is", "JPEG q90", "resize 0.75 + q75")


@dataclass(frozen=True)
class Scores:
    """Scores of pictures, float64[P]; their sets, str[P]; and whether each is generated, bool[P]."""

    score: np.ndarray
    name: np.ndarray
    generated: np.ndarray

    def auc(self) -> float:
        """Return the area under the ROC curve over all pictures."""
        return auc(self.score[~self.generated], self.score[self.generated])

    def recall(self, accused: float = 0.01) -> float:
        """Return the fraction of generated pictures above a threshold that accuses this fraction of photos."""
        threshold = np.quantile(self.score[~self.generated], 1 - accused)
        return float((self.score[self.generated] > threshold).mean())

    def interval(self) -> list[float]:
        """Return the 95% interval of the AUC if other sets of both classes had been left out."""
        camera, generated = self.score[~self.generated], self.score[self.generated]
        return interval_over_groups(
            lambda c, g: auc(camera[c], generated[g]), self.name[~self.generated], self.name[self.generated]
        )

    def by_set(self) -> dict[str, float]:
        """Return the AUC of every generator against all photos, and of every photo set against all generated pictures."""
        found = {}
        for name in np.unique(self.name):
            of_set, other = self.name == name, self.generated != self.generated[self.name == name][0]
            camera, generated = (other, of_set) if self.generated[of_set][0] else (of_set, other)
            found[str(name)] = round(auc(self.score[camera], self.score[generated]), 4)
        return found


def scores_of(detector: Detector, store: Store, condition: str) -> Scores:
    """Score every camera and generated picture of a store after a condition."""
    rows = [i for i, picture in enumerate(store.pictures) if picture.set.role in ("camera", "generated")]
    score = [float(detector(windows.cut(CONDITIONS[condition](store.pixels[i]), WINDOWS).pixels).mean()) for i in rows]
    sets = [store.pictures[i].set for i in rows]
    return Scores(np.array(score), np.array([s.name for s in sets]), np.array([s.role == "generated" for s in sets]))


def evaluate(
    network: Network | Detector, store: Store, conditions: Sequence[str] = tuple(CONDITIONS)
) -> dict[str, Any]:
    """Return figures by condition: AUC with its interval, recall at 1% accused photos, and AUC by set for the first condition."""
    detector = partial(logits, network) if isinstance(network, Network) else network
    found: dict[str, Any] = {}
    for condition in conditions:
        scores = scores_of(detector, store, condition)
        figures: dict[str, Any] = {
            "auc": scores.auc(),
            "interval": scores.interval(),
            "recall_at_1_percent": scores.recall(),
        }
        found[condition] = figures if found else figures | {"by_set": scores.by_set()}
    return found


@torch.no_grad()
def logits(network: Network, pixels: np.ndarray) -> np.ndarray:
    """Return a network's detection logits, float32[N], of windows, uint8[N, S, S, 3]."""
    network.eval()
    device = network.device
    with torch.autocast(device.type, torch.bfloat16, enabled=supports_fast_bfloat16(device)):
        made: np.ndarray = network(torch.from_numpy(pixels).to(device))["generated"][:, 0].float().cpu().numpy()
    return made


def detector_of(origin: Path) -> Detector:
    """Return the detector of a bundle's folder, as a CPU runs it, or of a training run's network.safetensors or checkpoint.pt."""
    if origin.is_dir():
        from edgeparse.backends.onnxruntime import OnnxRuntimeBackend
        from edgeparse.bundle import open_bundle

        backend = OnnxRuntimeBackend(open_bundle(origin).model())
        return lambda pixels: backend.run(pixels, ["generated"])["generated"][:, 0]
    from training.fit.warm_start import load_network

    return partial(logits, load_network(origin))


@click.command()
@click.argument("origin", metavar="BUNDLE_OR_NETWORK", type=click.Path(exists=True, path_type=Path))
@click.argument("data", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--fold",
    type=click.Choice(["val", "test"]),
    default="val",
    show_default=True,
    help="Choose on val; report test once.",
)
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write the JSON here too.")
def main(origin: Path, data: Path, fold: str, output: Path | None) -> None:
    """Measure detection on the owners of DATA that training left out."""
    parts = split(read_pictures(data))
    found = evaluate(detector_of(origin), Store.read(data, parts.val if fold == "val" else parts.test))
    text = json.dumps({"fold": fold} | found, indent=1) + "\n"
    if output:
        output.write_text(text)
    click.echo(text, nl=False)


if __name__ == "__main__":
    main()
