"""Write one model file for each precision and kind of device.

The wheel holds all four files, because a device that installs only the wheel has no exporter and no file can be derived
from another at run time. TensorRT 11 takes precision from the file alone, so fp16 needs its own. INT8 needs two: CPUs with
VNNI are much faster with uint8 activations, while TensorRT requires symmetric int8.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from export import tf32
from export.fp16 import to_fp16
from export.quantize import CPU, TENSORRT, quantize

PRECISIONS = ("fp16", "int8", "int8-tensorrt")


def tf32_safe_variants(model: Path, variants: Mapping[str, str], windows: np.ndarray) -> list[str]:
    """Return the manifest's `tf32`: the variants whose answers TF32 does not change.

    Only fp16 files are tested, for their fp32 part. The fp32 file is for users who ask for fp32.

    Args:
        model: The fp32 file, next to the others.
        variants: File names by precision.
        windows: uint8[N, S, S, 3] to compare on.
    """
    return [
        name
        for name in ("fp16",)
        if name in variants and tf32.tolerates_tf32(model.with_name(variants[name]), model, windows)
    ]


def write_variants(model: Path, windows: np.ndarray, precisions: Sequence[str] = PRECISIONS) -> dict[str, str]:
    """Write other precisions next to an fp32 model and return the manifest's `variants`.

    Args:
        model: The fp32 file.
        windows: uint8[N, S, S, 3] to calibrate INT8 on.
        precisions: The precisions to write.
    """
    files = {name: model.with_name(f"{model.stem}.{name}.onnx") for name in precisions}
    for name, file in files.items():
        if name == "fp16":
            to_fp16(model, file)
        else:
            quantize(model, file, windows, TENSORRT if name == "int8-tensorrt" else CPU)
    return {name: file.name for name, file in {"fp32": model, **files}.items()}
