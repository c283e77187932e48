"""fp32 ONNX -> INT8 ONNX with quantise/dequantise pairs for CPUs with VNNI: uint8 activations, int8 weights a channel."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process


class _Windows(CalibrationDataReader):
    def __init__(self, windows: np.ndarray, batch: int) -> None:
        self.batches: Iterator[dict[str, np.ndarray]] = iter(
            [{"windows": windows[i : i + batch]} for i in range(0, len(windows), batch)]
        )

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.batches, None)


def quantize(source: Path, target: Path, windows: np.ndarray) -> None:
    """Quantise the convolutions, calibrated on uint8[N, 128, 128, 3] windows of training pictures.

    The first convolution and the fully connected heads stay in fp32: the one sees eight bits of picture of which the traces are the
    last, the others cost nothing.
    """
    prepared = target.with_suffix(".prepared.onnx")
    quant_pre_process(source, prepared, skip_symbolic_shape=True)
    model = onnx.load(prepared)
    convolutions = [node.name for node in model.graph.node if node.op_type == "Conv"]
    quantize_static(
        prepared,
        target,
        _Windows(windows, 16),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        nodes_to_quantize=convolutions[1:],
        calibrate_method=CalibrationMethod.MinMax,
        extra_options={"ActivationSymmetric": False, "WeightSymmetric": True, "CalibMovingAverage": True},
    )
    prepared.unlink()
