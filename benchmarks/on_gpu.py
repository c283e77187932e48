"""One contender on a GPU, in batches: computing alone with everything on the device, and from windows to answers on the host.

A runtime is a library and, behind it, what is switched on, as in "onnxruntime-cuda graphs tf32".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from benchmarks.contenders import OURS, Contender
from benchmarks.timing import AWAKE, OUTSIDE, Pair, Run, median_ms, pictures, repeated
from edgeparse.backends.onnxruntime import TF32, OnnxRuntimeBackend
from edgeparse.backends.select import provider_settings
from edgeparse.bundle import Bundle, open_bundle

# What a report of ours stands against: a FEN with the parsing network and a FEN with the detector.
PUBLISHED = ("parsing", "deepfake")
# Compiling takes many seconds for each batch size: these say what it is worth.
COMPILED = (1, 256)


class Network(Protocol):
    """A network on the device."""

    def pair(self, count: int) -> Pair:
        """Both ways to run `count` windows; each returns when it is done."""


def open_contender(
    contender: Contender, batches: Sequence[int], bundle: str | None = None, device: str = "cuda"
) -> Callable[[], dict[str, float]]:
    """What gives the median milliseconds of a batch, as "device 8" and "host 8" for each size.

    Raises:
        Exception: whatever the library raises where it cannot run here.
    """
    library, *switched = contender.runtime.split()
    ours = open_bundle(bundle) if contender.network == OURS else None
    compiled, graphs = library == "torch.compile-cuda", "graphs" in switched
    networks: Sequence[Network]
    if library == "onnxruntime-cuda":
        networks = _in_onnxruntime(ours, contender.precision, switched, device)
    else:
        from benchmarks.torch_on_gpu import networks_of

        networks = networks_of(ours, PUBLISHED, contender.precision, compiled, graphs, device)
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
        repeated(together(runs[f"device {sizes[-1]}"]), AWAKE)
        return {part: median_ms(together(each)) for part, each in runs.items()}

    return measure


class OnnxRuntimeNetwork:
    """A model through this project's own backend.

    Raises:
        RuntimeError: graphs were asked for and cannot be recorded.
    """

    def __init__(
        self, model: bytes, size: int, switched: Sequence[str], device: str, settings: Mapping[str, str] | None = None
    ) -> None:
        settings = TF32 if "tf32" in switched else settings
        self._size, self._graphs = size, "graphs" in switched
        self._backend = OnnxRuntimeBackend(model, device, graphs=self._graphs, settings=settings)
        self._outputs = [name for name in self._backend.outputs if name != OUTSIDE]

    def pair(self, count: int) -> Pair:
        """See `Network`."""
        shown = pictures(self._size, count)
        # First an answer: a batch that cannot be recorded falls back to a session without graphs.
        self._backend.run(shown, self._outputs)
        if self._graphs and not self._backend.recorded(count):
            raise RuntimeError(f"there is no CUDA graph for {count} windows; why is in the log")
        return self._backend.on_device(shown), lambda: self._backend.run(shown, self._outputs)


def _in_onnxruntime(
    ours: Bundle | None, precision: str, switched: Sequence[str], device: str
) -> list[OnnxRuntimeNetwork]:
    if ours is not None:
        settings = provider_settings("cuda", ours, precision)
        return [OnnxRuntimeNetwork(ours.model(precision), ours.window, switched, device, settings)]
    from benchmarks.torch_on_gpu import exported, published_size

    return [OnnxRuntimeNetwork(exported(task, precision), published_size(task), switched, device) for task in PUBLISHED]
