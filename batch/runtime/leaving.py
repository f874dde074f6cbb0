"""A worker that is told to go (SIGTERM: a spot node, a job at its walltime, a scaled-down group).

It takes no more tasks, finishes the one that it has if that ends within the grace period, and else hands it
back: the scheduler gives it to another worker at once, and no attempt is counted. The task's processes are
killed before the worker goes.

Works for workers with a nanny, as ``dask worker`` starts them: the signal reaches the nanny, whose plugins
are asked before the worker is ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distributed.diagnostics.plugin import NannyPlugin, WorkerPlugin

from batch.isolation.ending import end_children

if TYPE_CHECKING:
    from distributed import Client

_POLL_S = 0.2
_ANSWER_S = 5.0


class Leave(NannyPlugin):  # type: ignore[misc]
    """See the module.

    Parameters
    ----------
    grace : float
        s; a little less than what stands between SIGTERM and SIGKILL.
    """

    name = "acs-batch-leave"

    def __init__(self, grace: float) -> None:
        self.grace = grace

    async def teardown(self, nanny: Any) -> None:
        """On the nanny, before it ends its worker."""
        address = nanny.worker_address
        if address is None:
            return
        # whatever does not answer any more is left to the nanny
        with contextlib.suppress(OSError, TimeoutError, ValueError):
            busy = await self._ask(nanny, address, _refuse_more)
            deadline = time.monotonic() + self.grace
            while busy and time.monotonic() < deadline:
                await asyncio.sleep(_POLL_S)
                busy = await self._ask(nanny, address, _busy)
            if busy:
                stimulus = f"acs-batch-leave-{time.time()}"
                # expected: Dask holds no other loss of a worker against the task
                unregister = nanny.scheduler.unregister(
                    address=address, expected=True, close=False, stimulus_id=stimulus
                )
                await asyncio.wait_for(unregister, _ANSWER_S)

    async def _ask(self, nanny: Any, address: str, function: Any) -> Any:
        from distributed.protocol.pickle import dumps, loads

        async def call() -> Any:
            async with nanny.rpc(address) as worker:
                return await worker.run(function=dumps(function))

        answer = await asyncio.wait_for(call(), _ANSWER_S)
        if answer["status"] != "OK":
            raise OSError(answer.get("text", "no answer"))
        result = answer["result"]
        return loads(result) if isinstance(result, bytes) else result


def _refuse_more(dask_worker: Any) -> int:
    from distributed.core import Status

    dask_worker.status = Status.closing_gracefully
    return _busy(dask_worker)


def _busy(dask_worker: Any) -> int:
    return len(dask_worker.state.executing)


class EndTasks(WorkerPlugin):  # type: ignore[misc]
    """A worker that ends, for whatever reason, waits for no task: its processes are killed at once."""

    name = "acs-batch-end-tasks"

    def teardown(self, worker: Any) -> None:
        """On the worker, which refuses new tasks by now."""
        end_children(Path("/"))


def hand_back_when_told(client: Client, grace: float) -> None:
    """Let the workers of somebody else's cluster leave in order, those that come later as well."""
    client.register_plugin(Leave(grace))


def end_tasks_with_workers(client: Client) -> None:
    """Let no worker wait for its task when it is to end."""
    client.register_plugin(EndTasks())
