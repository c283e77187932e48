"""Training steps of a network, and the state that they change."""

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
from training.device import supports_fast_bfloat16, to_channels_last
from training.fit.losses import Proxies, Targets, Weights, detection_losses, training_losses
from training.fit.optimizer import Muon

# Learning rate of Muon in relation to AdamW's. A step of Muon scales with the layer, one of AdamW with a weight.
MUON_LR_FACTOR = 10.0


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


@dataclass
class Best:
    """The moving average with the highest validation score so far.

    Attributes:
        score: mean of the validation scores.
        step: step at which the values were taken.
        values: state dict of the network.
    """

    score: float = -math.inf
    step: int = 0
    values: dict[str, Tensor] = field(default_factory=dict)

    def consider(self, scores: dict[str, float], step: int, average: Average) -> None:
        """Keep the values of an average if its mean score is at least the highest. Without scores, the latest values are kept."""
        score = float(np.mean(list(scores.values()))) if scores else 0.0
        if score >= self.score:
            values = {name: value.detach().clone() for name, value in average.network.state_dict().items()}
            self.score, self.step, self.values = score, step, values


class Trainer:
    """Trains a network on its device, and keeps its moving average, the proxies of generators and the optimizers.

    Args:
        network: maps windows uint8[N, S, S, 3] to raw outputs by name. Its `config.embedding` is the size of the embedding.
        sources: all sources of the collection.
        lr: peak learning rate.
        weights: weights of the losses.
        muon: train weights of hidden layers with Muon. Otherwise AdamW trains all weights.
        compiled: compile the network with TorchInductor. Takes about a minute per window size, and a C++ compiler.
        teachers: networks whose mean logit replaces the labels of detection. Labels are memorised long before generators are told apart.
        hard_labels_for_zoo: use labels for zoo generators even with teachers, because there are many of them.
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
        # The traces are finer than the ten bits of TF32.
        torch.backends.cudnn.allow_tf32 = False
        self.network, self.weights = network, weights
        self.device = next(network.parameters()).device
        self.average = Average(network)
        self.targets = Targets.from_sources(sources, self.device)
        use_labels = [hard_labels_for_zoo and source.zoo and source.labels is not None for source in sources]
        self._use_labels = torch.tensor(use_labels, device=self.device)
        config: Any = network.config
        self.proxies = Proxies(sources, config.embedding).to(self.device)
        self.optimizers = build_optimizers(network, lr, muon, self.proxies)
        self.steps = 0
        networks = [network, *(to_channels_last(teacher, self.device) for teacher in teachers)]
        self._compute, *self._teachers = (
            torch.compile(module, dynamic=False) if compiled else module for module in networks
        )

    @property
    def hardware(self) -> str:
        """Name of the GPU, or number of CPU cores."""
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else f"{os.cpu_count()} CPU cores"

    def step(
        self, windows: np.ndarray | Tensor, source: np.ndarray, lr_factor: float
    ) -> tuple[dict[str, float], np.ndarray]:
        """Take one training step.

        Args:
            windows: uint8[N, S, S, 3].
            source: source of each window, int64[N].
            lr_factor: learning rate as a fraction of the peak.

        Returns:
            The weighted losses by name, and the detection loss of each window, float32[N].
        """
        for group in (group for optimizer in self.optimizers for group in optimizer.param_groups):
            group["lr"] = lr_factor * group["highest"]
        self.network.train()
        sources = torch.from_numpy(source).to(self.device)
        batch = torch.as_tensor(windows).to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=supports_fast_bfloat16(self.device)):
            outputs = self._compute(batch)
        soft_labels = self._soft_labels(batch, sources)
        terms = training_losses(outputs, sources, self.targets, self.weights, self.proxies, soft_labels)
        detection = detection_losses(outputs, sources, self.targets).detach().cpu().numpy()
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(torch.stack(list(terms.values())).sum())
        nn.utils.clip_grad_norm_(self.network.parameters(), 2.0)
        for optimizer in self.optimizers:
            optimizer.step()
        self.average.update(self.network, self.steps)
        self.steps += 1
        return {name: float(term.detach()) for name, term in terms.items()}, detection

    @torch.no_grad()
    def _soft_labels(self, windows: Tensor, sources: Tensor) -> Tensor | None:
        """Return the detection targets, float32[N], from the teachers or the labels. None without teachers."""
        if not self._teachers:
            return None
        with torch.autocast(self.device.type, torch.bfloat16, enabled=supports_fast_bfloat16(self.device)):
            logits = [teacher(windows)["generated"][:, 0].float() for teacher in self._teachers]
        probability = torch.stack(logits).mean(0).sigmoid()
        return torch.where(self._use_labels[sources], self.targets.generated[sources], probability)

    def state(self) -> dict[str, Any]:
        """Return the state for `restore`, as tensors and plain values."""
        return {
            "network": self.network.state_dict(),
            "proxies": self.proxies.state_dict(),
            "average": self.average.network.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "step": self.steps,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Restore the result of `state`."""
        self.network.load_state_dict(state["network"])
        self.proxies.load_state_dict(state["proxies"])
        self.average.network.load_state_dict(state["average"])
        for optimizer, values in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(values)
        self.steps = state["step"]


def keep_freed_memory() -> None:
    """Let glibc keep freed memory, so that a step does not return gigabytes of pages to the system and fetch them again.

    On 2 cores, training at 128 pixels is 30% faster, and in eager mode by half. At 64 pixels there is no difference.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mmap_max, trim_threshold = -4, -1  # malloc.h
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, -1)


def build_optimizers(
    network: nn.Module, lr: float, muon: bool = True, proxies: Proxies | None = None
) -> list[torch.optim.Optimizer]:
    """Return the optimizers: Muon for weights of hidden layers, and AdamW for output layers, norms, biases and proxies.

    Each parameter group stores its peak learning rate as "highest".

    Args:
        network: network to train.
        lr: peak learning rate of AdamW.
        muon: use Muon. Otherwise AdamW trains the hidden layers too.
        proxies: proxies of generators, if any.
    """
    hidden: list[Tensor] = []
    decayed: list[Tensor] = []
    not_decayed: list[Tensor] = []
    for name, value in network.named_parameters():
        if not value.requires_grad:
            continue
        if value.ndim < 2:
            not_decayed.append(value)
        elif name.startswith(("heads.", "embedding.")) or not muon:
            decayed.append(value)
        else:
            hidden.append(value)
    # Only the direction of a proxy matters. Weight decay would shrink proxies, which raises their effective learning rate.
    not_decayed += [] if proxies is None else list(proxies.parameters())
    groups = [{"params": decayed, "weight_decay": 0.02}, {"params": not_decayed, "weight_decay": 0.0}]
    optimizers: list[torch.optim.Optimizer] = []
    if muon:
        # In float32, Muon's matrix products took a fifth of the time of a small step.
        fast = supports_fast_bfloat16(next(network.parameters()).device)
        precision = torch.bfloat16 if fast else torch.float32
        optimizers.append(Muon(hidden, MUON_LR_FACTOR * lr, precision=precision))
    optimizers.append(torch.optim.AdamW(groups, lr))
    for group in (group for optimizer in optimizers for group in optimizer.param_groups):
        group["highest"] = group["lr"]
    return optimizers
