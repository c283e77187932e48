"""A model repository for Triton Inference Server, written with Triton's own protobuf."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnxruntime
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from edgeparse.backends.base import variant_for
from edgeparse.backends.tensorrt.build import model_hashes
from edgeparse.backends.tensorrt.engine_cache import EngineCache, TensorSpec
from edgeparse.bundle import Bundle
from edgeparse.errors import EngineError

NAME = "edgeparse"
QUEUE_MICROSECONDS = 500
_TYPES = {"uint8": pb.TYPE_UINT8, "float": pb.TYPE_FP32}


def with_plans(out: Path, bundle: Bundle, stores: Sequence[EngineCache]) -> Path:
    """A repository that serves engines of TensorRT, one a compute capability; Triton picks by the GPU that it finds.

    Raises:
        EngineError: no engine of this bundle in the folders, or two of one capability, or with different batches or tensors.
    """
    found = [
        (store, record)
        for store in stores
        for record in store.records()
        if record.key.library == "tensorrt" and record.key.onnx in model_hashes(bundle) and record.key.dla is None
    ]
    if not found:
        looked = ", ".join(str(store.folder) for store in stores)
        raise EngineError(
            f"no TensorRT engine of bundle {bundle.label} in {looked}; compile one on each server with edgeparse build "
            "(engines of TensorRT for RTX are none: Triton cannot load them), or leave --plans out to serve the ONNX file"
        )
    first = found[0][1]
    files = {}
    for store, record in found:
        if (record.key.batches, record.tensors) != (first.key.batches, first.tensors):
            raise EngineError(f"{record.file} and {first.file} have different batches or tensors; compile both alike")
        (capability,) = record.key.capabilities
        if capability in files:
            raise EngineError(f"there are two engines for {capability}; keep the one to serve")
        files[capability] = store.read(record)
    config = _config(bundle, first.tensors, first.key.batches)
    config.platform = "tensorrt_plan"
    for capability, data in sorted(files.items()):
        number = int(capability.removeprefix("sm"))
        config.cc_model_filenames[f"{number // 10}.{number % 10}"] = f"model-{capability}.plan"
        _write(out, f"model-{capability}.plan", data)
    config.default_model_filename = f"model-{min(files)}.plan"
    return _finish(out, config)


def with_onnx(out: Path, bundle: Bundle, batches: tuple[int, int, int]) -> Path:
    """A repository that serves the bundle's ONNX file, which Triton's ONNX Runtime compiles with TensorRT when it loads it.

    Raises:
        BundleError: the bundle's model is missing or damaged.
    """
    model = bundle.model(variant_for(bundle, "onnxruntime-tensorrt"))
    config = _config(bundle, _tensors(model), batches)
    config.platform = "onnxruntime_onnx"
    config.default_model_filename = "model.onnx"
    config.optimization.execution_accelerators.gpu_execution_accelerator.add(name="tensorrt")
    _write(out, "model.onnx", model)
    return _finish(out, config)


def _tensors(model: bytes) -> list[TensorSpec]:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    groups = ((True, session.get_inputs()), (False, session.get_outputs()))
    return [
        # ONNX Runtime writes "tensor(float)".
        TensorSpec(value.name, is_input, value.type[7:-1], (-1, *value.shape[1:]))
        for is_input, group in groups
        for value in group
    ]


def _config(bundle: Bundle, tensors: Sequence[TensorSpec], batches: tuple[int, int, int]) -> pb.ModelConfig:
    config = pb.ModelConfig(name=NAME, max_batch_size=batches[2])
    for tensor in tensors:
        entry = (config.input if tensor.input else config.output).add()
        entry.name, entry.data_type = tensor.name, _TYPES[tensor.dtype]
        entry.dims.extend(tensor.shape[1:])
    preferred = sorted({size for size in batches[1:] if size > 1})
    config.dynamic_batching.preferred_batch_size.extend(preferred)
    config.dynamic_batching.max_queue_delay_microseconds = QUEUE_MICROSECONDS
    config.instance_group.add(kind=pb.ModelInstanceGroup.KIND_GPU, count=1)
    config.parameters["bundle"].string_value = bundle.label
    config.parameters["bundle_sha256"].string_value = bundle.sha256
    return config


def _write(out: Path, name: str, data: bytes) -> None:
    folder = out / NAME / "1"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


def _finish(out: Path, config: pb.ModelConfig) -> Path:
    path = out / NAME / "config.pbtxt"
    path.write_text(text_format.MessageToString(config))
    return path


def parse(path: Path) -> pb.ModelConfig:
    """Read a configuration back, strictly."""
    return text_format.Parse(path.read_text(), pb.ModelConfig())
