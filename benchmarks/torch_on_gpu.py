"""PyTorch on a GPU: networks in batches, what the GPU can do at most, and the published networks as ONNX."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.networks import our_module, random_published
from benchmarks.timing import COPIED, OUTSIDE, SIDE, Pair, median_ms, pictures
from edgeparse.bundle import Bundle
from export.published import TASKS

_AUTOCAST = {"fp16": torch.float16, "bf16": torch.bfloat16}


class TorchNetwork:
    """A module on the device.

    Args:
        size: of a window's side, in pixels.
        precision: "fp32" is without TF32, "tf32" is PyTorch's default for convolutions; "fp16" and "bf16" are autocast, channels last.
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
            network = network.to(memory_format=torch.channels_last)
        self._call = torch.compile(network, dynamic=False) if compiled else network
        self._outputs = getattr(module, "outputs", None)

    def pair(self, count: int) -> Pair:
        """Computing every output of `count` windows, and from windows to all but the fingerprint."""
        shown = torch.from_numpy(pictures(self._size, count))
        given = shown.to(self._device)
        compute = self._recorded(given) if self._graphs else lambda: self._forward(given)

        def computed() -> None:
            compute()
            _wait(self._device)

        def answers() -> object:
            given.copy_(shown)
            return [value.float().cpu().numpy() for value in compute()]

        return computed, answers

    def _forward(self, given: Tensor) -> list[Tensor]:
        """All outputs but the fingerprint, which is computed too."""
        narrow = contextlib.nullcontext() if self._half is None else torch.autocast(self._device, self._half)
        with torch.inference_mode(), narrow:
            outputs = self._call(given)
        named = outputs if isinstance(outputs, dict) else dict(zip(self._outputs or (), outputs, strict=True))
        return [value for name, value in named.items() if name != OUTSIDE]

    def _recorded(self, given: Tensor) -> Callable[[], list[Tensor]]:
        # As PyTorch's notes on CUDA graphs have it: warm up on a stream beside, then record.
        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(3):
                self._forward(given)
        torch.cuda.current_stream().wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            outputs = self._forward(given)

        def replay() -> list[Tensor]:
            graph.replay()
            return outputs

        return replay


def ceilings(device: str = "cuda", side: int = SIDE, copied: int = COPIED) -> Callable[[], dict[str, float]]:
    """What gives the milliseconds of a product of random square matrices in "fp16" and "bf16", and of a "copy" within the device."""
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

    return lambda: {name: median_ms(lambda name=name: multiply(name)) for name in factors} | {"copy": median_ms(copy)}


def published_size(task: str) -> int:
    """The side of its windows, in pixels."""
    return TASKS[task].size


def exported(task: str, precision: str) -> bytes:
    """A published network as ONNX, exported here."""
    from export.half import halve
    from export.onnx_graph import fold_batch_norm, write

    module = random_published(task)
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "model.onnx"
        write(fold_batch_norm(module), module.outputs, TASKS[task].size, path)
        if precision == "fp16":
            halve(path, path.with_name("half.onnx"))
            path = path.with_name("half.onnx")
        return path.read_bytes()


def networks_of(
    bundle: Bundle | None, tasks: Collection[str], precision: str, compiled: bool, graphs: bool, device: str
) -> list[TorchNetwork]:
    """Our network, or without a bundle the published ones of these tasks."""
    modules = (
        [(our_module(bundle), bundle.window)]
        if bundle is not None
        else [(random_published(task), published_size(task)) for task in tasks]
    )
    return [TorchNetwork(module, size, precision, compiled, graphs, device) for module, size in modules]


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
