"""Muon, an optimizer for hidden layers (Keller Jordan, 2024, https://kellerjordan.github.io/posts/muon).

It orthogonalizes the momentum of each weight matrix. Every direction of a layer then moves equally far, and not only the few with
large gradients. PyTorch's own Muon accepts matrices only. This one flattens convolution weights to [output channels, inputs].
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from training.device import supports_fast_bfloat16

# Coefficients of the Newton-Schulz polynomial. Five iterations bring all singular values into 0.7 to 1.2.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5
# Learning rate of Muon in relation to AdamW's. A step of Muon scales with the layer, one of AdamW with a weight.
MUON_LR_FACTOR = 10.0


def orthogonalize(matrix: Tensor, precision: torch.dtype = torch.float32) -> Tensor:
    """Return the nearest matrix whose singular values are all about 1.

    Args:
        matrix: float[M, N].
        precision: dtype of the computation; the result has the shape and dtype of `matrix`.
    """
    a, b, c = COEFFICIENTS
    wide = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = (wide / (wide.norm() + 1e-7)).to(precision)
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    result: Tensor = (x.T if matrix.shape[0] > matrix.shape[1] else x).to(matrix.dtype)
    return result


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalized, with decoupled weight decay.

    Args:
        params: weights [outputs, ...] with at least two dimensions.
        lr: learning rate.
        momentum: decay of the moving average of the gradient.
        weight_decay: weight decay, scaled by the learning rate.
        precision: dtype in which the update is orthogonalized.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.02,
        precision: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.precision = precision

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every weight that has a gradient."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                average = state.setdefault("average", torch.zeros_like(weight))
                average.lerp_(weight.grad, 1 - group["momentum"])
                update = orthogonalize(weight.grad.lerp(average, group["momentum"]).flatten(1), self.precision)
                # Scales tall matrices so that each output moves as far as in a square layer.
                update *= max(1.0, update.shape[0] / update.shape[1]) ** 0.5
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.sub_(update.view_as(weight), alpha=group["lr"])


def build_optimizers(network: nn.Module, lr: float, weight_decay: float) -> list[torch.optim.Optimizer]:
    """Return the optimizers: Muon for weights of hidden layers, and AdamW for output layers, norms and biases.

    Each parameter group stores its peak learning rate as "highest".

    Args:
        network: network to train.
        lr: peak learning rate of AdamW.
        weight_decay: decay of all weights but norms and biases, scaled by the learning rate.
    """
    hidden: list[Tensor] = []
    decayed: list[Tensor] = []
    not_decayed: list[Tensor] = []
    for name, value in network.named_parameters():
        if not value.requires_grad:
            continue
        if value.ndim < 2:
            not_decayed.append(value)
        elif name.startswith(("heads.", "embedding.")):
            decayed.append(value)
        else:
            hidden.append(value)
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": not_decayed, "weight_decay": 0.0}]
    # In float32, Muon's matrix products took a fifth of the time of a small step.
    fast = supports_fast_bfloat16(next(network.parameters()).device)
    precision = torch.bfloat16 if fast else torch.float32
    optimizers: list[torch.optim.Optimizer] = [
        Muon(hidden, MUON_LR_FACTOR * lr, weight_decay=weight_decay, precision=precision),
        torch.optim.AdamW(groups, lr),
    ]
    for group in (group for optimizer in optimizers for group in optimizer.param_groups):
        group["highest"] = group["lr"]
    return optimizers
