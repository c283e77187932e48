"""PyTorch on a GPU: networks in batches, the ceilings of the GPU, and the published networks as ONNX."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.networks import our_module, random_published
from benchmarks.timing import COPIED, OUTSIDE, SIDE, Pair, median_ms, sample_batch
from edgeparse.bundle import Bundle
from export.published import TASKS

_AUTOCAST = {"fp16": torch.float16, "bf16": torch.bfloat16}


class TorchNetwork:
    """A module on the device.

    Args:
        module: The network.
        size: Side of a window in pixels.
        precision: "fp32" has no TF32, "tf32" is PyTorch's default for convolutions; "fp16" and "bf16" are autocast with
            channels last.
        compiled: Whether to use torch.compile.
        graphs: Whether to record CUDA graphs.
        device: PyTorch's name of the device.
    """

    def __init__(
        self, module: nn.Module, size: int, precision: str, compiled: bool, graphs: bool, device: str = "cuda"
    ) -> None:
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = precision == "tf32"
        torch.backends.cuda.matmul.allow_tf32 = False
        self._size, self._device, self._graphs = size, device, graphs
        self._half = _AUTOCAST.get(precision)
        network = module.to(device).requires_grad_(False)
        if self._half is not None:
            network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._call = torch.compile(network, dynamic=False) if compiled else network
        self._outputs = getattr(module, "outputs", None)

    def pair(self, count: int) -> Pair:
        """Return two calls: compute every output of `count` windows, and go from host windows to host answers."""
        shown = torch.from_numpy(sample_batch(self._size, count))
        given = shown.to(self._device)
        compute = self._recorded(given) if self._graphs else lambda: self._forward(given)

        def compute_only() -> None:
            compute()
            _wait(self._device)

        def host_to_host() -> object:
            given.copy_(shown)
            return [value.float().cpu().numpy() for value in compute()]

        return compute_only, host_to_host

    def _forward(self, given: Tensor) -> list[Tensor]:
        """Compute every output; return all but the fingerprint."""
        narrow = contextlib.nullcontext() if self._half is None else torch.autocast(self._device, self._half)
        with torch.inference_mode(), narrow:
            outputs = self._call(given)
        named = outputs if isinstance(outputs, dict) else dict(zip(self._outputs or (), outputs, strict=True))
        return [value for name, value in named.items() if name != OUTSIDE]

    def _recorded(self, given: Tensor) -> Callable[[], list[Tensor]]:
        # Warm up on a side stream, then record (PyTorch's notes on CUDA graphs).
        side_stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side_stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side_stream):
            for _ in range(3):
                self._forward(given)
        torch.cuda.current_stream().wait_stream(side_stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            outputs = self._forward(given)

        def replay() -> list[Tensor]:
            graph.replay()
            return outputs

        return replay


def ceilings(device: str = "cuda", side: int = SIDE, copied: int = COPIED) -> Callable[[], dict[str, float]]:
    """Return a function that measures milliseconds of a matrix product in "fp16" and "bf16", and of a "copy"."""
    factors = {
        name: [torch.randn(side, side, device=device, dtype=kind) for _ in range(2)] for name, kind in _AUTOCAST.items()
    }
    source = torch.randint(0, 256, (copied,), device=device, dtype=torch.uint8)
    target = torch.empty_like(source)

    def multiply(name: str) -> None:
        torch.mm(*factors[name])
        _wait(device)

    def copy() -> None:
        target.copy_(source)
        _wait(device)

    def measure() -> dict[str, float]:
        return {name: median_ms(partial(multiply, name)) for name in factors} | {"copy": median_ms(copy)}

    return measure


def published_size(task: str) -> int:
    """Return the side of a published network's windows in pixels."""
    return TASKS[task].size


def export_published(task: str, precision: str) -> bytes:
    """Export a published network to ONNX."""
    from export.fp16 import to_fp16
    from export.onnx_export import fold_batch_norm, write

    module = random_published(task)
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "model.onnx"
        write(fold_batch_norm(module), module.outputs, TASKS[task].size, path)
        if precision == "fp16":
            to_fp16(path, path.with_name("fp16.onnx"))
            path = path.with_name("fp16.onnx")
        return path.read_bytes()


def open_networks(
    bundle: Bundle | None, tasks: Collection[str], precision: str, compiled: bool, graphs: bool, device: str
) -> list[TorchNetwork]:
    """Return our network, or without a bundle the published ones for these tasks."""
    modules = (
        [(our_module(bundle), bundle.window)]
        if bundle is not None
        else [(random_published(task), published_size(task)) for task in tasks]
    )
    return [TorchNetwork(module, size, precision, compiled, graphs, device) for module, size in modules]


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
