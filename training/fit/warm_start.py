"""Read and write the weights of networks, and start a network from those of a bundle.

Export folds batch norms into the layers before them. To train on, each folded layer gets its batch norm back: the channels are scaled to
unit norm, the statistics are measured on windows, and the norm's scale and shift restore the layer's output.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from training.model.network import Network, NetworkConfig

# Names from the exporter: the prefix of the network, and the suffix of a matrix that became a convolution.
PREFIX, MATRIX = "network.", "_kernel"

Norm = nn.BatchNorm1d | nn.BatchNorm2d


def initial_network(origin: Path | None, windows: np.ndarray) -> Network:
    """Return a network with random weights, or with those of a bundle's folder or of a file of weights.

    Args:
        origin: a bundle's folder, a checkpoint.pt, a network.safetensors, or None.
        windows: uint8[N, S, S, 3], from which the batch norms of a bundle's folded network take their statistics.
    """
    if origin is None:
        return Network(NetworkConfig())
    if origin.is_dir():
        network = Network(
            NetworkConfig.from_json(json.loads((origin / "bundle.json").read_text())["training"]["config"])
        )
        load_weights(network, (origin / "model.onnx").read_bytes(), windows)
        return network
    return load_network(origin)


def load_network(file: Path) -> Network:
    """Return the network of `save_network`, or the moving average of a checkpoint.pt, in evaluation mode, on the CPU."""
    if file.suffix == ".safetensors":
        with safe_open(file, "pt") as stored:
            config = json.loads(stored.metadata()["config"])
        values = {
            name: value.float() if value.is_floating_point() else value for name, value in load_file(file).items()
        }
    else:
        state = torch.load(file, map_location="cpu", weights_only=True)
        config, values = state["config"], state["average"]
    network = Network(NetworkConfig.from_json(config))
    network.load_state_dict({name: value for name, value in values.items() if not name.startswith("by_lines.")})
    return network.eval()


def training_facts(file: Path) -> dict[str, Any]:
    """Return what `save_network` stored of a network's training."""
    with safe_open(file, "pt") as stored:
        facts: dict[str, Any] = json.loads(stored.metadata()["training"])
    return facts


def save_network(network: Network, file: Path, training: Mapping[str, object]) -> None:
    """Write a network's weights in float16, its shape, and facts of its training. Training starts from them as well as from float32."""
    values = {
        name: (value.half() if value.is_floating_point() else value).cpu().contiguous()
        for name, value in network.state_dict().items()
    }
    metadata = {"config": json.dumps(network.config.to_json()), "training": json.dumps(training)}
    save_file(values, file, metadata)


def folded_weights(model: bytes) -> dict[str, Tensor]:
    """Return the folded weights and biases of a bundle's float32 ONNX file, by their names in the network."""
    weights = {}
    for value in onnx.load_from_string(model).graph.initializer:
        if value.name.startswith(PREFIX):
            name = value.name.removeprefix(PREFIX)
            array = np.array(numpy_helper.to_array(value))
            weights[name.removesuffix(MATRIX)] = torch.from_numpy(array[..., 0, 0] if name.endswith(MATRIX) else array)
    return weights


def batch_norms(network: nn.Module) -> dict[str, Norm]:
    """Return every batch norm by the name of the layer before it."""
    norms: dict[str, Norm] = {}
    for name, parent in network.named_modules():
        if isinstance(parent, nn.Sequential):
            for i, layer in enumerate(list(parent)[1:]):
                if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
                    norms[f"{name}.{i}"] = layer
    return norms


@torch.no_grad()
def load_weights(network: Network, model: bytes, windows: np.ndarray) -> None:
    """Load the weights of a bundle, so that the network computes the same in evaluation mode.

    Args:
        network: network to initialise.
        model: the bundle's float32 ONNX file.
        windows: uint8[N, S, S, 3], from which batch norms take their statistics.

    Raises:
        ValueError: a layer is missing in the file or has another shape.
    """
    folded = folded_weights(model)
    layers = {name: layer for name, layer in network.named_modules() if isinstance(layer, (nn.Conv2d, nn.Linear))}
    norms = batch_norms(network)
    for name, layer in layers.items():
        weight = folded.get(f"{name}.weight")
        if weight is None:
            raise ValueError(f"the file must be a network of `training.model.network`, but has no layer {name}")
        # The exporter omits a bias of zeros.
        bias = folded.get(f"{name}.bias", weight.new_zeros(len(weight)))
        if weight.shape != layer.weight.shape:
            raise ValueError(
                f"layer {name} must have shape {list(layer.weight.shape)}, got {list(weight.shape)}; set the widths of that network"
            )
        layer.weight.copy_(weight)
        if layer.bias is not None:
            layer.bias.zero_() if name in norms else layer.bias.copy_(bias)
        if name in norms:
            _unfold(layer, norms[name], weight, bias)
    _set_statistics(network, list(norms.values()), windows)


def _unfold(layer: nn.Conv2d | nn.Linear, norm: Norm, weight: Tensor, bias: Tensor) -> None:
    """Scale the channels of a layer to unit norm, and let its batch norm restore scale and bias.

    Folding gave every channel a different norm, and an optimizer would move large channels more slowly. Statistics are neutral until
    `_set_statistics` sets them.
    """
    mean, variance = _statistics(norm)
    norms = weight.flatten(1).norm(dim=1).clamp_min(1e-6)
    layer.weight.div_(norms.view(-1, *(1 for _ in weight.shape[1:])))
    mean.zero_()
    variance.fill_(1 - norm.eps)
    norm.weight.copy_(norms)
    norm.bias.copy_(bias)


def _statistics(norm: Norm) -> tuple[Tensor, Tensor]:
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None
    assert variance is not None
    return mean, variance


def _set_statistics(network: Network, norms: list[Norm], windows: np.ndarray) -> None:
    """Set the statistics of norms to those of their inputs, and their scale and shift so that outputs stay the same."""
    measured: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def measure(norm: nn.Module, inputs: tuple[Tensor]) -> None:
        x = inputs[0].transpose(0, 1).flatten(1)
        measured[norm] = (x.mean(1), x.var(1, unbiased=False))

    hooks = [norm.register_forward_pre_hook(measure) for norm in norms]
    network.eval()
    network(torch.from_numpy(windows))
    for hook in hooks:
        hook.remove()
    for norm in norms:
        if norm in measured:
            mean, variance = measured[norm]
            running_mean, running_variance = _statistics(norm)
            norm.bias.add_(norm.weight * mean)
            norm.weight.mul_((variance + norm.eps).sqrt())
            running_mean.copy_(mean)
            running_variance.copy_(variance)
