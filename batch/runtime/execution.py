"""Carry out a plan on the cluster that the settings name, through the loss of its scheduler if need be."""

from __future__ import annotations

import collections
import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from batch.config.cluster import ClusterSettings
from batch.errors import InsufficientMemoryError, RunCancelledError, SchedulerLostError, UsageError
from batch.model.plan import Plan, Task
from batch.model.record import Record
from batch.runtime import cancelling, limits, scheduling
from batch.runtime.events import EventLog
from batch.runtime.outcomes import Outcomes
from batch.storage.work import Work

if TYPE_CHECKING:
    from distributed import Client

log = logging.getLogger(__name__)

PERFORMANCE = "report/dask-performance.html"

# what a worker on Kubernetes keeps of its grace period to go in order
_MARGIN_S = 10

# queues of SLURM and autoscalers of nodes take their time
_PATIENCE_FOR_JOBS = {"slurm": 3600.0, "kubernetes": 1200.0}


@dataclass(frozen=True)
class Listeners:
    """Who wants to know how a run goes."""

    planned: Callable[[Plan], None] = lambda plan: None
    connected: Callable[[str], None] = lambda dashboard: None
    finished: Callable[[Task, Record], None] = lambda task, record: None


def carry_out(
    settings: ClusterSettings,
    work: Work,
    plan: Plan,
    listeners: Listeners,
    events: EventLog,
    *,
    stages: str = "batch.stages",
) -> Outcomes:
    """Do what is not done yet.

    When the scheduler is lost, another one is started (on this machine, Kubernetes, SLURM) or the address is
    tried until `patience` is over; then the run goes on from what the work directory says.

    Parameters
    ----------
    settings : ClusterSettings
        Where tasks run.
    work : Work
        Held by the caller (`Work.writer`).
    plan : Plan
        What to do.
    listeners : Listeners
        Hear of tasks that end, now or in earlier runs.
    events : EventLog
        Takes what happens.
    stages : str
        Package of the stage modules.

    Raises
    ------
    UsageError, InsufficientMemoryError
        If the cluster cannot do it.
    RunCancelledError, KeyboardInterrupt
        When no task is running any more.
    SchedulerLostError
        If it did not come back.
    """
    outcomes = Outcomes(work)
    outcomes.survey(plan.tasks, listeners.finished)
    counts = collections.Counter(t.stage for t in plan.tasks)
    events.emit(
        "planned",
        associations=len(plan.associations),
        tasks=len(plan.tasks),
        done=len(outcomes),
        stages=dict(counts),
    )
    lost: SchedulerLostError | None = None
    while todo := [t for t in plan.tasks if not outcomes.done(t.id)]:
        try:
            with _connected(settings, todo, work, lost) as client:
                _run(client, settings, work, plan, outcomes, listeners, events, stages)
            break
        except SchedulerLostError as error:
            lost = error
            log.warning("%s; the run goes on when there is one again", error.message)
            events.emit("scheduler-lost", message=error.message)
            outcomes.survey(plan.tasks, listeners.finished)
    events.counts = outcomes.counts()
    return outcomes


@contextlib.contextmanager
def _connected(
    settings: ClusterSettings, todo: Sequence[Task], work: Work, lost: SchedulerLostError | None
) -> Iterator[Client]:
    """A client; after a loss of the scheduler it is waited for."""
    from batch.runtime.cluster import connect

    deadline = time.monotonic() + settings.patience
    with contextlib.ExitStack() as stack:
        stack.enter_context(scheduling.configured())
        while True:
            try:
                client = stack.enter_context(connect(settings, todo, work))
                break
            except UsageError as error:
                if lost is None:
                    raise
                if time.monotonic() > deadline:
                    raise SchedulerLostError(f"{lost.message}, and {error.message}") from None
                if cancelling.asked(work):
                    raise RunCancelledError("the run was cancelled") from None
                time.sleep(1)
        yield client


def _run(
    client: Client,
    settings: ClusterSettings,
    work: Work,
    plan: Plan,
    outcomes: Outcomes,
    listeners: Listeners,
    events: EventLog,
    stages: str,
) -> None:
    from batch.runtime.capacity import measure
    from batch.runtime.graph import Runner

    equip(client, settings)
    offered = measure(client)
    listeners.connected(client.dashboard_link)
    if line := limits.advice(plan, max(offered.workers, limits.asked(settings))):
        log.warning("%s", line)
    events.emit(
        "connected",
        workers=offered.workers,
        classes={str(memory): count for memory, count in sorted(offered.classes.items())},
        scheduler=client.scheduler.address,
        dashboard=client.dashboard_link,
    )
    runner = Runner(
        client,
        work,
        plan,
        attempts=settings.attempts,
        window=settings.window,
        capacity=lambda: measure(client),
        outcomes=outcomes,
        observe=listeners.finished,
        events=events,
        patience=max(settings.patience, _PATIENCE_FOR_JOBS.get(settings.chosen_kind, 0.0)),
        stages=stages,
    )
    try:
        with _performance_report(settings, work):
            runner.run()
    except (KeyboardInterrupt, RunCancelledError, InsufficientMemoryError):
        runner.abandon()
        cancelling.end_tasks(client, work)
        cancelling.clear(work)
        raise


def equip(client: Client, settings: ClusterSettings) -> None:
    """What scheduler and workers are to know of us."""
    from batch.runtime.keeping import keep_nurseries
    from batch.runtime.leaving import end_tasks_with_workers, hand_back_when_told
    from batch.runtime.observatory import watch
    from batch.runtime.placement import prefer_small_workers

    watch(client)
    prefer_small_workers(client)
    keep_nurseries(client)
    end_tasks_with_workers(client)
    if settings.chosen_kind == "local":
        # nannies in this process hear no signal of their own
        return
    grace = settings.grace
    if settings.chosen_kind == "kubernetes":
        grace = max(1, settings.kubernetes.grace - _MARGIN_S)
    hand_back_when_told(client, grace)


@contextlib.contextmanager
def _performance_report(settings: ClusterSettings, work: Work) -> Iterator[None]:
    if not settings.performance_report:
        yield
        return
    from distributed import performance_report

    page = work.local / "scratch" / "dask-performance.html"
    with performance_report(filename=str(page)):
        yield
    work.write(PERFORMANCE, page.read_bytes())
    page.unlink()
