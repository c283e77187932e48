"""The networks of the study: each differs from the baseline in one thing."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from edgeparse import windows
from training.data.dataset import crop
from training.data.folds import FOLDS
from training.experiments import published_network
from training.fit.losses import Weights
from training.fit.train import Settings
from training.model.network import WINDOW, NetworkConfig

# Windows of each evaluated picture. A bundle's evaluation uses eight, but most time goes into public pictures.
WINDOWS = 2
# The embedding is trained with everything else, without the wider hidden layer that the bundle trains last.
STUDIED = NetworkConfig(compared=NetworkConfig.hidden)
# The fold of all ablations. Fold 0 is that of the bundle, and nothing may be tuned on its test generators.
ABLATION_FOLD = 1
# The source of nearly half of the photos.
LARGEST = "imagenet1k"


@dataclass(frozen=True)
class Run:
    """One network of the study.

    Attributes:
        name: name of its folder.
        changed: what differs from the baseline, for tables.
        fold: see `training.data.folds`.
        seed: of first weights and of the order of the data.
        lr: peak learning rate.
        weights: weights of the loss terms.
        paired: whether batches contain the photos that generated pictures were made from.
        codecs: whether training pictures pass codec chains.
        public: whether public generators are in training.
        zoo: number of zoo generators in training; None for all.
        photos_left_out: photo sources that training never sees, besides those of the fold.
        hard_example_weight: how much more often hard zoo generators are drawn.
        toned: share of windows with random tone curves.
        muon: whether Muon optimises the matrices.
        network: configuration of our network.
        published: trains the published network this many times as long as ours; 0 trains ours.
        windows: whether the published network sees windows instead of shrunk pictures.
    """

    name: str
    changed: str
    fold: int = 0
    seed: int = 1
    lr: float = 2e-3
    weights: Weights = field(default_factory=Weights)
    paired: bool = True
    codecs: bool = True
    public: bool = True
    zoo: int | None = None
    photos_left_out: tuple[str, ...] = ()
    hard_example_weight: float = Settings.hard_example_weight
    toned: float = Settings.toned
    muon: bool = Settings.muon
    network: NetworkConfig = STUDIED
    published: int = 0
    windows: bool = False

    @property
    def shrinks(self) -> bool:
        """Whether the network sees whole pictures, shrunk."""
        return bool(self.published) and not self.windows

    @property
    def size(self) -> int:
        """The side of the network's input in pixels."""
        return published_network.PublishedConfig().size if self.published else WINDOW

    def frame(self, pixels: np.ndarray) -> np.ndarray:
        """Cut an evaluated picture into inputs, uint8[N, S, S, 3]; windows cover equally many pixels for every size."""
        if self.shrinks:
            return published_network.frame(pixels)
        count = WINDOWS * (WINDOW // self.size) ** 2
        return np.asarray(windows.cut(pixels, count, self.size).pixels)

    def cut(self, pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Cut one input, uint8[S, S, 3], from a validation picture during training."""
        if self.shrinks:
            return np.asarray(published_network.frame(pixels)[0])
        return crop(pixels, rng, self.size)

    def settings(self, megapixels: float) -> Settings:
        """Return how our network is trained with a budget of windows."""
        return Settings(
            megapixels=megapixels,
            seed=self.seed,
            lr=self.lr,
            weights=self.weights,
            public_fraction=Settings.public_fraction if self.public else 0.0,
            paired=self.paired,
            hard_example_weight=self.hard_example_weight,
            toned=self.toned,
            muon=self.muon,
        )

    def published_settings(self, minutes: float) -> Settings:
        """Return how the published network is trained if ours takes this many minutes."""
        return Settings(
            self.published * minutes,
            seed=self.seed,
            lr=self.lr,
            muon=self.muon,
            sizes=((1.0, self.size),),
        )


def _without(*terms: str) -> Weights:
    return replace(Weights(), **dict.fromkeys(terms, 0.0))


def _without_part(part: str) -> NetworkConfig:
    return replace(STUDIED, **{part: False})  # type: ignore[arg-type]


ABLATIONS = (
    Run("no-emphasis", "every zoo generator drawn equally often", hard_example_weight=0.0),
    Run("no-metric", "no metric loss", weights=_without("metric", "proxy")),
    Run("no-proxies", "metric loss within a batch only", weights=_without("proxy")),
    Run("no-tones", "no random tone curves", toned=0.0),
    Run("no-twins", "no paired photos", paired=False),
    Run("no-codecs", "no codec chains", codecs=False),
    Run("no-public", "no public generators in training", public=False),
    Run("zoo-32", "32 zoo generators in training", zoo=32),
    Run("zoo-80", "80 zoo generators in training", zoo=80),
    Run("zoo-160", "160 zoo generators in training", zoo=160),
    Run("no-fen-moments", "heads see the trunk's features only", network=_without_part("fen_moments")),
    Run("no-spectrum", "heads see no block spectrum", network=_without_part("spectrum")),
    Run("no-lines", "no spectral lines", network=_without_part("lines")),
    Run("no-muon", "AdamW for every weight", muon=False),
    Run("no-magnitude", "fingerprint: no magnitude constraint", weights=_without("magnitude")),
    Run("no-low-frequency", "fingerprint: no low-frequency constraint", weights=_without("low_frequency")),
    Run("no-repetitive", "fingerprint: no repetition constraint", weights=_without("repetitive")),
    Run("no-symmetric", "fingerprint: no symmetry constraint", weights=_without("symmetric")),
)
RUNS = (
    *(Run(f"fold-{k}", f"fold {k}", fold=k) for k in range(len(FOLDS))),
    Run("published", "the published network", published=1),
    Run("published-adamw", "the published network, AdamW, a quarter of the rate", published=1, lr=5e-4, muon=False),
    Run("published-windows", "the published network, on windows", published=1, windows=True),
    *(Run(f"seed-{seed}", f"seed {seed}", ABLATION_FOLD, seed) for seed in (2, 3)),
    *(replace(run, fold=ABLATION_FOLD) for run in ABLATIONS),
    Run("published-long", "the published network, four times as long", published=4),
    # A pair on the bundle's fold. Both use one zoo, which may differ from that of the other runs.
    Run("with-largest", "fold 0, to compare with the next"),
    Run("without-largest", "fold 0, without the largest photo source", photos_left_out=(LARGEST,)),
)
