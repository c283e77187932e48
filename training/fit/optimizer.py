"""Muon, an optimizer for hidden layers (Keller Jordan, 2024, https://kellerjordan.github.io/posts/muon): momentum whose matrix is made
orthogonal, so that every direction of a layer moves equally far and not only the few in which the gradient is large.

PyTorch's own takes matrices only; convolutions are matrices of output channels by everything that one output reads.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

# Of the polynomial whose iteration brings every singular value to about 1; after the fifth all lie in 0.7 to 1.2.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5


def orthogonal(matrix: Tensor, precision: torch.dtype = torch.float32) -> Tensor:
    """The nearest matrix whose singular values are all about 1: float[M, N] -> the same shape and type, computed in `precision`."""
    a, b, c = COEFFICIENTS
    wide = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = (wide / (wide.norm() + 1e-7)).to(precision)
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.T if matrix.shape[0] > matrix.shape[1] else x).to(matrix.dtype)


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, made orthogonal in `precision`; weights [outputs, ...] of two or more dimensions. Weight decay is decoupled."""

    def __init__(
        self,
        values: Iterable[Tensor],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.02,
        precision: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(values, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.precision = precision

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step from the gradients that are there."""
        for group in self.param_groups:
            for value in group["params"]:
                if value.grad is None:
                    continue
                state = self.state[value]
                average = state.setdefault("average", torch.zeros_like(value))
                average.lerp_(value.grad, 1 - group["momentum"])
                update = orthogonal(value.grad.lerp(average, group["momentum"]).flatten(1), self.precision)
                # A layer with more outputs than inputs moves each output as far as a square one does.
                update *= max(1.0, update.shape[0] / update.shape[1]) ** 0.5
                value.mul_(1 - group["lr"] * group["weight_decay"])
                value.sub_(update.view_as(value), alpha=group["lr"])
