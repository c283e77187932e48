"""Two figures in a minute: one window through the network, and one picture from a cold start. `python -m benchmarks.quick`"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import time
from pathlib import Path

import click
import numpy as np

from edgeparse.backends.onnxruntime import OnnxRuntimeBackend, usable_cores, version
from edgeparse.bundle import open_bundle

PICTURE = Path(__file__).parent.parent / "samples" / "camera-dog.jpg"

# A process is charged with the peak of whichever started it, so a small one starts it.
_WATCH = """
import json, os, subprocess, sys, time
begun = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
print(json.dumps([time.perf_counter() - begun, usage.ru_maxrss, os.waitstatus_to_exitcode(status)]))
"""


def window(variant: str, runs: int, threads: int) -> dict[str, float]:
    """Milliseconds for one 128x128 window, every output: median, 90th percentile, and the runs they rest on."""
    bundle = open_bundle()
    backend = OnnxRuntimeBackend(bundle.model(variant), threads=threads)
    outputs = ["fingerprint", "embedding", "generated", "family", "continuous", "losses"]
    outputs += [parameter.name for parameter in bundle.discrete]
    given = np.random.default_rng(0).integers(0, 256, (1, bundle.window, bundle.window, 3), np.uint8)
    for _ in range(20):
        backend.run(given, outputs)
    times = []
    for _ in range(runs):
        begun = time.perf_counter()
        backend.run(given, outputs)
        times.append((time.perf_counter() - begun) * 1e3)
    return {"median_ms": float(np.median(times)), "p90_ms": float(np.percentile(times, 90)), "runs": runs}


def cold_start(runs: int) -> dict[str, float]:
    """Wall seconds of a whole `edgeparse check` of one picture in a new process (median), and its peak memory in MB (largest)."""
    command = [sys.executable, "-m", "edgeparse", "check", "--jsonl", str(PICTURE)]
    times, peaks = [], []
    for _ in range(runs):
        done = subprocess.run([sys.executable, "-c", _WATCH, *command], capture_output=True, text=True, check=True)
        seconds, peak, status = json.loads(done.stdout)
        if status:
            raise click.ClickException(f"{' '.join(command)} ended with status {status}: {done.stderr}")
        times.append(seconds)
        # Linux counts in KiB, macOS in bytes.
        peaks.append(peak / (1e6 if platform.system() == "Darwin" else 1e6 / 1024))
    return {"median_s": float(np.median(times)), "peak_mb": max(peaks), "runs": runs}


@click.command()
@click.option("--runs", default=200, show_default=True)
@click.option("--threads", default=usable_cores(), show_default=True)
def main(runs: int, threads: int) -> None:
    """Print the figures as JSON."""
    result = {
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "threads": threads,
            "onnxruntime": version(),
            "bundle": open_bundle().label,
        },
        "window": {variant: window(variant, runs, threads) for variant in ("fp32", "int8")},
        "cold_start": cold_start(max(3, runs // 40)),
    }
    click.echo(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
