"""Time to the first report in a new process. Run as a program, this module is that process."""

from __future__ import annotations

import itertools
import json
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from os import PathLike
from typing import Any

from edgeparse.errors import EdgeparseError

PHASES = ("start", "import", "open", "first", "total")


@dataclass(frozen=True)
class ColdStart:
    """Medians over new processes, in milliseconds.

    Attributes:
        runs: number of processes.
        phases_ms: `start` of Python, `import` of the package, `open` of the bundle and backend, the `first` report, and `total`.
        command_ms: a whole `edgeparse check` of the same image.
        peak_memory_mb: largest peak memory of the processes, in MB.
    """

    runs: int
    phases_ms: dict[str, float]
    command_ms: float
    peak_memory_mb: float | None

    def to_json(self) -> dict[str, Any]:
        """Return the fields as in `bench.schema.json`."""
        return asdict(self)


def measure(picture: str | PathLike[str], runs: int, settings: dict[str, Any]) -> ColdStart:
    """Time new processes, one after another.

    Args:
        picture: path of the image.
        runs: number of processes.
        settings: arguments of `Parser`: bundle, backend, windows, variant, threads.

    Raises:
        EdgeparseError: a process failed.
    """
    results = []
    commands = []
    options = [f"--{name}={settings[name]}" for name in ("bundle", "backend", "windows") if settings.get(name)]
    for _ in range(runs):
        task = json.dumps({"picture": str(picture), "settings": settings, "started": time.time()})
        results.append(json.loads(_run("edgeparse.bench.cold_start", task)))
        start = time.perf_counter()
        _run("edgeparse", "check", "--jsonl", *options, "--", str(picture))
        commands.append((time.perf_counter() - start) * 1e3)
    peaks = [result["peak_memory_mb"] for result in results if result["peak_memory_mb"] is not None]
    return ColdStart(
        runs,
        {phase: statistics.median(result[phase] for result in results) for phase in PHASES},
        statistics.median(commands),
        max(peaks) if peaks else None,
    )


def _run(module: str, *arguments: str) -> str:
    """Run a module in a new process with this process's module search path, and return its standard output.

    `python -m` would search the working directory first, which may contain a file of any name.
    """
    code = (
        f"import sys; sys.path[:] = {sys.path!r}; from runpy import run_module; "
        f"run_module({module!r}, run_name='__main__', alter_sys=True)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise EdgeparseError(f"a new process failed: {done.stderr.strip() or f'exit status {done.returncode}'}")
    return done.stdout


def main() -> None:
    """Run the task in the first argument, and print the phases in milliseconds and the peak memory as JSON."""
    ready = time.time()
    task = json.loads(sys.argv[1])
    marks = [time.perf_counter()]
    from edgeparse.parser import Parser

    marks.append(time.perf_counter())
    parser = Parser(**task["settings"])
    marks.append(time.perf_counter())
    parser.parse(task["picture"])
    marks.append(time.perf_counter())
    done = time.time()
    from edgeparse.system import peak_memory_mb

    steps = [(after - before) * 1e3 for before, after in itertools.pairwise(marks)]
    times = [(ready - task["started"]) * 1e3, *steps, (done - task["started"]) * 1e3]
    print(json.dumps(dict(zip(PHASES, times, strict=True)) | {"peak_memory_mb": peak_memory_mb()}))


if __name__ == "__main__":
    main()
