"""Initialise a network from a bundle or from a network.pt.

Export folds batch norms into the layers before them. To train on, each folded layer gets its batch norm back: the channels are scaled to
unit norm, the statistics are measured on windows, and the norm's scale and shift restore the layer's output.
"""

from __future__ import annotations

import json
from pathlib import Path

import click
import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from edgeparse.bundle import open_bundle
from training.data.dataset import Collection, crop, random_subset
from training.model.network import Network

# Names from the exporter: the prefix of the network, and the suffix of a matrix that became a convolution.
PREFIX, MATRIX = "network.", "_kernel"
# Layers of the embedding, which are fitted last.
EMBEDDING_LAYERS = ("compared.", "embedding.")
# Training windows from which batch norms take their statistics.
STATISTICS_WINDOWS = 64
# Values for older bundles and network.pt files, which lack these fields.
TRAINING_DEFAULTS: dict[str, object] = {
    "head_epochs": 0,
    "strong_head_epochs": 0,
    "online_augment": False,
    "strong": 0.0,
    "teacher": [],
    "hard_labels_for_zoo": False,
}

Norm = nn.BatchNorm1d | nn.BatchNorm2d


def initialize_from(
    network: Network, origin: Path, collection: Collection, new_embedding: bool = False
) -> dict[str, object]:
    """Load the weights of an earlier network.

    Args:
        network: network to initialise.
        origin: folder of a bundle, or a network.pt.
        collection: data of the training. No public generator may have changed its split since `origin` was trained.
        new_embedding: keep the network's own weights of embedding layers whose shape differs.

    Returns:
        Facts about the earlier training, for the next bundle.

    Raises:
        click.ClickException: the architecture or the split of a generator differs.
    """
    bundle = None if origin.is_file() else open_bundle(origin)
    if bundle is None:
        stored = torch.load(origin, map_location="cpu", weights_only=True)
    else:
        stored = json.loads((origin / "bundle.json").read_text())["training"]
    splits = {
        source.name: source.split for source in collection.sources if source.labels is not None and not source.zoo
    }
    if moved := sorted(name for name, split in splits.items() if stored["generators"].get(name, split) != split):
        raise click.ClickException(
            f"{origin} was trained with other splits of these generators: {', '.join(moved)}; "
            "train without --init-from, or restore their splits"
        )
    try:
        if bundle is None:
            values = stored["network"]
            network.load_state_dict(matching_weights(network, values) if new_embedding else values)
        else:
            rng = np.random.default_rng(0)
            samples = random_subset(collection.select(split="train", zoo=True, camera=True), STATISTICS_WINDOWS, rng)
            windows = np.stack([crop(sample.pixels, rng) for sample in samples])
            load_weights(network, bundle.read(bundle.variants["fp32"]), windows, new_embedding)
    except (ValueError, RuntimeError) as error:
        raise click.ClickException(f"{origin}: {error}") from error
    # An earlier zoo may have had other generators under the same names, so only their number is kept.
    zoo = {name: split for name, split in stored["generators"].items() if name not in splits}
    return {
        "bundle": bundle and bundle.label,
        **{key: stored[key] for key in ("steps", "minutes", "hardware")},
        **{key: stored.get(key, default) for key, default in TRAINING_DEFAULTS.items()},
        "zoo_generators": stored.get("zoo_generators", sum(split == "train" for split in zoo.values())),
        "init_from": stored.get("init_from"),
    }


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
def load_weights(network: Network, model: bytes, windows: np.ndarray, new_embedding: bool = False) -> None:
    """Load the weights of a bundle, so that the network computes the same in evaluation mode.

    Args:
        network: network to initialise.
        model: the bundle's float32 ONNX file.
        windows: uint8[N, S, S, 3], from which batch norms take their statistics.
        new_embedding: keep the network's own weights of embedding layers whose shape differs.

    Raises:
        ValueError: a layer is missing in the file or has another shape.
    """
    folded = folded_weights(model)
    layers = {name: layer for name, layer in network.named_modules() if isinstance(layer, (nn.Conv2d, nn.Linear))}
    norms = batch_norms(network)
    for name, layer in layers.items():
        # Older networks have no hidden layer for the embedding; it then starts as the layer they shared.
        stored_name = "hidden.0" if name == "compared.0" and f"{name}.weight" not in folded else name
        weight = folded.get(f"{stored_name}.weight")
        if weight is None:
            raise ValueError(f"the file must be a network of `training.model.network`, but has no layer {name}")
        # The exporter omits a bias of zeros.
        bias = folded.get(f"{stored_name}.bias", weight.new_zeros(len(weight)))
        in_embedding = f"{name}.".startswith(EMBEDDING_LAYERS)
        if weight.shape != layer.weight.shape:
            if new_embedding and in_embedding:
                continue
            advice = ", or refit the embedding (--head-epochs)" if in_embedding else ""
            raise ValueError(
                f"layer {name} must have shape {list(layer.weight.shape)}, got {list(weight.shape)}; "
                f"set the widths of that network{advice}"
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


def matching_weights(network: Network, values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return another network's values, with the network's own for embedding layers whose shape differs."""
    own = network.state_dict()
    return {
        name: own[name]
        if name.startswith(EMBEDDING_LAYERS) and name in own and own[name].shape != value.shape
        else value
        for name, value in values.items()
    }


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
