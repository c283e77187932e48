"""What a device can do."""

from __future__ import annotations

import torch


def supports_fast_bfloat16(device: torch.device) -> bool:
    """Return whether bfloat16 is faster than float32: on CUDA, and on CPUs with AVX-512 BF16 instructions."""
    return device.type == "cuda" or bool(torch.cpu.get_capabilities().get("avx512_bf16"))
