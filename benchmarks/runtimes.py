"""Open one network on one inference library, to run it on one window with every output.

Libraries are imported only when needed, so a process that measures one loads no other.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from benchmarks import inputs
from benchmarks.competitors import OURS, PUBLISHED, Competitor
from edgeparse.backends.base import Backend
from edgeparse.backends.onnxruntime import OnnxRuntimeBackend
from edgeparse.backends.openvino import OpenVinoBackend
from edgeparse.backends.select import create
from edgeparse.backends.tensorrt import build
from edgeparse.backends.tensorrt.backend import TensorRTBackend
from edgeparse.backends.tensorrt.engine_cache import EngineCache
from edgeparse.bundle import Bundle, open_bundle

if TYPE_CHECKING:
    from torch import nn

Run = Callable[[], object]


def open_competitor(competitor: Competitor, threads: int, bundle: str | None = None) -> dict[str, Run]:
    """Open a competitor.

    Args:
        competitor: Network, runtime and precision.
        threads: Threads to use.
        bundle: Our bundle's folder.

    Returns:
        A function for each network that a picture needs, by name.

    Raises:
        Exception: Any error of a library that cannot run here.
    """
    if competitor.network == "published":
        return {
            task: _open(competitor, threads, open_bundle(inputs.bundle(task)), partial(_published_module, task))
            for task in PUBLISHED
        }
    ours = open_bundle(bundle)
    if competitor.network == OURS:
        return {"all": _open(competitor, threads, ours, partial(_our_module, ours))}
    window = inputs.window(ours.window)
    if competitor.runtime == "pytorch":
        return {"all": _torch(_floor_module(), window, threads)}
    backend = OnnxRuntimeBackend(inputs.floor(ours.window).read_bytes(), threads=threads)
    return {"all": lambda: backend.run(window, ["generated"])}


def _open(competitor: Competitor, threads: int, bundle: Bundle, module: Callable[[], nn.Module]) -> Run:
    window = inputs.window(bundle.window)
    runtime, precision = competitor.runtime, competitor.precision
    if runtime in ("pytorch", "torch.compile", "pytorch-cuda"):
        return _torch(module(), window, threads, compiled=runtime == "torch.compile", cuda=runtime == "pytorch-cuda")
    if runtime == "openvino":
        return _backend(open_openvino(bundle, precision, threads), bundle, window)
    if runtime.startswith("tensorrt"):
        return _backend(_tensorrt(bundle, runtime, precision), bundle, window)
    device = "cuda" if runtime == "onnxruntime-cuda" else "cpu"
    return _backend(create(device, bundle, precision, threads), bundle, window)


def open_openvino(bundle: Bundle, precision: str, threads: int) -> OpenVinoBackend:
    """Open a bundle's network in OpenVINO; bf16 runs the fp32 file in bf16."""
    file = bundle.model("int8" if precision == "int8" else "fp32")
    return OpenVinoBackend(file, threads, "bf16" if precision == "bf16" else "f32")


def _published_module(task: str) -> nn.Module:
    from benchmarks.networks import published_module

    return published_module(task)


def _our_module(bundle: Bundle) -> nn.Module:
    from benchmarks.networks import our_module

    return our_module(bundle)


def _floor_module() -> nn.Module:
    from benchmarks.networks import floor_module

    return floor_module()


def _backend(backend: Backend, bundle: Bundle, window: np.ndarray) -> Run:
    return lambda: backend.run(window, bundle.outputs)


def _tensorrt(bundle: Bundle, flavour: str, precision: str) -> TensorRTBackend:
    """Open an engine for one window; compile it if the cache has none."""
    store = EngineCache()
    record, _ = build.build_engine(bundle, build.BuildConfig(flavour, precision, batches=(1, 1, 1)), store)
    return TensorRTBackend(record, store.read(record), store.runtime_cache(record))


def _torch(module: nn.Module, window: np.ndarray, threads: int, compiled: bool = False, cuda: bool = False) -> Run:
    import torch

    torch.set_num_threads(threads)
    device = torch.device("cuda" if cuda else "cpu")
    module = module.to(device)
    call = torch.compile(module) if compiled else module

    def run() -> object:
        with torch.inference_mode():
            outputs = call(torch.from_numpy(window).to(device))
            values = outputs.values() if isinstance(outputs, dict) else outputs
            return [value.cpu().numpy() for value in values]

    return run
