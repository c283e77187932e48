"""One trained network, a model file for each precision and kind of device.

All four are in the wheel: together they are smaller than its limit, and whoever installed only the wheel on a device has no exporter.
No file can be made from another at run time. TensorRT 11 takes precision from the file alone, so fp16 needs its own; a CPU with VNNI is
much faster with uint8 activations than with the symmetric int8 that TensorRT demands, so INT8 needs two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from export import tf32
from export.half import halve
from export.quantize import CPU, TENSORRT, quantize

PRECISIONS = ("fp16", "int8", "int8-tensorrt")


def bearing_tf32(model: Path, variants: Mapping[str, str], windows: np.ndarray) -> list[str]:
    """The manifest's `tf32`: which variants beside an fp32 model answer the same with it, as these uint8[N, S, S, 3] windows show.

    Those that a GPU runs: what is in fp32 in fp16 files. The fp32 file is for whoever asks for fp32.
    """
    return [
        name
        for name in ("fp16",)
        if name in variants and tf32.borne_by(model.with_name(variants[name]), model, windows)
    ]


def write_variants(model: Path, windows: np.ndarray, precisions: Sequence[str] = PRECISIONS) -> dict[str, str]:
    """Write other precisions beside an fp32 model, INT8 calibrated on uint8[N, S, S, 3] windows; returns the manifest's `variants`."""
    files = {name: model.with_name(f"{model.stem}.{name}.onnx") for name in precisions}
    for name, file in files.items():
        if name == "fp16":
            halve(model, file)
        else:
            quantize(model, file, windows, TENSORRT if name == "int8-tensorrt" else CPU)
    return {name: file.name for name, file in {"fp32": model, **files}.items()}
