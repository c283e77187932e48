"""Run one competitor on a GPU in batches: computing alone on the device, and from host to host.

A runtime is a library, optionally followed by what is switched on, as in "onnxruntime-cuda graphs tf32".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from benchmarks.competitors import OURS, Competitor
from benchmarks.timing import AWAKE, OUTSIDE, Pair, Run, median_ms, repeat, sample_batch
from edgeparse.backends.onnxruntime import TF32, OnnxRuntimeBackend
from edgeparse.backends.select import provider_settings
from edgeparse.bundle import Bundle, open_bundle

# The published networks that answer what one report of ours answers.
PUBLISHED = ("parsing", "deepfake")
# Batch sizes of torch.compile, which needs many seconds for each.
COMPILED = (1, 256)


class Network(Protocol):
    """A network on the device."""

    def pair(self, count: int) -> Pair:
        """Return both ways to run `count` windows; each call is synchronous."""


def open_competitor(
    competitor: Competitor, batches: Sequence[int], bundle: str | None = None, device: str = "cuda"
) -> Callable[[], dict[str, float]]:
    """Open a competitor.

    Args:
        competitor: Network, runtime and precision.
        batches: Batch sizes.
        bundle: Our bundle's folder.
        device: PyTorch's name of the device.

    Returns:
        A function that measures the median milliseconds of a batch, as "device 8" and "host 8" for each size.

    Raises:
        Exception: Any error of a library that cannot run here.
    """
    library, *switched = competitor.runtime.split()
    ours = open_bundle(bundle) if competitor.network == OURS else None
    compiled, graphs = library == "torch.compile-cuda", "graphs" in switched
    networks: Sequence[Network]
    if library == "onnxruntime-cuda":
        networks = _in_onnxruntime(ours, competitor.precision, switched, device)
    else:
        from benchmarks.gpu_torch import open_networks

        networks = open_networks(ours, PUBLISHED, competitor.precision, compiled, graphs, device)
    sizes = [size for size in batches if not compiled or size in COMPILED]
    pairs = {size: [network.pair(size) for network in networks] for size in sizes}
    runs = {
        f"{what} {size}": [each[i] for each in pairs[size]]
        for size in sizes
        for i, what in enumerate(("device", "host"))
    }

    def together(each: Sequence[Run]) -> Run:
        return lambda: [run() for run in each]

    def measure() -> dict[str, float]:
        repeat(together(runs[f"device {sizes[-1]}"]), AWAKE)
        return {part: median_ms(together(each)) for part, each in runs.items()}

    return measure


class OnnxRuntimeNetwork:
    """Runs a model with this project's own backend.

    Args:
        model: The ONNX file.
        size: Side of a window in pixels.
        switched: What is switched on: "graphs", "tf32".
        device: The device's name.
        settings: Settings of the execution provider.
    """

    def __init__(
        self, model: bytes, size: int, switched: Sequence[str], device: str, settings: Mapping[str, str] | None = None
    ) -> None:
        settings = TF32 if "tf32" in switched else settings
        self._size, self._graphs = size, "graphs" in switched
        self._backend = OnnxRuntimeBackend(model, device, graphs=self._graphs, settings=settings)
        self._outputs = [name for name in self._backend.outputs if name != OUTSIDE]

    def pair(self, count: int) -> Pair:
        """Return both ways to run `count` windows; see `Network`.

        Raises:
            RuntimeError: Graphs were requested and cannot be recorded.
        """
        shown = sample_batch(self._size, count)
        # A batch that cannot be recorded falls back to a session without graphs.
        self._backend.run(shown, self._outputs)
        if self._graphs and not self._backend.recorded(count):
            raise RuntimeError(f"no CUDA graph could be recorded for {count} windows; see the log for the reason")
        return self._backend.on_device(shown), lambda: self._backend.run(shown, self._outputs)


def _in_onnxruntime(
    ours: Bundle | None, precision: str, switched: Sequence[str], device: str
) -> list[OnnxRuntimeNetwork]:
    if ours is not None:
        settings = provider_settings("cuda", ours, precision)
        return [OnnxRuntimeNetwork(ours.model(precision), ours.window, switched, device, settings)]
    from benchmarks.gpu_torch import export_published, published_size

    return [
        OnnxRuntimeNetwork(export_published(task, precision), published_size(task), switched, device)
        for task in PUBLISHED
    ]
