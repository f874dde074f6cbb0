"""A run of any size without its science: the real plan, graph and scheduler, on workers that only wait.

Each task waits for as long as such a task took before (by the records of a work directory) or is planned to
take, divided by `speed`. Records of the size of real ones travel, and nothing is read or written. What comes
out is what a scheduler can take, and how well so many workers are used.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import hashlib
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from batch import config
from batch.config import Settings
from batch.model.observation import Association, Exposure
from batch.model.plan import Plan, Task, expand
from batch.model.record import Record, Status, Usage
from batch.runtime import announcing
from batch.runtime.request import Request
from batch.storage.ledger import valid_records
from batch.storage.work import Work, open_work

if TYPE_CHECKING:
    from distributed import Client

# what else a record holds: products, results, versions
_RECORD_BYTES = 2000

_WORKERS = 100


@dataclass(frozen=True)
class Measured:
    """What one task of a stage took."""

    seconds: float
    memory: int
    """Peak, bytes."""


@dataclass(frozen=True)
class Figures:
    """What a rehearsal came to."""

    tasks: int
    processes: int
    """Tasks that share a process are one to the scheduler."""
    workers: int
    wall: float
    """s, of the rehearsal"""
    busy: float
    """Sum of the tasks' durations, s, at the speed of the rehearsal."""
    scheduler_cpu: float
    """s"""
    scheduler_memory: int
    """Largest resident set, bytes."""
    driver_cpu: float
    driver_memory: int
    speed: float

    @property
    def rate(self) -> float:
        """Processes that the scheduler started and ended, per second."""
        return self.processes / self.wall

    @property
    def scheduler_cost(self) -> float:
        """CPU of the scheduler, s a process; it has one thread."""
        return self.scheduler_cpu / self.processes

    @property
    def driver_cost(self) -> float:
        """CPU of the driver, s a process."""
        return self.driver_cpu / self.processes

    @property
    def mean(self) -> float:
        """Duration of a process in truth, s."""
        return self.busy * self.speed / self.processes

    @property
    def most_workers(self) -> int:
        """How many workers one scheduler can keep busy: beyond, tasks end faster than it sends new ones."""
        return int(self.mean / max(self.scheduler_cost, self.driver_cost))

    def text(self) -> str:
        """For people."""
        return (
            f"{self.tasks} tasks in {self.processes} processes of {self.mean:.1f} s (mean) on {self.workers} "
            f"workers: {self.wall:.0f} s at {self.speed:g} times the speed\n"
            f"scheduler: {self.rate:.0f} processes/s, {1e3 * self.scheduler_cost:.2f} ms CPU each, "
            f"{self.scheduler_memory / 1e6:.0f} MB\n"
            f"driver: {1e3 * self.driver_cost:.2f} ms CPU a process, {self.driver_memory / 1e6:.0f} MB\n"
            f"workers had a task for {self.used:.0%} of the time\n"
            f"one scheduler keeps up with about {self.most_workers} workers at true durations\n"
        )

    @property
    def used(self) -> float:
        """The fraction of the workers' time in which they had a task."""
        return self.busy / (self.wall * self.workers)


def measured(work: Work, plan: Plan) -> dict[str, list[Measured]]:
    """What the finished tasks of a work directory took, by stage.

    CPU time where that is less than wall time: what a busy machine added says nothing of a cluster.
    """
    found: dict[str, list[Measured]] = {}
    for record in valid_records(work, plan.tasks).values():
        if record.usage.wall:
            seconds = min(record.usage.wall, record.usage.cpu or record.usage.wall)
            taken = Measured(seconds, record.usage.peak_memory)
            found.setdefault(record.stage, []).append(taken)
    return found


