"""Workers of several sizes: which ones a plan needs, and how much of each is left for tasks."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import ByteSize

from batch.config.cluster import ClusterSettings, WorkerClass
from batch.model.plan import Task

KEPT = 384 * 2**20
"""Bytes that a worker itself takes of its container or job. Measured: 110 MB for interpreter, Dask and
dashboard, and as much for its nanny; 75 MB for the process that tasks are forked from; the rest is for growth
over days. What that process keeps imported for some of them has its place in what tasks plan with."""
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
"""What libraries read their number of threads from, as in `batch.runtime.worker.environment`."""
_STEP = 256 * 2**20
_WORKERS = 4


def promised(size: int) -> int:
    """Bytes that tasks may plan with on a worker whose container or job has `size`."""
    return size - KEPT


def worker_classes(settings: ClusterSettings, tasks: Iterable[Task]) -> tuple[WorkerClass, ...]:
    """The classes of the settings, or else some that are made for the tasks.

    Parameters
    ----------
    settings : ClusterSettings
        `classes`, or else `workers` (4 if not given).
    tasks : iterable of Task
        What there is to do.

    Returns
    -------
    tuple of WorkerClass
        One class, or two where a part of the tasks gets by with half of the largest one's memory or less;
        workers are dealt out by expected time, at least one to each. The class with most of the time first.
    """
    if settings.classes:
        return settings.classes
    tasks = list(tasks)
    largest = max((t.needs.memory for t in tasks), default=_STEP)
    small = [t for t in tasks if t.needs.memory <= largest / 2]
    total = settings.workers or _WORKERS
    if not small or total < 2:
        return (_class(largest, total),)
    share = sum(t.needs.seconds for t in small) / max(1e-9, sum(t.needs.seconds for t in tasks))
    count = min(total - 1, max(1, round(share * total)))
    made = [
        _class(max(t.needs.memory for t in small), count),
        _class(largest, total - count),
    ]
    return tuple(sorted(made, key=lambda c: -c.workers))


def _class(need: int, workers: int) -> WorkerClass:
    return WorkerClass(memory=ByteSize(-(-(need + KEPT) // _STEP) * _STEP), workers=workers)
