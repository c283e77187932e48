"""What a backend is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


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
