"""Muon, an optimizer for hidden layers (Keller Jordan, 2024, https://kellerjordan.github.io/posts/muon).

It orthogonalizes the momentum of each weight matrix. Every direction of a layer then moves equally far, and not only the few with
large gradients. PyTorch's own Muon accepts matrices only. This one flattens convolution weights to [output channels, inputs].
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

# Coefficients of the Newton-Schulz polynomial. Five iterations bring all singular values into 0.7 to 1.2.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5


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
