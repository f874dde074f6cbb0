"""Which worker a task is given to: the smallest that is free and large enough.

Dask gives a task to a worker that holds what it depends on, whatever else that worker is good for. Here
that is a record of 1 kB, so that it says nothing, while a small task on a large worker keeps a large one
waiting. Among several workers, this takes the one that would start it first and, where several could start
it at once, that with the least memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from distributed.diagnostics.plugin import SchedulerPlugin

if TYPE_CHECKING:
    from distributed import Client


# busy workers that are compared; what could start earlier on another one is stolen by that
_COMPARED = 32


class SmallestFirst(SchedulerPlugin):  # type: ignore[misc]
    """Stands in for the scheduler's choice for tasks that ask for ``memory`` and nothing else."""

    name = "acs-batch-placement"
    idempotent = True

    async def start(self, scheduler: Any) -> None:
        """On the scheduler, when it takes the plugin."""
        plain = scheduler.decide_worker_non_rootish

        def decide(task: Any) -> Any:
            asked = (task.resource_restrictions or {}).keys()
            if set(asked) != {"memory"} or task.worker_restrictions or task.host_restrictions:
                return plain(task)
            offered = scheduler.resources.get("memory") or {}
            return choose(scheduler, offered, task.resource_restrictions["memory"])

        scheduler.decide_worker_non_rootish = decide


def choose(scheduler: Any, offered: dict[str, float], asked: float) -> Any:
    """The running worker for a task that asks for so many bytes; None if none is large enough."""
    smallest = min((memory for memory in offered.values() if memory >= asked), default=None)
    if smallest is None:
        return None
    # most often the first one that is looked at will do
    for ws in scheduler.idle.values():
        if offered.get(ws.address) == smallest and not ws.processing and ws in scheduler.running:
            return ws
    for workers in (scheduler.idle.values(), scheduler.running):
        fitting = [ws for ws in workers if offered.get(ws.address, 0) >= asked and ws in scheduler.running]
        free = [ws for ws in fitting if not ws.processing]
        if free:
            return min(free, key=lambda ws: offered[ws.address])
        if fitting:
            # occupancy is a sum over what a worker has to do: not for each of a thousand, at each task
            first = scheduler.n_tasks % len(fitting)
            some = [*fitting[first : first + _COMPARED], *fitting[: max(0, first + _COMPARED - len(fitting))]]
            return min(some, key=lambda ws: (round(ws.occupancy), len(ws.processing), offered[ws.address]))
    return None


def prefer_small_workers(client: Client) -> None:
    """Let the client's scheduler choose so."""
    client.register_plugin(SmallestFirst())
