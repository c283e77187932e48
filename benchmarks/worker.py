"""Run one workload in its own process, which sleeps while others are measured.

In a shared process, idle threads of one library would keep spinning and take cores from the library that is measured.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from benchmarks.workloads import open_workload
from edgeparse.system import peak_memory_mb

ROOT = Path(__file__).parent.parent
# Runs that do not count, before the first turn and before each later one: threads wake up and caches fill.
WARM_UP, WAKE_UP = 5, 2
# The error of a process that did not answer in time.
LATE = "no answer in time"
ERROR_LENGTH = 500


class WorkerError(RuntimeError):
    """Raised when a workload cannot run here; the message is its library's."""


class Worker:
    """Opens a workload in a new process and runs it on request.

    Args:
        spec: The argument of `open_workload`, and optionally `warm`: runs before the first turn and before each turn.
        patience: Seconds to wait for an answer before the process is killed; by default forever.

    Raises:
        WorkerError: The workload cannot run here.
    """

    def __init__(self, spec: dict[str, Any], patience: float | None = None) -> None:
        self.patience = patience
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", json.dumps(spec)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.peak_memory_mb: float | None = None
        try:
            self._receive()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def run(self, seconds: float, least: int = 3) -> dict[str, list[float]]:
        """Run for about `seconds` and at least `least` times; return milliseconds of every run, by part."""
        self.start(seconds, least)
        return self.finish()

    def start(self, seconds: float, least: int = 3) -> None:
        """Start a turn without waiting for its end."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([seconds, least]) + "\n")
        self._process.stdin.flush()

    def finish(self) -> dict[str, list[float]]:
        """Wait for the turn's end; return milliseconds of every run, by part."""
        answer = self._receive()
        self.peak_memory_mb = answer["peak_memory_mb"]
        runs: dict[str, list[float]] = answer["runs"]
        return runs

    def cpu_seconds(self) -> float:
        """Return the CPU time that the process has used."""
        times = psutil.Process(self._process.pid).cpu_times()
        return float(times.user + times.system)

    def close(self) -> None:
        """Stop the process."""
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            with contextlib.suppress(BrokenPipeError):
                stream.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _receive(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        timed_out = threading.Event()

        def kill() -> None:
            timed_out.set()
            self._process.kill()

        timer = threading.Timer(self.patience or 0, kill)
        if self.patience is not None:
            timer.start()
        try:
            line = self._process.stdout.readline()
        finally:
            timer.cancel()
        if not line:
            status = self._process.wait()
            raise WorkerError(LATE if timed_out.is_set() else f"the process ended with status {status}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer


@contextlib.contextmanager
def _answer_stream() -> Iterator[Any]:
    """Yield standard output, while everything that libraries print goes to standard error."""
    with os.fdopen(os.dup(1), "w") as stream:
        os.dup2(2, 1)
        yield stream


def main() -> None:
    """Open the workload of the first argument, then run a turn for each line of standard input."""
    with _answer_stream() as stream:

        def answer(fields: dict[str, Any]) -> None:
            stream.write(json.dumps(fields) + "\n")
            stream.flush()

        try:
            spec = json.loads(sys.argv[1])
            warm_up, wake_up = spec.pop("warm", (WARM_UP, WAKE_UP))
            workload = open_workload(spec)
            for _ in range(warm_up):
                workload()
            answer({"ready": True})
            for line in sys.stdin:
                seconds, least = json.loads(line)
                runs: dict[str, list[float]] = {}
                done = 0
                for _ in range(wake_up):
                    workload()
                start = time.perf_counter()
                while done < least or time.perf_counter() - start < seconds:
                    for part, value in workload().items():
                        runs.setdefault(part, []).append(value)
                    done += 1
                answer({"runs": runs, "peak_memory_mb": peak_memory_mb()})
        except Exception as error:  # libraries raise any type; the parent shows it
            answer({"error": f"{type(error).__name__}: {error}"[:ERROR_LENGTH]})


if __name__ == "__main__":
    main()
