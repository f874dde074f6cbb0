"""A scheduler and many workers that only wait, on this machine: for `rehearsal`.

``python -m batch.runtime.simulated ADDRESS MEMORY=COUNT...`` holds the workers of one process: real Dask
workers, with all their messages, but on one event loop and without processes for tasks.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batch.errors import UsageError
from batch.runtime import scheduling

if TYPE_CHECKING:
    from distributed import Client

# a thousand workers take a minute of CPU to start, which a busy machine gives in an hour
_WAIT_S = 3600.0
# each has sockets to the scheduler and listens itself
_TOGETHER = 25
_HEARTBEAT_S = 300.0
_CONFIGURATION = {
    **scheduling.environment(),
    # what each worker does by the clock in a process of its own would fill the one that they share: it counts
    # the open files of the process, which are those of all of them
    "DASK_DISTRIBUTED__ADMIN__TICK__INTERVAL": "1 hour",
    "DASK_DISTRIBUTED__ADMIN__TICK__LIMIT": "1 day",
    "DASK_LOGGING__DISTRIBUTED": "error",
    "DASK_DISTRIBUTED__ADMIN__SYSTEM_MONITOR__INTERVAL": "1 day",
    # and where so many share two cores with others, one that is late is not one that is lost
    "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "1 day",
    "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": f"{_WAIT_S:.0f}s",
    "DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": f"{_WAIT_S:.0f}s",
}


@contextlib.contextmanager
def cluster(classes: Mapping[int, int], processes: int) -> Iterator[tuple[Client, int]]:
    """A client of a new scheduler with simulated workers, and the scheduler's process id.

    Parameters
    ----------
    classes : mapping
        Number of workers by the bytes that they offer.
    processes : int
        How many processes the workers share.

    Raises
    ------
    UsageError
        If the workers do not come up.
    """
    from distributed import Client

    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="acs-batch-simulated-")))
        found = folder / "scheduler.json"
        scheduler = _start(
            stack,
            folder / "scheduler.log",
            *("-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"),
            *("--dashboard-address", "127.0.0.1:0", "--scheduler-file", str(found)),
            # should this process be killed; workers go with their scheduler
            *("--idle-timeout", f"{2 * _WAIT_S:.0f} s"),
        )
        deadline = time.monotonic() + _WAIT_S
        while not (found.exists() and found.stat().st_size):
            _alive(scheduler, folder / "scheduler.log", deadline)
            time.sleep(0.1)
        client = stack.enter_context(Client(scheduler_file=str(found), timeout=_WAIT_S))
        parts = [
            (
                folder / f"workers-{number}.log",
                [f"{memory}={_share(count, processes, number)}" for memory, count in classes.items()],
            )
            for number in range(processes)
        ]
        hosts = [
            _start(stack, log, "-m", "batch.runtime.simulated", client.scheduler.address, *part)
            for log, part in parts
        ]
        while client.run_on_scheduler(_count) < sum(classes.values()):
            for host, (log, _) in zip(hosts, parts, strict=True):
                _alive(host, log, deadline)
            time.sleep(0.5)
        yield client, scheduler.pid


def _share(count: int, parts: int, number: int) -> int:
    return count // parts + (number < count % parts)


def _start(stack: contextlib.ExitStack, log: Path, *arguments: str) -> subprocess.Popen[bytes]:
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-P", *arguments],
            stdout=stream,
            stderr=subprocess.STDOUT,
            env={**os.environ, **_CONFIGURATION},
        )
    stack.callback(process.wait)
    stack.callback(process.kill)
    return process


def _alive(process: subprocess.Popen[bytes], log: Path, deadline: float) -> None:
    if process.poll() is not None or time.monotonic() > deadline:
        last = log.read_text(errors="replace").strip().splitlines()[-1:] or ["nothing"]
        raise UsageError(f"the simulated cluster did not come up; {log.name} ends: {last[0]}")


def _count(dask_scheduler: object) -> int:
    return len(dask_scheduler.workers)  # type: ignore[attr-defined]


def _calm_worker() -> Any:
    """Workers that spare the cores which they share with each other, the scheduler and the driver.

    Their heartbeats are rare: a scheduler is sent up to 200 a second, however little there is to do. What a
    task depends on and a worker of the same process has is taken from there: the scheduler has no part in it.
    """
    from distributed import Worker
    from distributed.worker_state_machine import GatherDepSuccessEvent

    here: dict[str, Any] = {}

    class Calm(Worker):  # type: ignore[misc]
        async def start_unsafe(self) -> Any:
            started = await super().start_unsafe()
            here[self.address] = self
            return started

        async def heartbeat(self) -> None:
            await super().heartbeat()
            self.periodic_callbacks["heartbeat"].callback_time = 1000 * _HEARTBEAT_S

        async def gather_dep(
            self, worker: str, to_gather: Collection[Any], total_nbytes: int, *, stimulus_id: str
        ) -> Any:
            if worker not in here:
                return await super().gather_dep(worker, to_gather, total_nbytes, stimulus_id=stimulus_id)
            theirs = here[worker].data
            return GatherDepSuccessEvent(
                worker=worker,
                total_nbytes=total_nbytes,
                data={key: theirs[key] for key in to_gather if key in theirs},
                stimulus_id=f"gather-dep-success-{time.time()}",
            )

    return Calm


async def host(address: str, classes: Mapping[int, int]) -> None:
    """Be so many workers until the scheduler goes."""
    kind = _calm_worker()
    sizes = [memory for memory, count in classes.items() for _ in range(count)]
    workers = []
    with tempfile.TemporaryDirectory(prefix="acs-batch-worker-") as folder:
        for start in range(0, len(sizes), _TOGETHER):
            some = [
                kind(
                    address,
                    nthreads=1,
                    resources={"memory": memory},
                    memory_limit=0,
                    dashboard=False,
                    local_directory=folder,
                )
                for memory in sizes[start : start + _TOGETHER]
            ]
            workers += await asyncio.gather(*some)
        # nobody is to look through all of them for garbage, time and again
        gc.freeze()
        await asyncio.gather(*(w.finished() for w in workers))


if __name__ == "__main__":
    pairs = (part.split("=") for part in sys.argv[2:])
    asyncio.run(host(sys.argv[1], {int(memory): int(count) for memory, count in pairs}))
