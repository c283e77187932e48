"""fp32 ONNX -> INT8 ONNX with quantise/dequantise pairs, in the form that a CPU or TensorRT wants."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from export.bias_correction import correct_biases
from export.onnx_rewrite import (
    convolution_as_gemm,
    dividing_in_weights,
    fully_connected_weights,
    merged_heads,
    quantized_behind_relu,
    reading_pixels,
    spatial_convolutions,
    store_in_half,
    with_channels_last,
    with_shared_statistics,
)


class _Windows(CalibrationDataReader):
    def __init__(self, windows: np.ndarray, batch: int) -> None:
        self.batches: Iterator[dict[str, np.ndarray]] = iter(
            [{"windows": windows[i : i + batch]} for i in range(0, len(windows), batch)]
        )

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.batches, None)


Rewrite = Callable[[onnx.ModelProto], onnx.ModelProto]


@dataclass(frozen=True)
class Scheme:
    """How activations and biases are quantised, how many convolutions behind those that read the picture are not, how the graph is laid out
    before and after that, and whether the fully connected layers' weights are stored in fp16; weights of convolutions are symmetric int8 a
    channel everywhere."""

    activations: QuantType
    symmetric: bool
    bias: bool
    whole: int
    before: tuple[Rewrite, ...] = ()
    after: tuple[Rewrite, ...] = ()
    half: bool = False


# CPUs with VNNI multiply uint8 by int8. What each change of the layout is worth there: `python -m benchmarks rewrites`.
CPU = Scheme(
    QuantType.QUInt8,
    symmetric=False,
    bias=True,
    whole=0,
    before=(dividing_in_weights, merged_heads, convolution_as_gemm),
    after=(with_shared_statistics, with_channels_last),
    half=True,
)
# TensorRT knows no zero points, keeps biases in fp32, and wants weights that are constants. Without zero points half of the steps are lost
# behind a ReLU, most of all on the faintest features: one convolution more in fp32 takes a third off the error of the logit.
TENSORRT = Scheme(QuantType.QInt8, symmetric=True, bias=False, whole=1)


def quantize(source: Path, target: Path, windows: np.ndarray, scheme: Scheme = CPU) -> None:
    """Quantise the convolutions, calibrated on uint8[N, S, S, 3] windows of training pictures, and correct their biases.

    The convolutions that read the picture and the fully connected heads are computed in fp32: the ones see eight bits of which the
    traces are the last, the others cost nothing.
    """
    prepared = target.with_suffix(".prepared.onnx")
    quant_pre_process(source, prepared, skip_symbolic_shape=True)
    model = onnx.load(prepared)
    for rewrite in scheme.before:
        model = rewrite(model)
    onnx.save(model, prepared)
    first = reading_pixels(model)
    names = [name for name in spatial_convolutions(model) if name not in first][scheme.whole :]
    quantize_static(
        prepared,
        target,
        _Windows(windows, 16),
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
    quantized = quantized_behind_relu(onnx.load(target))
    correct_biases(quantized, model, names, windows)
    for rewrite in scheme.after:
        quantized = rewrite(quantized)
    onnx.save(store_in_half(quantized, fully_connected_weights(model)) if scheme.half else quantized, target)
