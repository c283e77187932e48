"""ONNX -> engine. Precision is in the ONNX file: every network is strongly typed, as TensorRT 11 has no other kind."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edgeparse.backends import flavours
from edgeparse.backends.flavours import Flavour
from edgeparse.backends.plans import Key, Tensor
from edgeparse.errors import DeviceMemoryError, EngineError, UnsupportedModelError

# Called with the name of a phase, the step just done and the number of steps.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Compiled:
    """An engine's bytes, its inputs and outputs, and the seconds that it took."""

    plan: bytes
    tensors: tuple[Tensor, ...]
    seconds: float


def check(key: Key, flavour: Flavour) -> None:
    """Refuse what cannot be compiled before the library is loaded.

    Raises:
        EngineError: which part of the key is wrong, and what would be right.
    """
    low, usual, high = key.batches
    if not 1 <= low <= usual <= high:
        raise EngineError(
            f"batch sizes {low},{usual},{high} are not in order; give the smallest, the usual and the largest, as 1,8,32"
        )
    if not key.capabilities:
        raise EngineError("no compute capability to compile for was given")
    if flavour.capabilities:
        unknown = [name for name in key.capabilities if name not in flavour.capabilities]
        if unknown:
            raise EngineError(
                f"{flavour.name} does not compile for {', '.join(unknown)}, only for {', '.join(flavour.capabilities)}; "
                "for other GPUs take the flavour tensorrt, on the device"
            )
    elif key.gpu is None:
        raise EngineError(f"{flavour.name} compiles only for the GPU that it runs on, and there is none here")
    if key.dla is not None:
        if not flavour.dla:
            raise EngineError(f"{flavour.name} knows no DLA cores; take the flavour tensorrt on a Jetson")
        if not low == usual == high:
            raise EngineError(f"a DLA core runs one batch size, not {low} to {high}; give it three times")
        if key.precision == "fp32":
            raise EngineError("a DLA core computes in fp16 or int8, not in fp32")


def compile_engine(onnx: bytes, key: Key, progress: Progress | None = None) -> Compiled:
    """Compile a model for what `key` says. Blocks for less than a second to many minutes.

    Raises:
        EngineError: the key asks for what cannot be.
        LibraryMissingError: the library is not installed or too old.
        UnsupportedModelError: the parser or the compiler refuses the model; the message has the operator and the reason.
        DeviceMemoryError: the GPU has not enough memory to compile on.
    """
    flavour = flavours.flavour(key.flavour)
    check(key, flavour)
    trt = flavours.library(flavour)
    logger = flavours.logger(flavour)
    logger.errors.clear()
    begun = time.perf_counter()
    builder = trt.Builder(logger)
    # The parser owns weights that the network points to: it has to outlive the build.
    network, _parser = parse(onnx, flavour, builder, adjust_for_dla=key.dla is not None)
    config = builder.create_builder_config()
    profile = builder.create_optimization_profile()
    for i in range(network.num_inputs):
        tensor = network.get_input(i)
        profile.set_shape(tensor.name, *((count, *tuple(tensor.shape)[1:]) for count in key.batches))
    config.add_optimization_profile(profile)
    if key.workspace is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, key.workspace * 2**20)
    # On by default, for every float32 layer (NVIDIA's TensorRT documentation, "TF32").
    if not key.tf32 and hasattr(trt.BuilderFlag, "TF32"):
        config.clear_flag(trt.BuilderFlag.TF32)
    if key.dla is not None:
        config.default_device_type, config.DLA_core = trt.DeviceType.DLA, key.dla
        config.set_flag(trt.BuilderFlag.GPU_FALLBACK)
    if flavour.capabilities:
        config.num_compute_capabilities = len(key.capabilities)
        for i, name in enumerate(key.capabilities):
            if not config.set_compute_capability(getattr(trt.ComputeCapability, name.upper()), i):
                raise EngineError(f"{key.flavour} {key.version} refuses to compile for {name}")
    monitor = _monitor(trt, progress) if progress is not None else None
    if monitor is not None:
        config.progress_monitor = monitor
    plan = builder.build_serialized_network(network, config)
    if monitor is not None and monitor.stopped is not None:
        raise monitor.stopped
    if plan is None:
        raise _refused(key, list(logger.errors))
    return Compiled(bytes(plan), tensors_of(network), time.perf_counter() - begun)


def parse(onnx: bytes, flavour: Flavour, builder: Any, adjust_for_dla: bool = False) -> tuple[Any, Any]:
    """The network of an ONNX file, and the parser that owns its weights.

    Raises:
        UnsupportedModelError: the parser refuses a node; the message has each one's operator, name and the reason.
    """
    trt = flavours.library(flavour)
    typed = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if typed is None else 1 << int(typed))
    parser = trt.OnnxParser(network, flavours.logger(flavour))
    if adjust_for_dla and hasattr(trt.OnnxParserFlag, "ADJUST_FOR_DLA"):
        parser.set_flag(trt.OnnxParserFlag.ADJUST_FOR_DLA)
    if not parser.parse(onnx):
        errors = [parser.get_error(i) for i in range(parser.num_errors)]
        refused = "; ".join(f"{e.node_operator() or 'model'} {e.node_name()}: {e.desc()}".strip() for e in errors)
        raise UnsupportedModelError(
            f"the ONNX parser of {flavour.name} refuses the model: {refused or 'it gave no reason'}. "
            "Run the bundle with --backend cuda or cpu instead, or export it again with operators that TensorRT knows"
        )
    return network, parser


def tensors_of(network: Any) -> tuple[Tensor, ...]:
    """The inputs and outputs of a parsed network, in order."""
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    outputs = [network.get_output(i) for i in range(network.num_outputs)]
    return tuple(
        Tensor(tensor.name, is_input, tensor.dtype.name.lower(), tuple(tensor.shape))
        for is_input, group in ((True, inputs), (False, outputs))
        for tensor in group
    )


def _refused(key: Key, errors: list[str]) -> EngineError | DeviceMemoryError:
    said = "; ".join(errors) or "it gave no reason"
    what = f"{key.flavour} {key.version} cannot compile the {key.precision} model for {', '.join(key.capabilities)}"
    if any(sign in said.lower() for sign in ("out of memory", "outofmemory", "insufficient memory")):
        return DeviceMemoryError(
            f"{what}: {said}. Close other programs, or give smaller batches or a smaller workspace"
        )
    return UnsupportedModelError(f"{what}: {said}. Another --precision may compile")


def _monitor(trt: Any, progress: Progress) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """Passes progress on; what the receiver raises, Ctrl-C too, ends the build and is raised after it."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.steps: dict[str, int] = {}
            self.stopped: BaseException | None = None

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self.steps[phase_name] = num_steps

        def step_complete(self, phase_name: str, step: int) -> bool:
            try:
                progress(phase_name, step + 1, self.steps.get(phase_name, step + 1))
            except BaseException as error:
                self.stopped = error
            return self.stopped is None

        def phase_finish(self, phase_name: str) -> None:
            self.steps.pop(phase_name, None)

    return Monitor()
