"""Write a model repository for Triton Inference Server with Triton's own protobuf."""

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


def write_engine_repository(out: Path, bundle: Bundle, stores: Sequence[EngineCache]) -> Path:
    """Write a repository with one TensorRT engine per compute capability; Triton picks by its GPU.

    Raises:
        EngineError: The caches hold no engine of this bundle, two of one capability, or different batches or tensors.
    """
    engines = [
        (store, record)
        for store in stores
        for record in store.records()
        if record.key.library == "tensorrt" and record.key.onnx in model_hashes(bundle) and record.key.dla is None
    ]
    if not engines:
        folders = ", ".join(str(store.folder) for store in stores)
        raise EngineError(
            f"no TensorRT engine of bundle {bundle.label} in {folders}; compile one on each server with edgeparse build "
            "(Triton cannot load engines of TensorRT for RTX), or omit --plans to serve the ONNX file"
        )
    first = engines[0][1]
    files = {}
    for store, record in engines:
        if (record.key.batches, record.tensors) != (first.key.batches, first.tensors):
            raise EngineError(
                f"{record.file} and {first.file} have different batches or tensors; compile both with the same settings"
            )
        (capability,) = record.key.capabilities
        if capability in files:
            raise EngineError(f"there are two engines for {capability}; remove one")
        files[capability] = store.read(record)
    config = _config(bundle, first.tensors, first.key.batches)
    config.platform = "tensorrt_plan"
    for capability, data in sorted(files.items()):
        number = int(capability.removeprefix("sm"))
        config.cc_model_filenames[f"{number // 10}.{number % 10}"] = f"model-{capability}.plan"
        _write(out, f"model-{capability}.plan", data)
    config.default_model_filename = f"model-{min(files)}.plan"
    return _finish(out, config)


def write_onnx_repository(out: Path, bundle: Bundle, batches: tuple[int, int, int]) -> Path:
    """Write a repository with the bundle's ONNX file, which Triton's ONNX Runtime compiles with TensorRT on loading.

    Raises:
        BundleError: The bundle's model is missing or damaged.
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
        # ONNX Runtime's type is "tensor(float)".
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
    """Parse a configuration strictly."""
    return text_format.Parse(path.read_text(), pb.ModelConfig())
