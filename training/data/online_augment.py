"""New codec chains for the training variants, computed by other processes during training.

A GPU sees every variant so often within minutes that it memorises them, and does not get better on unseen generators
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
from training.data.dataset import Collection, Sample, apply_chain
from training.zoo.pool import leave_with_parent

# Jobs queued per worker, so that no worker is idle. Chains per job: taking in a result costs the training process time.
QUEUED, CHAINS_PER_JOB = 3, 8
# The training process has to take in the results. On an H200 with three teachers it trained on 9200 windows/s with 6 workers, and on 4900
# with 14, because it mostly waited for Python's lock (training logs of 2026-11-26).
MAX_WORKERS = 6

_groups: list[list[Sample]] = []


class OnlineAugmenter:
    """Applies new chains to pictures in random order, from construction until the context exits.

    Variants with the same content and chain, those of a photo and of pictures made from it, get the same new chain and are returned
    together, so that pairs stay pairs. Chain 0 of a content, which changes nothing, stays.

    Args:
        collection: samples with their variants, which are numbered in order.
        seed: seed of the chains and their order.
        strong: fraction of chains with strong edits (`augment.strong_chain`).
        workers: number of processes. By default all cores but two, at most `MAX_WORKERS`.
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
        workers = workers or min(MAX_WORKERS, max(1, (os.cpu_count() or 1) - 2))
        # Forked processes share the pictures, so that none are sent.
        self._pool = ProcessPoolExecutor(
            workers, multiprocessing.get_context("fork"), _start_worker, ([samples for _, samples in groups.values()],)
        )
        self._pending: list[tuple[list[int], Future[list[np.ndarray]]]] = []
        for _ in range(QUEUED * workers if groups else 0):
            self._submit()

    def take(self) -> list[tuple[int, np.ndarray]]:
        """Return the variants that were finished since the last call, as (number, uint8[H, W, 3])."""
        ready = [(numbers, future) for numbers, future in self._pending if future.done()]
        self._pending = [(numbers, future) for numbers, future in self._pending if not future.done()]
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
        chosen, self._order = self._order[:CHAINS_PER_JOB], self._order[CHAINS_PER_JOB:]
        job = [(int(i), int(self._rng.integers(2**62)), bool(self._rng.random() < self._strong)) for i in chosen]
        numbers = [number for i in chosen for number in self._numbers[i]]
        self._pending.append((numbers, self._pool.submit(_new_variants, job)))


def _start_worker(groups: list[list[Sample]]) -> None:
    global _groups
    leave_with_parent()
    # The training process has priority.
    os.nice(10)
    _groups = groups


def _new_variants(job: list[tuple[int, int, bool]]) -> list[np.ndarray]:
    return [
        apply_chain(sample, seed, augment.strong_chain if strong else augment.random_chain)
        for group, seed, strong in job
        for sample in _groups[group]
    ]
