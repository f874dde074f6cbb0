"""A worker keeps the process that its tasks are forked from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from distributed.diagnostics.plugin import WorkerPlugin

from batch.runtime.lending import KEEPER

if TYPE_CHECKING:
    from distributed import Client

    from batch.isolation.nursery import Nursery


class Nurseries(WorkerPlugin):  # type: ignore[misc]
    """Those of a worker that no task has just now: one, where it does one task at a time."""

    name = KEEPER

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
