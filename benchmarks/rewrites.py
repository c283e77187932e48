"""What each change of the INT8 file's layout is worth on a CPU: a file with all of them, and one without each, turn by turn.

All compute the same, but for rounding. What a network costs does not depend on what it is calibrated with: the files are made anew from
the bundle's fp32 network and the samples.
"""

from __future__ import annotations

import random
import statistics
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import made
from benchmarks.peers import quartiles
from benchmarks.worker import Worker, WorkerError
from edgeparse.bundle import Bundle
from export.quantize import CPU, Scheme, quantize

RUNTIMES = ("onnxruntime", "openvino")
ALL = "all"


def schemes() -> Iterator[tuple[str, Scheme]]:
    """The CPU's scheme, and it without one change each, by that change's name."""
    yield ALL, CPU
    for when in ("before", "after"):
        rewrites = getattr(CPU, when)
        for left_out in rewrites:
            yield left_out.__name__, replace(CPU, **{when: tuple(one for one in rewrites if one is not left_out)})


def measure(
    bundle: Bundle, threads: int, rounds: int, seconds: float, progress: Callable[[str], None] = lambda _text: None
) -> dict[str, Any]:
    """Time one window through every file in every runtime that is installed; everyone has a turn of so many seconds in each round, in a
    process of its own: where a process has its memory makes as much of a difference as some changes do."""
    with tempfile.TemporaryDirectory() as temporary:
        source, orders = Path(temporary) / "model.onnx", {}
        source.write_bytes(bundle.model("fp32"))
        shown = made.sample_windows(bundle.window)
        for name, scheme in schemes():
            progress(f"making {name}")
            target = Path(temporary) / f"{name}.onnx"
            quantize(source, target, shown, scheme)
            for runtime in RUNTIMES:
                orders[name, runtime] = {
                    "kind": "file",
                    "path": str(target),
                    "size": bundle.window,
                    "outputs": bundle.outputs,
                    "runtime": runtime,
                    "threads": threads,
                }
        turns: dict[tuple[str, str], list[float]] = {each: [] for each in orders}
        drawn = random.Random(0)
        for number in range(rounds):
            progress(f"round {number + 1} of {rounds}")
            for each in drawn.sample(list(turns), len(turns)):
                try:
                    with Worker(orders[each]) as worker:
                        turns[each].append(statistics.median(worker.run(seconds)["network"]))
                except WorkerError as error:
                    progress(f"{' in '.join(each)} cannot run here: {error}")
                    del turns[each]
    return {
        "bundle": bundle.label,
        "bundle_sha256": bundle.sha256,
        "threads": threads,
        "rounds": rounds,
        "turn_seconds": seconds,
        "files": [
            {
                "without": None if name == ALL else name,
                "runtime": runtime,
                "ms": statistics.median(taken),
                "times": quartiles([b / a for a, b in zip(turns[ALL, runtime], taken, strict=True)]),
            }
            for (name, runtime), taken in turns.items()
            if (ALL, runtime) in turns
        ],
    }
