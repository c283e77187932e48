"""Compile a bundle's ONNX file into a TensorRT engine, and find the engine that fits this machine.

The precision is part of the ONNX file: every network is strongly typed, the only kind that TensorRT 11 supports.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edgeparse.backends.base import TENSORRT_SUFFIX, variant_for
from edgeparse.backends.tensorrt import cuda, library
from edgeparse.backends.tensorrt.engine_cache import (
    DEFAULT_BATCHES,
    EngineCache,
    EngineKey,
    EngineRecord,
    EngineTarget,
    TensorSpec,
)
from edgeparse.backends.tensorrt.library import TrtLibrary
from edgeparse.bundle import Bundle
from edgeparse.errors import BackendError, DeviceMemoryError, EngineDamagedError, EngineError, UnsupportedModelError

# Called with the name of a phase, the step that was completed, and the number of steps.
Progress = Callable[[str, int, int], None]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BuildConfig:
    """What to compile.

    Attributes:
        library: "tensorrt" or "tensorrt-rtx".
        precision: "fp32", "fp16" or "int8"; None for the bundle's best on a GPU.
        batches: smallest, usual and largest number of windows per run.
        capabilities: compute capabilities to compile for; empty for the GPU of this machine.
        workspace: compiler memory in MiB, or None for no limit.
        dla: index of a DLA core, or None.
    """

    library: str = "tensorrt"
    precision: str | None = None
    batches: tuple[int, int, int] = DEFAULT_BATCHES
    capabilities: tuple[str, ...] = ()
    workspace: int | None = None
    dla: int | None = None


@dataclass(frozen=True)
class CompiledEngine:
    """An engine: its bytes, its inputs and outputs, and the duration of the build in seconds."""

    plan: bytes
    tensors: tuple[TensorSpec, ...]
    seconds: float


def build_command(library_name: str, precision: str | None = None) -> str:
    """Return the command that compiles an engine."""
    return f"edgeparse build --backend {library_name}" + (f" --precision {precision}" if precision else "")


def engine_key(bundle: Bundle, config: BuildConfig) -> tuple[EngineKey, bytes]:
    """Return the key of the engine to build on this machine, and the bytes of the model file.

    Raises:
        BundleError: the bundle has no model of that precision for TensorRT.
        BackendError: the library is missing, there is no GPU to compile for, or the configuration is inconsistent.
    """
    trt_library = library.get_library(config.library)
    variant = variant_for(bundle, config.library, config.precision)
    model = bundle.model(variant)
    if config.capabilities and not trt_library.capabilities:
        raise BackendError(f"{trt_library.name} compiles only for the GPU it runs on; do not pass a compute capability")
    version = library.import_library(trt_library).__version__
    gpu = None if config.capabilities else cuda.gpu()
    key = EngineKey(
        onnx=hashlib.sha256(model).hexdigest(),
        library=trt_library.name,
        version=version,
        capabilities=tuple(sorted(config.capabilities)) or ((gpu.capability,) if gpu else ()),
        gpu=gpu.name if gpu is not None and not trt_library.capabilities else None,
        system=library.platform_tag(),
        precision=variant.removesuffix(TENSORRT_SUFFIX),
        batches=config.batches,
        workspace=config.workspace,
        dla=config.dla,
        tf32=variant in bundle.tf32,
    )
    check_key(key, trt_library)
    return key, model


def build_engine(
    bundle: Bundle, config: BuildConfig, cache: EngineCache, progress: Progress | None = None
) -> tuple[EngineRecord, bool]:
    """Compile an engine, or return the one in the cache.

    Two processes that need the same engine compile it once: the second waits. A damaged engine is compiled again; an untrusted
    one is an error.

    Args:
        bundle: the bundle.
        config: what to compile.
        cache: where the engine is stored.
        progress: called after each step of the compiler.

    Returns:
        The engine, and whether it was compiled now.

    Raises:
        BundleError: the bundle has no such model, or it was changed.
        BackendError: a subclass says what is missing or was rejected.
    """
    key, model = engine_key(bundle, config)
    with cache.lock(key):
        cached = cache.get(key)
        if cached is not None:
            try:
                cache.read(cached)
            except EngineDamagedError as error:
                _log.warning("compiling again: %s", error)
            else:
                return cached, False
        compiled = compile_engine(model, key, progress)
        record = EngineRecord(
            key=key,
            sha256=hashlib.sha256(compiled.plan).hexdigest(),
            bytes=len(compiled.plan),
            tensors=compiled.tensors,
            bundle=bundle.label,
            seconds=round(compiled.seconds, 3),
        )
        cache.write(record, compiled.plan)
    return record, True


def model_hashes(bundle: Bundle) -> frozenset[str]:
    """Return the SHA-256 of the bundle's models; an engine compiled from any of them fits the bundle."""
    return frozenset(bundle.hashes[file] for file in bundle.variants.values() if file in bundle.hashes)


