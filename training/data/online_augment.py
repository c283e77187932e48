"""New codec chains for the variants that a network learns from, made by other processes while it learns.

A GPU sees every variant so often within minutes that it learns them by heart, and tells unseen generators no better for it
(docs/research-notes.md: eight times as many windows).
"""

from __future__ import annotations

import multiprocessing
import os
from collections import defaultdict
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Self

import numpy as np

from training.data import augment
from training.data.dataset import Collection, Sample, through_chain
from training.zoo.pool import leave_with_parent

# Jobs that wait for each process, so that none does; and contents with their chains in a job: to take in what is done costs the process
# that learns some turns each time.
WAITING, TOGETHER = 3, 8
# Processes at most: what they make is taken in by the process that learns. On an H200, where fourteen brought it to 4900 windows a second,
# of which it spent most waiting for Python's lock, it learnt from 9200 beside six, with three teachers (the training logs of 2026-11-26).
MOST = 6

_groups: list[list[Sample]] = []


class Renewal:
    """Sends pictures through new chains in random order, from when it is made until the context that it is ends.

    All variants that went through the same chain of the same content, a photo's and those of what was made from it, go through the same
    new one and are handed over together, so that twins stay twins. The first chain of a content, which does nothing, stays.

    Args:
        collection: whose samples have their variants already; these are numbered through, in order.
        seed: of the chains and their order.
        strong: the share of them with heavy edits (`augment.strong_chain`).
        workers: processes; by default all processors but two, and not more than `MOST`.
    """

    def __init__(self, collection: Collection, seed: int, *, strong: float = 0.0, workers: int | None = None) -> None:
        groups: defaultdict[tuple[str, int], tuple[list[int], list[Sample]]] = defaultdict(lambda: ([], []))
        number = 0
        for sample in collection.samples:
            content = sample.content() if sample.variants else ""
            for chain in sample.chains:
                if chain:
                    numbers, samples = groups[content, chain]
                    numbers.append(number)
                    samples.append(sample)
                number += 1
        self._numbers = [numbers for numbers, _ in groups.values()]
        self._rng, self._order, self._strong = np.random.default_rng(seed), np.empty(0, np.int64), strong
        workers = workers or min(MOST, max(1, (os.cpu_count() or 1) - 2))
        # Forked, they share the pictures and need not be sent any.
        self._pool = ProcessPoolExecutor(
            workers, multiprocessing.get_context("fork"), _begin, ([samples for _, samples in groups.values()],)
        )
        self._made: list[tuple[list[int], Future[list[np.ndarray]]]] = []
        for _ in range(WAITING * workers if groups else 0):
            self._submit()

    def take(self) -> list[tuple[int, np.ndarray]]:
        """What is ready since the last call: variants, uint8[H, W, 3], by their numbers."""
        ready = [(numbers, future) for numbers, future in self._made if future.done()]
        self._made = [(numbers, future) for numbers, future in self._made if not future.done()]
        for _ in ready:
            self._submit()
        return [pair for numbers, future in ready for pair in zip(numbers, future.result(), strict=True)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _submit(self) -> None:
        if not len(self._order):
            self._order = self._rng.permutation(len(self._numbers))
        chosen, self._order = self._order[:TOGETHER], self._order[TOGETHER:]
        job = [(int(i), int(self._rng.integers(2**62)), bool(self._rng.random() < self._strong)) for i in chosen]
        numbers = [number for i in chosen for number in self._numbers[i]]
        self._made.append((numbers, self._pool.submit(_renewed, job)))


def _begin(groups: list[list[Sample]]) -> None:
    global _groups
    leave_with_parent()
    # The process that learns goes first.
    os.nice(10)
    _groups = groups


def _renewed(job: list[tuple[int, int, bool]]) -> list[np.ndarray]:
    return [
        through_chain(sample, seed, augment.strong_chain if strong else augment.random_chain)
        for group, seed, strong in job
        for sample in _groups[group]
    ]
