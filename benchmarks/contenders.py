"""Who is measured beside whom."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

# The published networks: each answers one question, and a picture is shown to all of them.
PUBLISHED = ("parsing", "deepfake", "attribution")
OURS = "edgeparse"

_PRECISIONS = {
    "pytorch": ("fp32",),
    "torch.compile": ("fp32",),
    "onnxruntime": ("fp32", "int8"),
    "openvino": ("fp32", "bf16", "int8"),
    "pytorch-cuda": ("fp32",),
    "onnxruntime-cuda": ("fp32", "fp16"),
    "tensorrt": ("fp32", "fp16", "int8"),
    "tensorrt-rtx": ("fp32", "fp16", "int8"),
}
ON_GPU = ("pytorch-cuda", "onnxruntime-cuda", "tensorrt", "tensorrt-rtx")


@dataclass(frozen=True)
class Contender:
    """A network ("published" is three of them, "floor" the light detector), what runs it, and at which precision."""

    network: str
    runtime: str
    precision: str

    @property
    def name(self) -> str:
        """As in tables."""
        return f"{self.network} / {self.runtime} / {self.precision}"

    def to_json(self) -> dict[str, str]:
        """The fields."""
        return asdict(self)


def contenders(gpu: bool) -> Iterator[Contender]:
    """Everyone, whether or not it can run here."""
    for network in ("published", OURS):
        for runtime, precisions in _PRECISIONS.items():
            if gpu or runtime not in ON_GPU:
                yield from (Contender(network, runtime, precision) for precision in precisions)
    yield Contender("floor", "pytorch", "fp32")
    yield Contender("floor", "onnxruntime", "fp32")
