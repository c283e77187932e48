"""Export a trained network to ONNX and check that ONNX Runtime computes what PyTorch computes."""

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

from export.graph_passes import gemm_to_conv
from export.graph_utils import copy_model
from training.model.network import WINDOW, Network

# Largest difference between PyTorch and ONNX Runtime, relative to the output's largest value.
TOLERANCE = 1e-4
# Significant bits that weights keep in the shipped files.
CONVOLUTION_BITS, LINEAR_BITS = 7, 5
_Module = TypeVar("_Module", bound=nn.Module)


class _TupleOutputs(nn.Module):
    """The network with the named outputs as a tuple."""

    def __init__(self, network: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.network, self.names = network, names

    def forward(self, windows: Tensor) -> tuple[Tensor, ...]:
        outputs = self.network(windows)
        return tuple(outputs[name] for name in self.names)


def fold_batch_norm(network: _Module) -> _Module:
    """Return a copy in evaluation mode with batch norms folded into the preceding layers."""
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
def round_weights(network: Network) -> Network:
    """Return a copy with folded batch norms and weights rounded to few significant bits, so that the wheel compresses.

    Further bits are training noise; with them, the wheel of default-11 had 16.4 MB, and a test allows 12. Rounding adds
    1/300 of a convolution's weights and 1/75 of a linear layer's. The stem, which reads pixels, keeps every bit.
    """
    network = fold_batch_norm(network)
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)) and layer is not network.fen.stem[0]:
            bits = LINEAR_BITS if isinstance(layer, nn.Linear) else CONVOLUTION_BITS
            layer.weight.copy_(_rounded(layer.weight, bits))
    return network


def _rounded(weights: Tensor, bits: int) -> Tensor:
    """Round to the nearest values with this many significant bits."""
    mantissa, exponent = torch.frexp(weights)
    return torch.ldexp((mantissa * 2**bits).round(), exponent - bits)


def with_constants(model: onnx.ModelProto, network: Network) -> onnx.ModelProto:
    """Return a copy of an exported file with the constants that today's code gives the network.

    Constants are buffers that are not trained, such as filter kernels.

    Raises:
        ValueError: The file lacks a constant, or has it in another shape.
    """
    model = copy_model(model)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    trained = network.state_dict()
    for name, constant in network.named_buffers():
        if name in trained:
            continue
        tensor = tensors.get(f"network.{name}")
        if tensor is None or list(tensor.dims) != list(constant.shape):
            raise ValueError(
                f"the model must have a constant {name} of shape {list(constant.shape)}, got "
                f"{None if tensor is None else list(tensor.dims)}; it belongs to another network"
            )
        tensor.CopyFrom(numpy_helper.from_array(constant.numpy(), tensor.name))
    return model


def output_names(network: Network) -> list[str]:
    """Return the names of all outputs in the order of the bundle's contract."""
    return ["fingerprint", "embedding", *network.heads]


def export(network: nn.Module, names: Sequence[str], path: Path, size: int = WINDOW) -> None:
    """Fold batch norms and write the named outputs of a network as ONNX; see `write`."""
    write(_TupleOutputs(fold_batch_norm(network), names).eval(), names, size, path)


def write(module: nn.Module, names: Sequence[str], size: int, path: Path) -> None:
    """Write a module as ONNX with the input `windows`, uint8[N, size, size, 3], and N dynamic.

    Args:
        module: Maps windows to a tuple of outputs.
        names: Names of these outputs.
        size: Side of a window in pixels.
        path: The file to write.
    """
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
    # The exporter leaves file names and line numbers of this machine.
    for node in model.graph.node:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        value.ClearField("metadata_props")
    model.graph.ClearField("metadata_props")
    onnx.save(gemm_to_conv(model), path)


def parity(network: Network, path: Path, windows: np.ndarray) -> dict[str, float]:
    """Compare all outputs of a network in PyTorch and in ONNX Runtime; see `differences`."""
    return differences(_TupleOutputs(network, output_names(network)).eval(), output_names(network), path, windows)


def differences(module: nn.Module, names: list[str], path: Path, windows: np.ndarray) -> dict[str, float]:
    """Return the largest difference of each output between PyTorch and ONNX Runtime, relative to its largest value.

    Args:
        module: Maps windows to a tuple of outputs.
        names: Names of these outputs.
        path: The ONNX file.
        windows: uint8[N, S, S, 3] to compare on.

    Raises:
        ValueError: A difference exceeds 1e-4.
    """
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
            f"{path}: output {worst} must match PyTorch to {TOLERANCE} of its scale, differs from PyTorch by "
            f"{errors[worst]:.2e}"
        )
    return errors
