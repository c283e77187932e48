"""Read the labels of a generator off its modules and one forward pass. The config is not used."""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor, nn

from training.labels import Labels
from training.zoo.blocks import Block, Concatenation, Sum

# Definition of each label. A test checks that none is missing.
DEFINITIONS: dict[str, str] = {
    "layers": "convolution, fully connected, pooling and normalisation layers that run in one pass; a layer that runs twice counts twice",
    "convolution_layers": "convolutions and transposed convolutions that run",
    "fully_connected_layers": "fully connected layers that run",
    "pooling_layers": "maximum, average and global pooling layers that run",
    "normalization_layers": "batch, instance and group normalisation layers that run",
    "filters": "output channels, summed over the convolutions that run",
    "blocks": "copies of the repeated block",
    "layers_per_block": "layers inside a block, mean over blocks",
    "parameters": "number of trainable values",
    "normalization": "the most frequent kind of normalisation layer",
    "last_nonlinearity": "nonlinearity after the last layer",
    "block_nonlinearity": "the most frequent nonlinearity inside blocks",
    "up_sampling": "the most frequent up-sampling; transposed convolutions count if their stride is above one",
    "down_sampling": "the most frequent down-sampling; convolutions count if their stride is above one",
    "skip_connections": "whether a sum or concatenation joins an earlier signal",
    "kernel_size": "the most frequent kernel size of convolutions that are not transposed",
    "latent_size": "channels of the generator's input if it is coarser than the picture, else 0",
    "losses": "losses that the training loop summed; a generator may have several",
}

_CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)
_POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d)
_NORMS: dict[type[nn.Module], str] = {nn.BatchNorm2d: "batch", nn.InstanceNorm2d: "instance", nn.GroupNorm: "group"}
_ACTIVATIONS: dict[type[nn.Module], str] = {
    nn.ReLU: "relu",
    nn.LeakyReLU: "leaky_relu",
    nn.ELU: "elu",
    nn.SiLU: "silu",
    nn.Tanh: "tanh",
    nn.Sigmoid: "sigmoid",
}


def _trace(module: nn.Module, given: Tensor) -> list[nn.Module]:
    """Return the leaf modules in the order in which they run."""
    ran: list[nn.Module] = []
    hooks = [
        part.register_forward_hook(lambda part, _args, _out: ran.append(part))
        for part in module.modules()
        if not list(part.children())
    ]
    was_training = module.training
    module.eval()
    with torch.no_grad():
        module(given)
    module.train(was_training)
    for hook in hooks:
        hook.remove()
    return ran


def _is_layer(part: nn.Module) -> bool:
    return isinstance(part, (*_CONVOLUTIONS, nn.Linear, *_POOLS, *_NORMS))


def _most_frequent(names: list[str]) -> str:
    return Counter(names).most_common(1)[0][0] if names else "none"


def _up_sampling(part: nn.Module) -> list[str]:
    if isinstance(part, nn.Upsample):
        return [part.mode]
    if isinstance(part, nn.PixelShuffle):
        return ["pixel_shuffle"]
    return ["transposed"] if isinstance(part, nn.ConvTranspose2d) and part.stride[0] > 1 else []


def _down_sampling(part: nn.Module) -> list[str]:
    if isinstance(part, nn.MaxPool2d):
        return ["max_pool"]
    if isinstance(part, nn.AvgPool2d):
        return ["average_pool"]
    return ["strided"] if isinstance(part, nn.Conv2d) and part.stride[0] > 1 else []


def inspect(generator: nn.Module, given: Tensor, family: str, losses: tuple[str, ...]) -> Labels:
    """Return the labels of a generator.

    Args:
        generator: trained module.
        given: input of one forward pass. A layer that runs twice counts twice.
        family: family of the generator.
        losses: losses that the training loop summed.
    """
    ran = _trace(generator, given)
    convolutions = [part for part in ran if isinstance(part, _CONVOLUTIONS)]
    blocks = [part for part in generator.modules() if isinstance(part, Block)]
    in_blocks = {id(leaf) for block in blocks for leaf in block.body if not list(leaf.children())}
    kernels = [str(part.kernel_size[0]) for part in convolutions if isinstance(part, nn.Conv2d)]
    last = _ACTIVATIONS.get(type(ran[-1]), "none")
    return Labels(
        family=family,
        continuous={
            "layers": sum(map(_is_layer, ran)),
            "convolution_layers": len(convolutions),
            "fully_connected_layers": sum(isinstance(part, nn.Linear) for part in ran),
            "pooling_layers": sum(isinstance(part, _POOLS) for part in ran),
            "normalization_layers": sum(type(part) in _NORMS for part in ran),
            "filters": sum(part.out_channels for part in convolutions),
            "blocks": len(blocks),
            "layers_per_block": sum(_is_layer(leaf) for block in blocks for leaf in block.modules())
            / max(1, len(blocks)),
            "parameters": sum(parameter.numel() for parameter in generator.parameters()),
        },
        discrete={
            "normalization": _most_frequent([_NORMS[type(part)] for part in ran if type(part) in _NORMS]),
            "last_nonlinearity": last if last in ("tanh", "sigmoid") else "none",
            "block_nonlinearity": _most_frequent(
                [_ACTIVATIONS[type(p)] for p in ran if id(p) in in_blocks and type(p) in _ACTIVATIONS]
            ),
            "up_sampling": _most_frequent([kind for part in ran for kind in _up_sampling(part)]),
            "down_sampling": _most_frequent([kind for part in ran for kind in _down_sampling(part)]),
            "skip_connections": "yes" if any(isinstance(part, (Sum, Concatenation)) for part in ran) else "no",
            "kernel_size": _most_frequent(kernels),
        },
        losses=losses,
    )


def latent_size(given: Tensor, side: int) -> int:
    """Return the channels of a generator's input float[1, C, h, w] if it is coarser than a picture of `side` pixels, else 0."""
    return given.shape[1] if given.shape[-1] < side else 0
