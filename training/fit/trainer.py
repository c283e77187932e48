"""Training steps of a network, and the state that they change."""

from __future__ import annotations

import copy
import ctypes
import math
import sys
from dataclasses import dataclass, field
from multiprocessing.sharedctypes import RawArray
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.data.dataset import Generator
from training.data.public_labels import UNKNOWN
from training.data.public_sets import PictureSet
from training.data.stream import CAMERA, NOT_ASKED, Batch
from training.device import supports_fast_bfloat16
from training.fit.losses import Targets, Weights, fingerprint_constraints, head_losses, supervised_contrastive_loss
from training.fit.optimizer import build_optimizers
from training.labels import Labels
from training.model.network import WINDOW, Network, NetworkConfig


@dataclass(frozen=True)
class Settings:
    """How to train."""

    # Training time; it may be raised when a run is resumed.
    minutes: float = 60.0
    # Fraction of the time, at the end, in which the learning rate falls to a hundredth.
    decay: float = 0.2
    # Highest learning rate of AdamW; Muon's is ten times as high.
    lr: float = 1e-3
    # Steps in which the learning rate rises.
    warm_up: int = 300
    seed: int = 1
    # Side of the windows of a batch -> how often. Small windows show more pictures in the same time.
    sizes: dict[int, float] = field(default_factory=lambda: {64: 0.6, 96: 0.25, WINDOW: 0.15})
    # Sizes while the learning rate falls: batch norms settle on the size that is shipped.
    final_sizes: dict[int, float] = field(default_factory=lambda: {96: 0.3, WINDOW: 0.7})
    # A set is drawn in proportion to its mean detection loss to this power.
    hardness: float = 0.5
    label_smoothing: float = 0.03
    # Decay of the moving average, which is what is evaluated and kept.
    average: float = 0.998
    weight_decay: float = 0.02
    weights: Weights = field(default_factory=Weights)
    # Processes that make batches.
    workers: int = 1
    # Minutes between two validations.
    validate_every: float = 15.0

    def lr_factor(self, step: int, progress: float) -> float:
        """Return the fraction of the highest learning rate: a short rise, a plateau, then a cosine."""
        rise = min(1.0, (step + 1) / self.warm_up)
        fall = max(0.0, (progress - 1 + self.decay) / self.decay) if self.decay else 0.0
        return rise * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, fall))))


class Average:
    """Exponential moving average of a network's values, including batch-norm statistics.

    Args:
        network: network to copy.
        decay: weight of the average in an update; lower in the first steps.
    """

    def __init__(self, network: nn.Module, decay: float = 0.995) -> None:
        self.network = copy.deepcopy(network).eval()
        self.decay = decay

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        for average, value in zip(self.network.state_dict().values(), network.state_dict().values(), strict=True):
            if average.dtype.is_floating_point:
                average.lerp_(value, 1 - decay)
            else:
                average.copy_(value)


class Hardness:
    """Detection loss of every set, as a moving average, and what follows for how often the set is drawn.

    Args:
        sets: number of sets.
        power: 0 draws all sets alike.

    Attributes:
        loss: float64[sets].
        factors: float64[sets], in memory that worker processes share.
    """

    def __init__(self, sets: int, power: float) -> None:
        self.power = power
        self.loss = np.full(sets, math.log(2))
        self.factors: np.ndarray = np.frombuffer(RawArray("d", sets))
        self.refresh()

    def update(self, batch: Batch, losses: np.ndarray) -> None:
        """Take the detection losses, float32[N], of a batch into account."""
        asked = batch.target != NOT_ASKED
        for source in np.unique(batch.source[asked]):
            self.loss[source] += 0.05 * (losses[asked & (batch.source == source)].mean() - self.loss[source])
        self.refresh()

    def refresh(self) -> None:
        """Recompute the factors from the losses."""
        self.factors[:] = np.clip(self.loss / 0.5, 0.2, 4.0) ** self.power