def find_engine(bundle: Bundle, library_name: str, cache: EngineCache, precision: str | None = None) -> EngineRecord:
    """Find the engine of a bundle that fits the library and GPU of this machine.

    Args:
        bundle: the bundle.
        library_name: "tensorrt" or "tensorrt-rtx".
        cache: the engines.
        precision: the only precision to accept; by default the bundle's best for a GPU is preferred.

    Raises:
        EngineMissingError, EngineMismatchError: no engine fits; the message says why and how to build one.
        LibraryMissingError, DriverError, NoDeviceError: no engine can run here.
    """
    trt_library = library.get_library(library_name)
    version = library.import_library(trt_library).__version__
    gpu = cuda.gpu()
    target = EngineTarget(
        trt_library.name, version, gpu.capability, gpu.name, library.platform_tag(), model_hashes(bundle)
    )
    preferred = variant_for(bundle, trt_library.name).removesuffix(TENSORRT_SUFFIX)
    wanted = precision.removesuffix(TENSORRT_SUFFIX) if precision else None
    return cache.find(target, build_command(trt_library.name, wanted), wanted, preferred)


def has_engine(bundle: Bundle, library_name: str, cache: EngineCache) -> bool:
    """Return whether any engine of this bundle and library was compiled; loads no library."""
    models = model_hashes(bundle)
    return any(record.key.library == library_name and record.key.onnx in models for record in cache.records())


def check_key(key: EngineKey, trt_library: TrtLibrary) -> None:
    """Reject what cannot be compiled, before the library is loaded.

    Raises:
        EngineError: which part of the key is wrong, and what to pass instead.
    """
    low, usual, high = key.batches
    if not 1 <= low <= usual <= high:
        raise EngineError(f"batch sizes must be in ascending order such as 1,8,32, got {low},{usual},{high}")
    if not key.capabilities:
        raise EngineError("at least one compute capability is needed; pass one, for example sm86")
    if trt_library.capabilities:
        unknown = [name for name in key.capabilities if name not in trt_library.capabilities]
        if unknown:
            raise EngineError(
                f"{trt_library.name} compiles for {', '.join(trt_library.capabilities)}, got {', '.join(unknown)}; for other GPUs "
                "use tensorrt on the device itself"
            )
    elif key.gpu is None:
        raise EngineError(f"{trt_library.name} compiles only for the GPU it runs on, but this machine has no GPU")
    if key.dla is not None:
        _check_dla(key, trt_library)


def _check_dla(key: EngineKey, trt_library: TrtLibrary) -> None:
    if not trt_library.dla:
        raise EngineError(f"{trt_library.name} does not support DLA cores; use tensorrt on a Jetson")
    if len(set(key.batches)) > 1:
        raise EngineError(
            f"a DLA core needs one batch size, got {','.join(map(str, key.batches))}; pass a single number"
        )
    if key.precision == "fp32":
        raise EngineError("a DLA core needs precision fp16 or int8, got fp32")


def compile_engine(onnx: bytes, key: EngineKey, progress: Progress | None = None) -> CompiledEngine:
    """Compile a model. This takes from less than a second to many minutes.

    Args:
        onnx: bytes of the ONNX file.
        key: what to compile for.
        progress: called after each step; if it raises, the build stops and the exception is raised.

    Raises:
        EngineError: the key is inconsistent.
        LibraryMissingError: the library is not installed or too old.
        UnsupportedModelError: TensorRT rejects the model; the message has the operator and the reason.
        DeviceMemoryError: the GPU has too little memory to compile.
    """
    trt_library = library.get_library(key.library)
    check_key(key, trt_library)
    trt = library.import_library(trt_library)
    logger = library.get_logger(trt_library)
    logger.errors.clear()
    start = time.perf_counter()
    builder = trt.Builder(logger)
    # The parser owns the weights that the network refers to, so it must outlive the build.
    network, _parser = parse_onnx(onnx, trt_library, builder, adjust_for_dla=key.dla is not None)
    config = _builder_config(trt, builder, network, key, trt_library)
    monitor = _progress_monitor(trt, progress) if progress is not None else None
    if monitor is not None:
        config.progress_monitor = monitor
    plan = builder.build_serialized_network(network, config)
    if monitor is not None and monitor.error is not None:
        raise monitor.error
    if plan is None:
        raise _build_error(key, list(logger.errors))
    return CompiledEngine(bytes(plan), tensor_specs(network), time.perf_counter() - start)


