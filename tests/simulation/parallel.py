"""Independent jobs in several processes, with results that do not depend on how many there are."""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import numpy as np

Job = TypeVar("Job")
Found = TypeVar("Found")

_THREADS = "OPENBLAS_NUM_THREADS"


def spread(work: Callable[[Job], Found], jobs: Sequence[Job], processes: int) -> list[Found]:
    """Return what each job comes to, in their order."""
    if processes <= 1:
        return [work(job) for job in jobs]
    # Spawned, not forked: numpy's threads do not survive a fork.
    with _one_thread_each(), ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        return list(pool.map(work, jobs))


def generators(seed: int, many: int) -> list[np.random.SeedSequence]:
    """Return one source of randomness for each job."""
    return np.random.SeedSequence(seed).spawn(many)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Let the processes that start now compute in one thread: more would compete for the same cores, at twice the time.

    Numpy reads this from the environment while it is imported, so there is no other way to tell it.
    """
    before = os.environ.get(_THREADS)
    os.environ[_THREADS] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_THREADS]
        else:
            os.environ[_THREADS] = before
