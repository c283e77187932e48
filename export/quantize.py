"""Quantise an fp32 ONNX model to INT8 with quantise/dequantise pairs, in the form that CPUs or TensorRT want."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from export.bias_correction import correct_biases
from export.graph_passes import (
    channels_last_residuals,
    conv_to_gemm,
    drop_quantize_before_relu,
    fold_pixel_scale,
    merge_heads,
    share_dequantize,
    store_weights_fp16,
)
from export.graph_utils import fully_connected_weights, pixel_nodes, spatial_convolutions

BATCH = 16

GraphPass = Callable[[onnx.ModelProto], onnx.ModelProto]


class _Windows(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, windows: np.ndarray, batch: int) -> None:
        self.batches: Iterator[dict[str, np.ndarray]] = iter(
            [{"windows": windows[i : i + batch]} for i in range(0, len(windows), batch)]
        )

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.batches, None)


@dataclass(frozen=True)
class Scheme:
    """How to quantise. Convolution weights are symmetric int8 per channel in every scheme.

    Attributes:
        activations: Type of quantised activations.
        symmetric: Whether activations have no zero point.
        bias: Whether biases are quantised.
        skip: Number of convolutions after those that read pixels that stay in fp32.
        before: Graph passes that run before quantisation.
        after: Graph passes that run after it.
        fp16_dense: Whether the weights of fully connected layers are stored in fp16.
    """

    activations: QuantType
    symmetric: bool
    bias: bool
    skip: int
    before: tuple[GraphPass, ...] = ()
    after: tuple[GraphPass, ...] = ()
    fp16_dense: bool = False


# CPUs with VNNI multiply uint8 by int8.
CPU = Scheme(
    QuantType.QUInt8,
    symmetric=False,
    bias=True,
    skip=0,
    before=(fold_pixel_scale, merge_heads, conv_to_gemm),
    after=(share_dequantize, channels_last_residuals),
    fp16_dense=True,
)
# TensorRT has no zero points, keeps biases in fp32, and wants constant weights. Without zero points, half of the steps
# after a ReLU are lost, mostly on faint features. One more convolution in fp32 cuts the error of the logit by a third.
TENSORRT = Scheme(QuantType.QInt8, symmetric=True, bias=False, skip=1)


def quantize(source: Path, target: Path, windows: np.ndarray, scheme: Scheme = CPU) -> None:
    """Quantise the convolutions and correct their biases.

    The convolutions that read pixels stay in fp32, because generator traces are in the last of eight bits. The fully
    connected heads stay in fp32 because they cost nothing.

    Args:
        source: The fp32 model.
        target: The file to write.
        windows: uint8[N, S, S, 3] of training pictures to calibrate on.
        scheme: The form that the target device wants.
    """
    prepared = target.with_suffix(".prepared.onnx")
    quant_pre_process(source, prepared, skip_symbolic_shape=True)
    model = onnx.load(prepared)
    for graph_pass in scheme.before:
        model = graph_pass(model)
    onnx.save(model, prepared)
    reading_pixels = pixel_nodes(model)
    names = [name for name in spatial_convolutions(model) if name not in reading_pixels][scheme.skip :]
    quantize_static(
        prepared,
        target,
        _Windows(windows, BATCH),
        quant_format=QuantFormat.QDQ,
        activation_type=scheme.activations,
        weight_type=QuantType.QInt8,
        per_channel=True,
        nodes_to_quantize=names,
        calibrate_method=CalibrationMethod.MinMax,
        extra_options={
            "ActivationSymmetric": scheme.symmetric,
            "WeightSymmetric": True,
            "QuantizeBias": scheme.bias,
            "CalibMovingAverage": True,
        },
    )
    prepared.unlink()
    quantized = drop_quantize_before_relu(onnx.load(target))
    correct_biases(quantized, model, names, windows)
    for graph_pass in scheme.after:
        quantized = graph_pass(quantized)
    if scheme.fp16_dense:
        quantized = store_weights_fp16(quantized, fully_connected_weights(model))
    onnx.save(quantized, target)
