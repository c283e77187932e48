"""Device capabilities and memory layout."""

from __future__ import annotations

import os
from typing import TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


def supports_fast_bfloat16(device: torch.device) -> bool:
    """Return whether bfloat16 is faster than float32: on CUDA, and on CPUs with AVX-512 BF16 instructions."""
    return device.type == "cuda" or bool(torch.cpu.get_capabilities().get("avx512_bf16"))


def to_channels_last(module: M, device: torch.device) -> M:
    """Move a module to a device, with convolution weights in the channels-last layout, which is the faster one."""
    # PyTorch's annotations lack this overload.
    return module.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def hardware(device: torch.device) -> str:
    """Return the name of the GPU, or the number of CPU cores."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{os.cpu_count()} CPU cores"
