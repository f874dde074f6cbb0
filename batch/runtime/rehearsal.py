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
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from batch import config
from batch.config import Settings
from batch.model.observation import Association, Exposure
from batch.model.plan import Plan, Task, expand
from batch.model.record import Record, Status, Usage
from batch.runtime import announcing
from batch.runtime.meter import Figures, Meter
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
    for process in request.processes():
        announcing.started(process)
        await asyncio.sleep(process.needs.seconds / speed)
    filler = {"filler": "x" * _RECORD_BYTES}
    records = tuple(
        Record(
            *(t.stage, t.subject, t.fingerprint, Status.DONE),
            usage=Usage(wall=t.needs.seconds, peak_memory=t.needs.memory, host="rehearsal"),
            results=filler,
        )
        for t in request.tasks
    )
    announcing.ended(request, records)
    return records


def rehearse(
    client: Client,
    plan: Plan,
    *,
    speed: float,
    window: int,
    scheduler: int,
    tell: Callable[[str], None] = lambda line: None,
) -> Figures:
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
    tell : callable
        Given a line on how it goes, once a minute.
    """
    from batch.runtime.capacity import measure
    from batch.runtime.graph import Runner

    offered = measure(client)
    meter = Meter(scheduler, len(plan.tasks))

    def observe(task: Task, record: Record) -> None:
        meter.ended(task)
        if line := meter.line(runner.submitted - runner.in_flight, offered.workers, speed):
            tell(line)

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
        outcomes = runner.run()
        wall = meter.wall
    assert outcomes.counts()["done"] == len(plan.tasks)
    return Figures(
        tasks=len(plan.tasks),
        requests=runner.submitted,
        workers=offered.workers,
        wall=wall,
        busy=sum(t.needs.seconds for t in plan.tasks) / speed,
        scheduler_cpu=meter.cpu[0],
        driver_cpu=meter.cpu[1],
        memory=tuple(meter.memory),
        speed=speed,
    )


def run(
    settings: Settings,
    exposures: int,
    known: Mapping[str, Sequence[Measured]],
    *,
    speed: float,
    processes: int,
    tell: Callable[[str], None] = lambda line: None,
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
    tell : callable
        Given lines on how it goes.
    """
    from batch.runtime.classes import promised, worker_classes
    from batch.runtime.driver import termination_as_interrupt
    from batch.runtime.execution import equip
    from batch.runtime.simulated import cluster

    tell(f"planning {exposures} exposures")
    plan = large_plan(exposures, known, settings)
    asked = settings.cluster.model_copy(update={"workers": settings.cluster.workers or _WORKERS})
    classes = {promised(c.memory): c.workers for c in worker_classes(asked, plan.tasks)}
    tell(f"{len(plan.tasks)} tasks; starting {sum(classes.values())} workers")
    with termination_as_interrupt(), cluster(classes, processes) as (client, scheduler):
        equip(client, settings.cluster)
        window = settings.cluster.window
        return rehearse(client, plan, speed=speed, window=window, scheduler=scheduler, tell=tell)
