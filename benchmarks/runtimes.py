"""One network on one inference library: a window in, every output computed.

Each function returns what to call again and again. Libraries are loaded when they are needed: a process that measures one holds no
other.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from benchmarks import made
from benchmarks.contenders import OURS, PUBLISHED, Contender
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


def open_contender(contender: Contender, threads: int, bundle: str | None = None) -> dict[str, Run]:
    """The parts of a contender by name: one for each network that a picture is shown to. `bundle` is ours.

    Raises:
        Exception: whatever the library raises where it cannot run here.
    """
    if contender.network == "published":
        return {
            task: _open(contender, threads, open_bundle(made.bundle(task)), partial(_published_module, task))
            for task in PUBLISHED
        }
    ours = open_bundle(bundle)
    if contender.network == OURS:
        return {"all": _open(contender, threads, ours, partial(_our_module, ours))}
    window = made.window(ours.window)
    if contender.runtime == "pytorch":
        return {"all": _torch(_floor_module(), window, threads)}
    backend = OnnxRuntimeBackend(made.floor(ours.window).read_bytes(), threads=threads)
    return {"all": lambda: backend.run(window, ["generated"])}


def _open(contender: Contender, threads: int, bundle: Bundle, module: Callable[[], nn.Module]) -> Run:
    window = made.window(bundle.window)
    runtime, precision = contender.runtime, contender.precision
    if runtime in ("pytorch", "torch.compile", "pytorch-cuda"):
        return _torch(module(), window, threads, compiled=runtime == "torch.compile", cuda=runtime == "pytorch-cuda")
    if runtime == "openvino":
        return _backend(open_openvino(bundle, precision, threads), bundle, window)
    if runtime.startswith("tensorrt"):
        return _backend(_tensorrt(bundle, runtime, precision), bundle, window)
    device = "cuda" if runtime == "onnxruntime-cuda" else "cpu"
    return _backend(create(device, bundle, precision, threads), bundle, window)


def open_openvino(bundle: Bundle, precision: str, threads: int) -> OpenVinoBackend:
    """A bundle's network in OpenVINO; bf16 is its fp32 file computed in that."""
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
    """An engine for one window, compiled where there is none."""
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
