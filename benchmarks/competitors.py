"""Which networks, runtimes and precisions are compared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

# The published networks. Each answers one question, so a picture needs all of them.
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
class Competitor:
    """A network on a runtime at a precision.

    The network is "edgeparse", "published" (three networks) or "floor" (a light detector).
    """

    network: str
    runtime: str
    precision: str

    @property
    def name(self) -> str:
        """The name in tables and in --only."""
        return f"{self.network} / {self.runtime} / {self.precision}"

    def to_json(self) -> dict[str, str]:
        """Return the fields."""
        return asdict(self)


def competitors(gpu: bool) -> Iterator[Competitor]:
    """Yield every competitor, even those that cannot run here; GPU runtimes only with `gpu`."""
    for network in ("published", OURS):
        for runtime, precisions in _PRECISIONS.items():
            if gpu or runtime not in ON_GPU:
                yield from (Competitor(network, runtime, precision) for precision in precisions)
    yield Competitor("floor", "pytorch", "fp32")
    yield Competitor("floor", "onnxruntime", "fp32")
