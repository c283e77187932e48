"""What a first report costs in a process that has loaded nothing. Run by itself, this module is that process."""

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
    """Medians of `runs` processes, in milliseconds by phase: `start` of Python, `import` of the package, `open` of bundle and backend, the
    `first` report, their `total`; and `command`, a whole `edgeparse check` of the same picture. `peak_memory_mb` is the largest of all
    processes."""

    runs: int
    phases_ms: dict[str, float]
    command_ms: float
    peak_memory_mb: float | None

    def to_json(self) -> dict[str, Any]:
        """The fields, as in `bench.schema.json`."""
        return asdict(self)


def measure(picture: str | PathLike[str], runs: int, settings: dict[str, Any]) -> ColdStart:
    """Time `runs` new processes, one after another.

    Args:
        settings: arguments of `Parser`: bundle, backend, windows, variant, threads.

    Raises:
        EdgeparseError: one of the processes failed.
    """
    answers = []
    commands = []
    options = [f"--{name}={settings[name]}" for name in ("bundle", "backend", "windows") if settings.get(name)]
    for _ in range(runs):
        order = json.dumps({"picture": str(picture), "settings": settings, "begun": time.time()})
        answers.append(json.loads(_run("edgeparse.coldstart", order)))
        begun = time.perf_counter()
        _run("edgeparse", "check", "--jsonl", *options, "--", str(picture))
        commands.append((time.perf_counter() - begun) * 1e3)
    peaks = [answer["peak_memory_mb"] for answer in answers if answer["peak_memory_mb"] is not None]
    return ColdStart(
        runs,
        {phase: statistics.median(answer[phase] for answer in answers) for phase in PHASES},
        statistics.median(commands),
        max(peaks) if peaks else None,
    )


def _run(module: str, *arguments: str) -> str:
    """What a module prints as a program of its own, found where this process finds its modules: `python -m` would look first into the
    working directory, where a file of any name may lie."""
    code = (
        f"import sys; sys.path[:] = {sys.path!r}; from runpy import run_module; "
        f"run_module({module!r}, run_name='__main__', alter_sys=True)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise EdgeparseError(f"a new process failed: {done.stderr.strip() or f'exit status {done.returncode}'}")
    return done.stdout


def main() -> None:
    """Answer the order in the first argument: the phases in milliseconds and the peak memory, as JSON."""
    ready = time.time()
    order = json.loads(sys.argv[1])
    marks = [time.perf_counter()]
    from edgeparse.parser import Parser

    marks.append(time.perf_counter())
    parser = Parser(**order["settings"])
    marks.append(time.perf_counter())
    parser.parse(order["picture"])
    marks.append(time.perf_counter())
    done = time.time()
    from edgeparse.machine import peak_memory_mb

    steps = [(after - before) * 1e3 for before, after in itertools.pairwise(marks)]
    times = [(ready - order["begun"]) * 1e3, *steps, (done - order["begun"]) * 1e3]
    print(json.dumps(dict(zip(PHASES, times, strict=True)) | {"peak_memory_mb": peak_memory_mb()}))


if __name__ == "__main__":
    main()
