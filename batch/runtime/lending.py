"""Lends tasks the nursery of their worker (`batch.isolation.nursery`), which stays for the next one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from batch.isolation.nursery import Nursery

PROGRAM = "batch.runtime.nursery"
KEEPER = "acs-batch-nurseries"
"""The worker's plugin that keeps what is not lent (`batch.runtime.keeping`)."""


@contextlib.contextmanager
def lent(worker: Any, environment: Mapping[str, str]) -> Iterator[Nursery]:
    """A nursery for one task.

    Parameters
    ----------
    worker : distributed.Worker or None
        Where it is kept, if its `KEEPER` is there; else it is for this task alone.
    environment : mapping
        What a new one is started with.
    """
    keeper = worker.plugins.get(KEEPER) if worker is not None else None
    idle: list[Nursery] = keeper.idle if keeper is not None else []
    nursery = idle.pop() if idle else Nursery(PROGRAM, environment)
    if not nursery.usable:  # killed while it waited
        nursery.close()
        nursery = Nursery(PROGRAM, environment)
    try:
        yield nursery
    finally:
        if keeper is not None and nursery.usable:
            idle.append(nursery)
        else:
            nursery.close()