def _builder_config(trt: Any, builder: Any, network: Any, key: EngineKey, trt_library: TrtLibrary) -> Any:
    config = builder.create_builder_config()
    profile = builder.create_optimization_profile()
    for i in range(network.num_inputs):
        tensor = network.get_input(i)
        profile.set_shape(tensor.name, *((count, *tuple(tensor.shape)[1:]) for count in key.batches))
    config.add_optimization_profile(profile)
    if key.workspace is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, key.workspace * 2**20)
    # TF32 is on by default for every float32 layer (NVIDIA's TensorRT documentation, "TF32").
    if not key.tf32 and hasattr(trt.BuilderFlag, "TF32"):
        config.clear_flag(trt.BuilderFlag.TF32)
    if key.dla is not None:
        config.default_device_type, config.DLA_core = trt.DeviceType.DLA, key.dla
        config.set_flag(trt.BuilderFlag.GPU_FALLBACK)
    if trt_library.capabilities:
        config.num_compute_capabilities = len(key.capabilities)
        for i, name in enumerate(key.capabilities):
            if not config.set_compute_capability(getattr(trt.ComputeCapability, name.upper()), i):
                raise EngineError(f"{key.library} {key.version} cannot compile for {name}; choose another GPU")
    return config


def parse_onnx(onnx: bytes, trt_library: TrtLibrary, builder: Any, adjust_for_dla: bool = False) -> tuple[Any, Any]:
    """Parse an ONNX file.

    Returns:
        The network, and the parser that owns its weights.

    Raises:
        UnsupportedModelError: the parser rejects nodes; the message has each one's operator, name and the reason.
    """
    trt = library.import_library(trt_library)
    strongly_typed = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if strongly_typed is None else 1 << int(strongly_typed))
    parser = trt.OnnxParser(network, library.get_logger(trt_library))
    if adjust_for_dla and hasattr(trt.OnnxParserFlag, "ADJUST_FOR_DLA"):
        parser.set_flag(trt.OnnxParserFlag.ADJUST_FOR_DLA)
    if not parser.parse(onnx):
        errors = [parser.get_error(i) for i in range(parser.num_errors)]
        rejected = "; ".join(f"{e.node_operator() or 'model'} {e.node_name()}: {e.desc()}".strip() for e in errors)
        raise UnsupportedModelError(
            f"the ONNX parser of {trt_library.name} rejects the model: {rejected or 'no reason given'}. Run the bundle with "
            "--backend cuda or cpu, or export it again with operators that TensorRT supports"
        )
    return network, parser


def tensor_specs(network: Any) -> tuple[TensorSpec, ...]:
    """Return the inputs and outputs of a parsed network, in order."""
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    outputs = [network.get_output(i) for i in range(network.num_outputs)]
    return tuple(
        TensorSpec(tensor.name, is_input, tensor.dtype.name.lower(), tuple(tensor.shape))
        for is_input, group in ((True, inputs), (False, outputs))
        for tensor in group
    )


def _build_error(key: EngineKey, errors: list[str]) -> EngineError | DeviceMemoryError:
    messages = "; ".join(errors) or "no reason given"
    what = f"{key.library} {key.version} cannot compile the {key.precision} model for {', '.join(key.capabilities)}"
    if any(sign in messages.lower() for sign in ("out of memory", "outofmemory", "insufficient memory")):
        return DeviceMemoryError(f"{what}: {messages}. Close other programs, or use smaller batches or workspace")
    return UnsupportedModelError(f"{what}: {messages}. Try another --precision")


def _progress_monitor(trt: Any, progress: Progress) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """Forwards progress. An exception of the receiver, Ctrl-C included, stops the build and is kept in `error`."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.steps: dict[str, int] = {}
            self.error: BaseException | None = None

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self.steps[phase_name] = num_steps

        def step_complete(self, phase_name: str, step: int) -> bool:
            try:
                progress(phase_name, step + 1, self.steps.get(phase_name, step + 1))
            except BaseException as error:
                self.error = error
            return self.error is None

        def phase_finish(self, phase_name: str) -> None:
            self.steps.pop(phase_name, None)

    return Monitor()
