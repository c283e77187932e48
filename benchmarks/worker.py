"""A process for one subject, which sleeps while others are measured.

In one process the threads of an idle library would go on spinning and take the cores from the one that is measured.
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

from benchmarks.subjects import open_subject
from edgeparse.system import peak_memory_mb

ROOT = Path(__file__).parent.parent
# Runs before the ones that count, at the beginning and after each sleep: threads wake up, caches fill.
FIRST, AGAIN = 5, 2


# What is said of who did not answer within its patience.
LATE = "no answer in time"


class WorkerError(RuntimeError):
    """A subject cannot run here; the message is its library's."""


class Worker:
    """The parent's side: opens a subject in a new process, and has it run when it is its turn.

    Args:
        order: what `open_subject` takes; `warm`, where it is there, is [runs before the first turn, runs before each turn].
        patience: seconds for an answer, after which the process is ended; by default it is waited for.

    Raises:
        WorkerError: the subject cannot run here.
    """

    def __init__(self, order: dict[str, Any], patience: float | None = None) -> None:
        self.patience = patience
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", json.dumps(order)],
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
        """Milliseconds by part of every run in about `seconds`, `least` at least."""
        self.start(seconds, least)
        return self.finish()

    def start(self, seconds: float, least: int = 3) -> None:
        """Begin a turn, without waiting for its end."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([seconds, least]) + "\n")
        self._process.stdin.flush()

    def finish(self) -> dict[str, list[float]]:
        """What the turn that was started gave."""
        answer = self._receive()
        self.peak_memory_mb = answer["peak_memory_mb"]
        runs: dict[str, list[float]] = answer["runs"]
        return runs

    def cpu_seconds(self) -> float:
        """What the process has used of the processor so far."""
        times = psutil.Process(self._process.pid).cpu_times()
        return float(times.user + times.system)

    def close(self) -> None:
        """End the process."""
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
        ended = threading.Event()

        def end() -> None:
            ended.set()
            self._process.kill()

        late = threading.Timer(self.patience or 0, end)
        if self.patience is not None:
            late.start()
        try:
            line = self._process.stdout.readline()
        finally:
            late.cancel()
        if not line:
            status = self._process.wait()
            raise WorkerError(LATE if ended.is_set() else f"the process ended with status {status}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer


@contextlib.contextmanager
def _answers() -> Iterator[Any]:
    """Where answers go; what libraries print goes to standard error meanwhile."""
    with os.fdopen(os.dup(1), "w") as stream:
        os.dup2(2, 1)
        yield stream


def main() -> None:
    """Open the subject in the first argument, then a turn for each line of standard input."""
    with _answers() as answers:

        def answer(fields: dict[str, Any]) -> None:
            answers.write(json.dumps(fields) + "\n")
            answers.flush()

        try:
            order = json.loads(sys.argv[1])
            first, again = order.pop("warm", (FIRST, AGAIN))
            subject = open_subject(order)
            for _ in range(first):
                subject()
        except Exception as error:  # libraries raise what they like; the parent shows it
            answer({"error": f"{type(error).__name__}: {error}"[:500]})
            return
        answer({"ready": True})
        for line in sys.stdin:
            seconds, least = json.loads(line)
            runs: dict[str, list[float]] = {}
            done = 0
            try:
                for _ in range(again):
                    subject()
                begun = time.perf_counter()
                while done < least or time.perf_counter() - begun < seconds:
                    for part, value in subject().items():
                        runs.setdefault(part, []).append(value)
                    done += 1
            except Exception as error:  # as above
                answer({"error": f"{type(error).__name__}: {error}"[:500]})
                return
            answer({"runs": runs, "peak_memory_mb": peak_memory_mb()})


if __name__ == "__main__":
    main()