def large_plan(exposures: int, known: Mapping[str, Sequence[Measured]], settings: Settings) -> Plan:
    """A plan of full WFC frames, four to an association, through the whole pipeline.

    Parameters
    ----------
    exposures : int
        How many there are; rounded up to whole associations.
    known : mapping
        What tasks took, by stage; stages without are taken as planned.
    settings : Settings
        The sweep above all.
    """
    from batch.stages import pipeline

    associations = tuple(
        Association(f"r{number:08d}", tuple(_exposure(number, i) for i in range(4)))
        for number in range(-(-exposures // 4))
    )
    tasks = expand(
        pipeline(),
        associations,
        config.identity(settings),
        settings.sweep.drizzles,
        typed_settings=settings,
    )
    return Plan(associations, tuple(_as_measured(t, known.get(t.stage, ())) for t in tasks), {})


def _exposure(number: int, member: int) -> Exposure:
    name = f"j{number:07d}"[:8] + "abcd"[member]
    return Exposure(name, "WFC", "WFC", "ABCD", ("F606W",), 500.0, 53900.0, (2068, 4144), 2, "", cte=True)


def _as_measured(task: Task, known: Sequence[Measured]) -> Task:
    """A task that needs what one of its stage took; always the same one."""
    if not known:
        return task
    number = int(hashlib.sha256(task.id.encode()).hexdigest()[:8], 16)
    one = known[number % len(known)]
    return dataclasses.replace(
        task, needs=dataclasses.replace(task.needs, seconds=one.seconds, memory=one.memory)
    )


async def pretend(
    request: Request, *upstream: Record | tuple[Record, ...], speed: float
) -> tuple[Record, ...]:
    """Runs on a simulated worker: wait as long as the tasks would take."""
    announcing.started(request)
    await asyncio.sleep(request.needs.seconds / speed)
    share = request.needs.seconds / len(request.tasks)
    usage = Usage(wall=share, peak_memory=request.needs.memory, host="rehearsal")
    filler = {"filler": "x" * _RECORD_BYTES}
    records = tuple(
        Record(t.stage, t.subject, t.fingerprint, Status.DONE, usage=usage, results=filler)
        for t in request.tasks
    )
    announcing.ended(request, records)
    return records


def rehearse(client: Client, plan: Plan, *, speed: float, window: int, scheduler: int) -> Figures:
    """Run a plan on the client's simulated workers.

    Parameters
    ----------
    client : Client
        Of a scheduler in a process of its own; its workers are there (`simulated.py`).
    plan : Plan
        As `large_plan` makes it.
    speed : float
        Durations are divided by it.
    window : int
        Associations in flight.
    scheduler : int
        Process id of the scheduler.
    """
    import psutil

    from batch.runtime.capacity import measure
    from batch.runtime.graph import Runner

    scheduling, driving = psutil.Process(scheduler), psutil.Process(os.getpid())
    before = _cpu(scheduling), _cpu(driving)
    offered = measure(client)
    processes = 0
    peaks = [scheduling.memory_info().rss, driving.memory_info().rss]

    def observe(task: Task, record: Record) -> None:
        nonlocal processes
        processes += 1
        if processes % 1000 == 0:
            for i, process in enumerate((scheduling, driving)):
                peaks[i] = max(peaks[i], process.memory_info().rss)

    with tempfile.TemporaryDirectory(prefix="acs-batch-rehearsal-") as folder:
        runner = Runner(
            client,
            open_work(Path(folder)),
            plan,
            attempts=1,
            window=window,
            capacity=lambda: offered,
            observe=observe,
            perform=functools.partial(pretend, speed=speed),
        )
        start = time.perf_counter()
        outcomes = runner.run()
        wall = time.perf_counter() - start
    assert outcomes.counts()["done"] == len(plan.tasks)
    return Figures(
        tasks=len(plan.tasks),
        processes=runner.submitted,
        workers=offered.workers,
        wall=wall,
        busy=sum(t.needs.seconds for t in plan.tasks) / speed,
        scheduler_cpu=_cpu(scheduling) - before[0],
        scheduler_memory=peaks[0],
        driver_cpu=_cpu(driving) - before[1],
        driver_memory=peaks[1],
        speed=speed,
    )


def _cpu(process: object) -> float:
    times = process.cpu_times()  # type: ignore[attr-defined]
    return float(times.user + times.system)


def run(
    settings: Settings,
    exposures: int,
    known: Mapping[str, Sequence[Measured]],
    *,
    speed: float,
    processes: int,
) -> Figures:
    """Rehearse the reduction of so many exposures.

    Parameters
    ----------
    settings : Settings
        `cluster.workers` (100 if not given) and `cluster.classes` say what is simulated.
    exposures : int
        Full WFC frames.
    known : mapping
        As `measured` gives it.
    speed : float
        Durations are divided by it.
    processes : int
        How many processes the workers share.
    """
    from batch.runtime.classes import promised, worker_classes
    from batch.runtime.driver import termination_as_interrupt
    from batch.runtime.execution import equip
    from batch.runtime.simulated import cluster

    plan = large_plan(exposures, known, settings)
    asked = settings.cluster.model_copy(update={"workers": settings.cluster.workers or _WORKERS})
    classes = {promised(c.memory): c.workers for c in worker_classes(asked, plan.tasks)}
    with termination_as_interrupt(), cluster(classes, processes) as (client, scheduler):
        equip(client, settings.cluster)
        return rehearse(client, plan, speed=speed, window=settings.cluster.window, scheduler=scheduler)
