"""A trained network -> ONNX, and proof that ONNX Runtime computes what PyTorch computed."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from export.onnx_rewrite import copied, gemm_as_convolution
from training.model.network import WINDOW, Network

TOLERANCE = 1e-4
_Module = TypeVar("_Module", bound=nn.Module)


class _Ordered(nn.Module):
    """The network with its outputs as a tuple, in the order of `names`."""

    def __init__(self, network: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.network, self.names = network, names

    def forward(self, windows: Tensor) -> tuple[Tensor, ...]:
        outputs = self.network(windows)
        return tuple(outputs[name] for name in self.names)


def fold_batch_norm(network: _Module) -> _Module:
    """A copy in evaluation mode whose batch norms are folded into the layers before them."""
    network = copy.deepcopy(network).eval()
    for parent in network.modules():
        if isinstance(parent, nn.Sequential):
            for i in range(len(parent) - 1):
                layer, norm = parent[i], parent[i + 1]
                if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                    parent[i], parent[i + 1] = fuse_conv_bn_eval(layer, norm), nn.Identity()
                elif isinstance(layer, nn.Linear) and isinstance(norm, nn.BatchNorm1d):
                    parent[i], parent[i + 1] = fuse_linear_bn_eval(layer, norm), nn.Identity()
    return network


@torch.no_grad()
def with_short_weights(network: Network) -> Network:
    """A copy, batch norms folded, whose convolutions have weights of seven significant bits and whose fully connected layers of five.

    More is noise of the training, which no wheel compresses: with it default-11's was 16.4 MB, where `tests/test_bundle.py` lets 12 pass.
    What rounding adds is a three hundredth of the convolutions' weights and a seventy-fifth of the others.
    What reads the pixels first, whose traces are their last bits, is left as it is.
    """
    network = fold_batch_norm(network)
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)) and layer is not network.fen.stem[0]:
            layer.weight.copy_(_rounded(layer.weight, 5 if isinstance(layer, nn.Linear) else 7))
    return network


def _rounded(weights: Tensor, bits: int) -> Tensor:
    """The nearest numbers with so many significant bits."""
    mantissa, exponent = torch.frexp(weights)
    return torch.ldexp((mantissa * 2**bits).round(), exponent - bits)


def with_constants(model: onnx.ModelProto, network: Network) -> onnx.ModelProto:
    """A copy of an exported network's file with the constants that such a network has today, which no training changes.

    Raises:
        ValueError: the file lacks one, or has it in another shape: it is of another network.
    """
    model = copied(model)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    saved = network.state_dict()
    for name, constant in network.named_buffers():
        if name in saved:
            continue  # learnt: a batch norm's statistics
        tensor = tensors.get(f"network.{name}")
        if tensor is None or list(tensor.dims) != list(constant.shape):
            raise ValueError(
                f"the file has no constant {name} of the shape {list(constant.shape)}; it is of another network"
            )
        tensor.CopyFrom(numpy_helper.from_array(constant.numpy(), tensor.name))
    return model


def output_names(network: Network) -> list[str]:
    """Every output of the network, in the order of the contract."""
    return ["fingerprint", "embedding", *network.heads]


def export(network: nn.Module, names: Sequence[str], path: Path, size: int = WINDOW) -> None:
    """Write these outputs of a network, batch norms folded, as ONNX with uint8 `windows` [N, size, size, 3], N dynamic."""
    write(_Ordered(fold_batch_norm(network), names).eval(), names, size, path)


def write(module: nn.Module, names: Sequence[str], size: int, path: Path) -> None:
    """Write a module from uint8 [N, size, size, 3] to a tuple of outputs as ONNX, N dynamic."""
    program = torch.onnx.export(
        module,
        (torch.randint(0, 256, (2, size, size, 3), dtype=torch.uint8),),
        input_names=["windows"],
        output_names=list(names),
        dynamic_shapes=({0: torch.export.Dim("N", min=1, max=4096)},),
        opset_version=20,
        dynamo=True,
        optimize=True,
        verbose=False,
    )
    assert program is not None
    program.save(path)
    model = onnx.load(path)
    # Traces of the exporter: file names and line numbers of the machine it ran on.
    for node in model.graph.node:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        value.ClearField("metadata_props")
    model.graph.ClearField("metadata_props")
    onnx.save(gemm_as_convolution(model), path)


def parity(network: Network, path: Path, windows: np.ndarray) -> dict[str, float]:
    """Largest absolute difference of each output between PyTorch and ONNX Runtime, relative to the output's largest value.

    Raises:
        ValueError: one is above 1e-4.
    """
    return differences(_Ordered(network, output_names(network)).eval(), output_names(network), path, windows)


def differences(module: nn.Module, names: list[str], path: Path, windows: np.ndarray) -> dict[str, float]:
    """As `parity`, for any module that gives a tuple of outputs."""
    with torch.no_grad():
        expected = dict(zip(names, module(torch.from_numpy(windows)), strict=True))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    got = dict(zip(names, session.run(names, {"windows": windows}), strict=True))
    errors = {}
    for name in names:
        reference = expected[name].numpy()
        errors[name] = float(np.abs(got[name] - reference).max() / max(np.abs(reference).max(), 1e-6))
    worst = max(errors, key=lambda name: errors[name])
    if errors[worst] > TOLERANCE:
        raise ValueError(
            f"{path}: output {worst} differs from PyTorch by {errors[worst]:.2e} of its scale, more than {TOLERANCE}"
        )
    return errors
