"""What a backend is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

# What a run on a device consists of.
TRANSFERS = ("host_to_device", "compute", "device_to_host")


class Backend(Protocol):
    """A loaded network. Both methods may be called from many threads at once."""

    @property
    def name(self) -> str:
        """What a report calls it, as "onnxruntime-cpu"."""

    def run(self, windows: NDArray[np.uint8], outputs: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """The named outputs for uint8[N, S, S, 3], S the bundle's window and N >= 1; arrays that the caller owns.

        Raises:
            BackendError: the library failed.
        """


@runtime_checkable
class Timed(Protocol):
    """A backend that tells transfers from computing."""

    def timed(
        self, windows: NDArray[np.uint8], outputs: Sequence[str]
    ) -> tuple[dict[str, NDArray[np.float32]], dict[str, float]]:
        """As `Backend.run`, with the milliseconds of each of `TRANSFERS`."""


@runtime_checkable
class Shaped(Protocol):
    """A backend that tells what its network takes and gives, before it runs."""

    @property
    def shapes(self) -> dict[str, tuple[int | None, ...]]:
        """Of `windows` and of every output, without the number of windows; None is a side that the model's file leaves open."""
