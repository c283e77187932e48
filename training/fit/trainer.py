"""A network while it learns: one step after another, from batches that others make."""

from __future__ import annotations

import copy
import ctypes
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from training.data.dataset import Generator
from training.device import supports_fast_bfloat16
from training.fit.losses import Proxies, Targets, Weights, detection_losses, training_losses
from training.fit.optimizer import Muon

# Muon's steps have the size of the layer, Adam's that of a weight.
MUON_LR_FACTOR = 10.0


class Average:
    """Exponential moving average of a network's values, batch-norm statistics included."""

    def __init__(self, network: nn.Module, decay: float = 0.995) -> None:
        self.network = copy.deepcopy(network).eval()
        self.decay = decay

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        for mine, theirs in zip(self.network.state_dict().values(), network.state_dict().values(), strict=True):
            if mine.dtype.is_floating_point:
                mine.lerp_(theirs, 1 - decay)
            else:
                mine.copy_(theirs)


@dataclass
class Best:
    """The moving average that validation scored highest so far: the mean of its figures there, the step, and the network's values."""

    score: float = -math.inf
    step: int = 0
    values: dict[str, Tensor] = field(default_factory=dict)

    def consider(self, figures: dict[str, float], step: int, average: Average) -> None:
        """Keep these values where they are no worse; without figures the latest are kept."""
        score = float(np.mean(list(figures.values()))) if figures else 0.0
        if score >= self.score:
            kept = {name: value.detach().clone() for name, value in average.network.state_dict().items()}
            self.score, self.step, self.values = score, step, kept


class Learner:
    """A network, where it is, with all that changes beside it: its moving average, the generators' proxies, the optimizers.

    Args:
        network: uint8 windows [N, S, S, 3] -> every raw output by name, as `Network`.
        sources: all there are.
        lr: the highest learning rate.
        muon: whether the weights of hidden layers are trained with it, or with AdamW as all others.
        compiled: whether TorchInductor makes the steps faster, which takes it a minute a size of windows and a C++ compiler.
        teachers: networks, which are brought to where it is, from whose mean logit it learns what is generated, in place of the labels:
            these are learnt by heart long before generators are told apart.
        hard_labels_for_zoo: whether it learns of the zoo's generators, which are many, from the labels all the same.
    """

    def __init__(
        self,
        network: nn.Module,
        sources: list[Generator],
        *,
        lr: float,
        weights: Weights,
        muon: bool = True,
        compiled: bool = False,
        teachers: Sequence[nn.Module] = (),
        hard_labels_for_zoo: bool = False,
    ) -> None:
        keep_freed_memory()
        # What is computed in float32 is that because the traces are finer than ten bits.
        torch.backends.cudnn.allow_tf32 = False
        self.network, self.weights = network, weights
        self.device = next(network.parameters()).device
        self.average = Average(network)
        self.targets = Targets.from_sources(sources, self.device)
        labelled = [hard_labels_for_zoo and source.zoo and source.labels is not None for source in sources]
        self._labelled = torch.tensor(labelled, device=self.device)
        self.proxies = Proxies(sources, network.config.embedding).to(self.device)
        self.optimizers = optimizers_of(network, lr, muon, self.proxies)
        self.steps = 0
        placed = [teacher.to(self.device, memory_format=torch.channels_last) for teacher in teachers]
        self._compute, *self._teachers = (
            torch.compile(one, dynamic=False) if compiled else one for one in (network, *placed)
        )

    @property
    def hardware(self) -> str:
        """What it learns on, in words."""
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else f"{os.cpu_count()} CPU cores"

    def step(
        self, windows: np.ndarray | Tensor, source: np.ndarray, share: float
    ) -> tuple[dict[str, float], np.ndarray]:
        """Learn from windows, uint8[N, S, S, 3], of these sources, int64[N], at this share of the highest rate.

        Returns every weighted term of the objective by name, and each window's detection loss, float32[N].
        """
        for group in (group for optimizer in self.optimizers for group in optimizer.param_groups):
            group["lr"] = share * group["highest"]
        self.network.train()
        origins = torch.from_numpy(source).to(self.device)
        seen = torch.as_tensor(windows).to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=supports_fast_bfloat16(self.device)):
            outputs = self._compute(seen)
        taught = self._taught(seen, origins)
        terms: dict[str, Tensor] = training_losses(outputs, origins, self.targets, self.weights, self.proxies, taught)
        missed = detection_losses(outputs, origins, self.targets).detach().cpu().numpy()
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        torch.stack(list(terms.values())).sum().backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 2.0)
        for optimizer in self.optimizers:
            optimizer.step()
        self.average.update(self.network, self.steps)
        self.steps += 1
        return {name: float(term.detach()) for name, term in terms.items()}, missed

    @torch.no_grad()
    def _taught(self, windows: Tensor, origins: Tensor) -> Tensor | None:
        """How likely the teachers take each window for generated, or what the labels say, float32[N]; None without teachers."""
        if not self._teachers:
            return None
        with torch.autocast(self.device.type, torch.bfloat16, enabled=supports_fast_bfloat16(self.device)):
            logits = [teacher(windows)["generated"][:, 0].float() for teacher in self._teachers]
        said = torch.stack(logits).mean(0).sigmoid()
        return torch.where(self._labelled[origins], self.targets.generated[origins], said)

    def state(self) -> dict[str, Any]:
        """All that `restore` needs; tensors and plain values."""
        return {
            "network": self.network.state_dict(),
            "proxies": self.proxies.state_dict(),
            "average": self.average.network.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "step": self.steps,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from where `state` was taken."""
        self.network.load_state_dict(state["network"])
        self.proxies.load_state_dict(state["proxies"])
        self.average.network.load_state_dict(state["average"])
        for optimizer, kept in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
        self.steps = state["step"]


def keep_freed_memory() -> None:
    """Where the C library is glibc, have it keep what is freed for the next step, and not return and fetch gigabytes of pages in each.

    Worth 30 % of the speed at 128 pixels on 2 cores, and half in eager mode; nothing at 64.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mmap_max, trim_threshold = -4, -1  # malloc.h
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, -1)


def optimizers_of(
    network: nn.Module, lr: float, muon: bool = True, proxies: Proxies | None = None
) -> list[torch.optim.Optimizer]:
    """Muon, where wanted, for the weights of hidden layers; AdamW at `lr` for the answers' layers, norms, biases and proxies.

    Each group knows its `highest` rate.
    """
    hidden, answers, plain = [], [], []
    for name, value in network.named_parameters():
        if not value.requires_grad:
            continue
        of_answer = name.startswith(("heads.", "embedding."))
        (plain if value.ndim < 2 else answers if of_answer or not muon else hidden).append(value)
    # Only their direction counts: to shrink them would be to move them faster.
    plain += [] if proxies is None else list(proxies.parameters())
    adam = torch.optim.AdamW([{"params": answers, "weight_decay": 0.02}, {"params": plain, "weight_decay": 0.0}], lr)
    # A fifth of a small step's time went into Muon's products in float32.
    fast = supports_fast_bfloat16(next(network.parameters()).device)
    of_hidden = [Muon(hidden, MUON_LR_FACTOR * lr, precision=torch.bfloat16 if fast else torch.float32)] if muon else []
    optimizers: list[torch.optim.Optimizer] = [*of_hidden, adam]
    for group in (group for optimizer in optimizers for group in optimizer.param_groups):
        group["highest"] = group["lr"]
    return optimizers
