"""Begin a training where a bundle ends: its ONNX weights, back in a network that can be trained.

At export batch norms are folded into the layers before them. A folded layer whose channels are brought to one size computes the same
with a batch norm behind it whose statistics are those of its output and whose scale and shift undo both; so it can go on learning.
"""

from __future__ import annotations

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from training.model.network import Network

# Of the exporter: the network's own name, and what a matrix product is called that became a convolution.
PREFIX, MATRIX = "network.", "_kernel"
# What is learnt anew by itself wherever a network is only learnt on in passes.
ANEW = ("compared.", "embedding.")


def weights_of(model: bytes) -> dict[str, Tensor]:
    """The folded weights and biases of a bundle's float32 ONNX file, under the names that the network has for them."""
    found = {}
    for value in onnx.load_from_string(model).graph.initializer:
        if value.name.startswith(PREFIX):
            name = value.name.removeprefix(PREFIX)
            array = np.array(numpy_helper.to_array(value))
            found[name.removesuffix(MATRIX)] = torch.from_numpy(array[..., 0, 0] if name.endswith(MATRIX) else array)
    return found


def batch_norms(network: nn.Module) -> dict[str, nn.Module]:
    """Every batch norm, by the name of the layer before it."""
    norms = {}
    for name, parent in network.named_modules():
        if isinstance(parent, nn.Sequential):
            for i in range(len(parent) - 1):
                if isinstance(parent[i + 1], (nn.BatchNorm1d, nn.BatchNorm2d)):
                    norms[f"{name}.{i}"] = parent[i + 1]
    return norms


@torch.no_grad()
def load_weights(network: Network, model: bytes, windows: np.ndarray, anew: bool = False) -> None:
    """Give a network the weights of a bundle's float32 ONNX file, so that in evaluation mode it computes the same.

    Args:
        windows: uint8[N, S, S, 3], from which the batch norms take their statistics.
        anew: whether layers of the embedding that have another shape there keep the weights that they have.

    Raises:
        ValueError: a layer is missing in the file or has another shape: the two networks differ in more than that.
    """
    folded = weights_of(model)
    layers = {name: layer for name, layer in network.named_modules() if isinstance(layer, (nn.Conv2d, nn.Linear))}
    norms = batch_norms(network)
    for name, layer in layers.items():
        # From before the embedding had a hidden layer of its own, it goes on with the one that it shared.
        there = "hidden.0" if name == "compared.0" and f"{name}.weight" not in folded else name
        weight = folded.get(f"{there}.weight")
        if weight is None:
            raise ValueError(
                f"the file has no layer {name}: it is no network of `training.model.network`; begin from another bundle"
            )
        # The exporter leaves out a bias that is zero.
        bias = folded.get(f"{there}.bias", weight.new_zeros(len(weight)))
        learnt_last = f"{name}.".startswith(ANEW)
        if weight.shape != layer.weight.shape:
            if anew and learnt_last:
                continue
            raise ValueError(
                f"layer {name} is {list(weight.shape)}, not {list(layer.weight.shape)}; give the widths of that network"
                + (", or learn the embedding anew (--head-epochs)" if learnt_last else "")
            )
        layer.weight.copy_(weight)
        if layer.bias is not None:
            layer.bias.zero_() if name in norms else layer.bias.copy_(bias)
        if name in norms:
            # Folding left every channel with a size of its own, at which an optimizer would move it the slower. Until its statistics are
            # known the norm does no more than give the sizes back and add the bias.
            norm = norms[name]
            sizes = weight.flatten(1).norm(dim=1).clamp_min(1e-6)
            layer.weight.div_(sizes.view(-1, *(1 for _ in weight.shape[1:])))
            norm.running_mean.zero_()
            norm.running_var.fill_(1 - norm.eps)
            norm.weight.copy_(sizes)
            norm.bias.copy_(bias)
    _take_statistics(network, list(norms.values()), windows)


def fitting(network: Network, values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Another network's values, but for those of the embedding that have another shape there: the network's own."""
    own = network.state_dict()
    return {
        name: own[name] if name.startswith(ANEW) and name in own and own[name].shape != value.shape else value
        for name, value in values.items()
    }


def _take_statistics(network: Network, norms: list[nn.Module], windows: np.ndarray) -> None:
    """Set every norm's statistics to those of what reaches it, and its scale and shift so that it computes what it did."""
    seen: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def look(norm: nn.Module, inputs: tuple[Tensor]) -> None:
        x = inputs[0].transpose(0, 1).flatten(1)
        seen[norm] = (x.mean(1), x.var(1, unbiased=False))

    hooks = [norm.register_forward_pre_hook(look) for norm in norms]
    network.eval()
    network(torch.from_numpy(windows))
    for hook in hooks:
        hook.remove()
    for norm, (mean, variance) in seen.items():
        norm.bias.add_(norm.weight * mean)
        norm.weight.mul_((variance + norm.eps).sqrt())
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