class Trainer:
    """A network in training, with everything that changes beside it.

    Args:
        network: the network, on its device.
        sets: all sets; a batch's `source` indexes them.
        targets: labels of the same sets.
        settings: how to train.
        compiled: whether TorchInductor compiles the network first, which needs a C++ compiler and takes about two minutes.
    """

    def __init__(
        self, network: Network, sets: list[PictureSet], targets: Targets, settings: Settings, *, compiled: bool = False
    ) -> None:
        keep_freed_memory()
        self.network, self.settings, self.targets = network, settings, targets
        self.device = network.device
        self.average = Average(network, settings.average)
        self.optimizers = build_optimizers(network, settings.lr, settings.weight_decay)
        self.hardness = Hardness(len(sets), settings.hardness)
        self.step, self.seconds, self.windows = 0, 0.0, 0
        self._mixed = torch.tensor([one.mixed for one in sets], device=self.device)
        self._compute = torch.compile(network, dynamic=False) if compiled else network

    @property
    def averaged(self) -> Network:
        """The network with the moving average of the weights, which is what is evaluated and kept."""
        network = self.average.network
        assert isinstance(network, Network)
        return network

    def learn(self, batch: Batch, lr_factor: float) -> dict[str, float]:
        """Take one step. Returns every weighted term of the objective, and the accuracy of detection, by name."""
        for group in (group for optimizer in self.optimizers for group in optimizer.param_groups):
            group["lr"] = lr_factor * group["highest"]
        self.network.train()
        source, target = (torch.from_numpy(values).to(self.device) for values in (batch.source, batch.target))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=supports_fast_bfloat16(self.device)):
            outputs = self._compute(torch.from_numpy(batch.windows).to(self.device))
        terms, losses = self.objective(outputs, source, target)
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), 2.0)
        for optimizer in self.optimizers:
            optimizer.step()
        self.average.update(self.network, self.step)
        self.step, self.windows = self.step + 1, self.windows + len(batch.windows)
        self.hardness.update(batch, losses.detach().cpu().numpy())
        asked = target != NOT_ASKED
        right = (outputs["generated"][:, 0] > 0) == (target > 0.5)
        return {name: float(term.detach()) for name, term in terms.items()} | {
            "accuracy": float(right[asked].float().mean())
        }

    def objective(self, outputs: dict[str, Tensor], source: Tensor, target: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Return the weighted terms by name, and the detection loss of every window, float32[N].

        Args:
            outputs: the network's outputs for N windows.
            source: int64[N], set of each window.
            target: float32[N], as in `Batch`.
        """
        weights, smoothing = self.settings.weights, self.settings.label_smoothing
        wanted = target.clamp_min(0) * (1 - smoothing) + smoothing / 2
        losses = F.binary_cross_entropy_with_logits(outputs["generated"][:, 0].float(), wanted, reduction="none")
        terms = head_losses(outputs, source, self.targets, weights)
        # Sets without labels leave a mean over nothing.
        terms = {name: term.nan_to_num() for name, term in terms.items()}
        terms["generated"] = weights.generated * losses[target != NOT_ASKED].mean()
        named = (target != CAMERA) & ~self._mixed[source]
        terms["metric"] = weights.metric * supervised_contrastive_loss(outputs["embedding"][named], source[named])
        terms["fingerprint"] = weights.fingerprint * fingerprint_constraints(outputs["fingerprint"], weights)
        return terms, losses

    def save(self, file: Path) -> None:
        """Write a checkpoint, whole or not at all."""
        state = {
            "config": self.network.config.to_json(),
            "network": self.network.state_dict(),
            "average": self.average.network.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "hardness": torch.from_numpy(self.hardness.loss),
            "step": self.step,
            "seconds": self.seconds,
            "windows": self.windows,
        }
        temporary = file.with_suffix(".tmp")
        torch.save(state, temporary)
        temporary.replace(file)

    def resume(self, file: Path) -> None:
        """Continue from a checkpoint of `save`.

        Raises:
            ValueError: the checkpoint is of a network of another shape.
        """
        state = torch.load(file, map_location=self.device, weights_only=True)
        if NetworkConfig.from_json(state["config"]) != self.network.config:
            raise ValueError(
                f"checkpoint must have the network's shape, got {state['config']}; choose another folder than {file.parent}"
            )
        self.network.load_state_dict(state["network"])
        self.average.network.load_state_dict(state["average"])
        for optimizer, values in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(values)
        known = state["hardness"].numpy()[: len(self.hardness.loss)]
        self.hardness.loss[: len(known)] = known
        self.hardness.refresh()
        self.step, self.seconds, self.windows = state["step"], state["seconds"], state["windows"]


def targets_of(sets: list[PictureSet], labels: dict[str, Labels], device: torch.device) -> Targets:
    """Return the labels of all sets as tensors. Cameras have none; unknown labels are masked."""
    sources = [
        Generator(
            one.name,
            None if one.role == "camera" else labels.get(one.name, UNKNOWN),
            zoo=one.role == "zoo",
            split="train",
        )
        for one in sets
    ]
    return Targets.from_sources(sources, device)


def keep_freed_memory() -> None:
    """Let glibc keep freed memory, so that a step does not return gigabytes of pages to the system and fetch them again.

    On 2 cores, training at 128 pixels is 30% faster, and in eager mode by half. At 64 pixels there is no difference.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mmap_max, trim_threshold = -4, -1  # malloc.h
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, -1)
