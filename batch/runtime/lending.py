"""Lends tasks the nursery of their worker (`batch.isolation.nursery`), which stays for the next one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from distributed.diagnostics.plugin import WorkerPlugin

from batch.isolation.nursery import Nursery

if TYPE_CHECKING:
    from distributed import Client

PROGRAM = "batch.runtime.nursery"


class Nurseries(WorkerPlugin):  # type: ignore[misc]
    """Those of a worker that no task has just now: one, where it does one task at a time."""

    name = "acs-batch-nurseries"

    def setup(self, worker: Any) -> None:
        """On the worker."""
        self.idle: list[Nursery] = []

    def teardown(self, worker: Any) -> None:
        """On the worker; those that are lent end when its process does."""
        while self.idle:
            self.idle.pop().close()


def keep_nurseries(client: Client) -> None:
    """Let workers keep their nurseries from task to task, those that come later as well."""
    client.register_plugin(Nurseries())


@contextlib.contextmanager
def lent(worker: Any, environment: Mapping[str, str]) -> Iterator[Nursery]:
    """A nursery for one task.

    Parameters
    ----------
    worker : distributed.Worker or None
        Where it is kept, if its `Nurseries` are there; else it is for this task alone.
    environment : mapping
        What a new one is started with.
    """
    keeper = worker.plugins.get(Nurseries.name) if worker is not None else None
    idle: list[Nursery] = keeper.idle if keeper is not None else []
    nursery = None
    while idle and nursery is None:
        found = idle.pop()
        nursery = found if found.usable else None
    nursery = nursery or Nursery(PROGRAM, environment)
    try:
        yield nursery
    finally:
        if keeper is not None and nursery.usable:
            idle.append(nursery)
        else:
            nursery.close()
