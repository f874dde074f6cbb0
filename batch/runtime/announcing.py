"""A worker tells driver and scheduler what it does, by messages of 200 bytes in Dask's event stream."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any

from batch.model.record import Record
from batch.runtime.events import TOPIC_FINISHED, TOPIC_STARTED
from batch.runtime.request import Request


def started(request: Request) -> None:
    """The request's process is about to start."""
    worker = dask_worker()
    if worker is not None:
        message = {
            "run": request.run,
            "tasks": [t.id for t in request.tasks],
            "worker": worker.address,
            "memory": memory(worker),
            "host": socket.gethostname(),
        }
        worker.log_event(TOPIC_STARTED, message)


def ended(request: Request, records: Sequence[Record]) -> None:
    """The request's tasks came to an end."""
    worker = dask_worker()
    if worker is not None:
        asked = {t.id: process.needs.memory for process in request.processes() for t in process.tasks}
        tasks = [(r.stage, r.status.value, r.usage.wall, r.usage.peak_memory, asked[r.id]) for r in records]
        worker.log_event(TOPIC_FINISHED, {"run": request.run, "tasks": tasks})


def memory(worker: Any) -> int:
    """Bytes that tasks may plan with on a Dask worker; 0 without one."""
    return int(worker.state.total_resources.get("memory", 0)) if worker is not None else 0


def dask_worker() -> Any:
    """The Dask worker of this thread, None where a task is run without one."""
    from distributed import get_worker

    try:
        return get_worker()
    except ValueError:
        return None


def told_to_go() -> bool:
    """Whether the worker of this task is on its way out."""
    from distributed.core import Status

    worker = dask_worker()
    return worker is not None and worker.status not in (Status.running, Status.paused)
