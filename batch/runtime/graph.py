"""A plan as Dask graphs: when and where each task runs, and what its failure means for the others."""

from __future__ import annotations

import logging
import math
import queue
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from batch.errors import InsufficientMemoryError, RunCancelledError, SchedulerLostError
from batch.model.plan import Plan, Task
from batch.model.record import Failure, Record, Status
from batch.runtime import cancelling
from batch.runtime.capacity import Capacity
from batch.runtime.company import groups, together
from batch.runtime.events import EventLog, Silence, new_run
from batch.runtime.outcomes import Outcomes
from batch.runtime.request import Request
from batch.runtime.watching import Watch
from batch.runtime.worker import execute
from batch.storage.ledger import valid_records
from batch.storage.work import Work

if TYPE_CHECKING:
    from distributed import Client, Future

log = logging.getLogger(__name__)

Observer = Callable[[Task, Record], None]
# on a worker; a coroutine function where many workers share an event loop
Perform = Callable[..., Any]

# how long to wait for a task before looking around: for a cancel mark, for workers that came or went
_TICK_S = 1.0
_CAPACITY_S = 10.0

# associations in one message, about a megabyte: the scheduler does nothing else while it reads one
_AT_ONCE = 100


@dataclass
class _Batch:
    """One association in flight."""

    name: str
    tasks: dict[str, Task]
    records: dict[str, Record]
    """Records so far, by task id; those of finished earlier runs from the start."""
    round: int = 1
    """How often it was submitted."""
    tries: Counter[str] = field(default_factory=Counter)
    """How often tasks have failed, by id."""
    open: set[str] = field(default_factory=set)
    """Ids of tasks whose future is not back yet."""
    memory: dict[str, int] = field(default_factory=dict)
    """Bytes asked for now, where more than planned."""


class Runner:
    """Runs a plan on a cluster.

    Each association goes to the scheduler as one graph, a bounded number of them at a time; its futures,
    `Record`s, are given back as it ends, so that neither driver nor scheduler grows with the plan. Pixels go
    through the work directory. A task that fails *returns* a FAILED record, its dependants return BLOCKED at
    once, everything else goes on. When an association has come to rest with failures that a retry can mend,
    what is missing of it is submitted again; a task that was killed for want of memory then asks for more.

    Parameters
    ----------
    client : Client
        Of a cluster whose workers offer ``memory``.
    work : Work
        Held by the caller (`Work.writer`).
    plan : Plan
        What to do; tasks whose products are there and valid are not done again.
    attempts : int
        How often a task is tried at most.
    window : int
        Associations in flight at a time; as many as there are workers where that is more.
    capacity : callable
        What the cluster offers now; asked from time to time.
    outcomes : Outcomes, optional
        Knows what is done already, and takes how tasks end; made from the work directory if not given.
    observe : callable, optional
        Called with each task that comes to an end, and its record.
    events : EventLog, optional
        Takes what happens.
    patience : float
        Seconds without any task's end after which a run stops whose tasks no worker is large enough for.
    perform : callable, optional
        What runs on the worker, given a `Request` and the records (or tuples of them) that it depends on.
    stages : str
        Package of the stage modules.
    """

    def __init__(
        self,
        client: Client,
        work: Work,
        plan: Plan,
        *,
        attempts: int,
        window: int,
        capacity: Callable[[], Capacity],
        outcomes: Outcomes | None = None,
        observe: Observer | None = None,
        events: EventLog | Silence | None = None,
        patience: float = math.inf,
        perform: Perform = execute,
        stages: str = "batch.stages",
    ) -> None:
        self._client = client
        self._work = work
        self._plan = plan
        self._attempts = attempts
        self._window = window
        self._measure = capacity
        self._capacity = capacity()
        self._looked = time.monotonic()
        self._observe = observe or (lambda task, record: None)
        self._outcomes = outcomes
        self._events = events or Silence()
        self._patience = patience
        self._moved = time.monotonic()
        self._perform = perform
        self._stages = stages
        self._associations = {a.name: a for a in plan.associations}
        self._order = {name: i for i, name in enumerate(dict.fromkeys(t.stage for t in plan.tasks))}
        # a scheduler that serves two runs of the same data must not take one's result for the other's
        self._run = self._events.run or new_run()
        self.submitted = 0
        """Requests sent so far: nodes of the graphs."""
        self._batches: dict[str, _Batch] = {}
        self._open: dict[Any, tuple[str, list[str], Future]] = {}
        self._ended: queue.SimpleQueue[Future] = queue.SimpleQueue()
        self._watch = Watch(client, self._run, self._events, lambda key: self._open.get(key, ("", []))[1])

    def run(self) -> Outcomes:
        """Do what is not done yet.

        Returns
        -------
        Outcomes
            How every task of the plan stands.

        Raises
        ------
        RunCancelledError
            If the work directory was marked so; tasks are still running then.
        InsufficientMemoryError
            If the workers that were large enough have gone, and none came for `patience` seconds.
        SchedulerLostError
            If the scheduler went away; what was done until then is in the work directory.
        """
        if self._outcomes is None:
            self._outcomes = Outcomes(self._work)
            self._outcomes.survey(self._plan.tasks, self._observe)
        outcomes, waiting, more = self._outcomes, self._load(self._outcomes), True
        with self._watch:
            while more or self._batches:
                entering: list[_Batch] = []
                # an association keeps one worker busy at the least: fewer of them would leave some idle
                while more and len(self._batches) < max(self._window, self._capacity.workers):
                    batch = next(waiting, None)
                    more = batch is not None
                    if batch is not None:
                        self._batches[batch.name] = batch
                        entering.append(batch)
                for first in range(0, len(entering), _AT_ONCE):
                    self._submit(entering[first : first + _AT_ONCE])
                resting = [b for b in entering if not b.open]
                if not resting and self._batches:
                    resting = self._collect()
                again = []
                for batch in resting:
                    if self._to_retry(batch):
                        again.append(batch)
                    else:
                        outcomes.add(self._batches.pop(batch.name).records.values())
                self._submit(again)
        return outcomes

    @property
    def in_flight(self) -> int:
        """Futures that are held now."""
        return len(self._open)

    def abandon(self) -> None:
        """Want nothing of what is in flight any more."""
        futures = [future for _, _, future in self._open.values()]
        self._open.clear()
        self._client.cancel(futures, force=True)

    def _load(self, outcomes: Outcomes) -> Iterator[_Batch]:
        """Associations that are not done, in the order of the plan, each with the records that are there."""
        by_association: dict[str, dict[str, Task]] = {}
        for task in self._plan.tasks:
            by_association.setdefault(task.association, {})[task.id] = task
        for name, tasks in by_association.items():
            there = [t for i, t in tasks.items() if outcomes.done(i)]
            if len(there) < len(tasks):
                yield _Batch(name, tasks, valid_records(self._work, there) if there else {})

    def _submit(self, batches: Iterable[_Batch]) -> None:
        """Submit what has no good record yet, with what is there already handed over as it is."""
        from dask.highlevelgraph import HighLevelGraph, MaterializedLayer

        tasks: dict[Any, Any] = {}
        resources: dict[Any, dict[str, int]] = {}
        priorities: dict[Any, int] = {}
        members: dict[Any, tuple[str, list[str]]] = {}
        for batch in batches:
            made: dict[str, Any] = dict(batch.records)
            for request in self._requests(batch):
                first = request.tasks[0]
                key = (first.stage, first.subject, f"{first.fingerprint[:12]}-{self._run}-{batch.round}")
                own = {t.id for t in request.tasks}
                needed = [made[u] for t in request.tasks for u in t.upstream if u not in own]
                upstream = {id(n): n for n in needed}.values()
                tasks[key] = (self._perform, request, *upstream)
                resources[key] = {"memory": request.needs.memory}
                # later stages first: associations finish, and scratch space is given back
                priorities[key] = self._order[first.stage]
                members[key] = (batch.name, [t.id for t in request.tasks])
                made |= dict.fromkeys(members[key][1], key)
                batch.open.update(members[key][1])
        if not tasks:
            return
        self.submitted += len(tasks)
        # one message for the whole graph: a submission for each task costs five times as much
        layer = MaterializedLayer(
            tasks, annotations={"resources": resources.__getitem__, "priority": priorities.__getitem__}
        )
        graph = HighLevelGraph({"acs-batch": layer}, {"acs-batch": set()})
        for future in self._client.get(graph, list(tasks), sync=False):
            self._open[future.key] = (*members[future.key], future)
            future.add_done_callback(self._ended.put)

    def _requests(self, batch: _Batch) -> Iterator[Request]:
        todo = [t for t in batch.tasks.values() if t.id not in batch.records]
        for group in groups(todo, batch.memory, self._capacity, len(self._batches), batch.tries):
            yield Request(
                tasks=tuple(group),
                needs=together(group, batch.memory),
                association=self._associations[batch.name],
                settings=self._sections(group),
                work=self._work.location,
                stages=self._stages,
                run=self._run,
            )

    def _sections(self, group: Sequence[Task]) -> dict[str, Any]:
        """The settings of the tasks' stages, and those that their stages try."""
        names = (name for t in group for name in (t.stage, *self._plan.tries.get(t.stage, ())))
        return {name: self._plan.settings.get(name, {}) for name in names}

    def _collect(self) -> list[_Batch]:
        """Take what has ended meanwhile; return the associations that came to rest by it."""
        ended: list[Future] = []
        try:
            ended.append(self._ended.get(timeout=_TICK_S))
            while True:
                ended.append(self._ended.get_nowait())
        except queue.Empty:
            pass
        self._look_around()
        resting = []
        for future, value in zip(ended, _values(self._client, ended), strict=True):
            name, ids, _ = self._open.pop(future.key)
            batch = self._batches[name]
            known = {r.id: r for r in value} if isinstance(value, tuple) else {}
            for task in (batch.tasks[i] for i in ids):
                record = known.get(task.id) or _lost(task, future.key, value)
                batch.records[task.id] = record
                batch.open.discard(task.id)
                if record.failure is not None:
                    batch.tries[task.id] += 1
                self._watch.ended(record, batch.tries[task.id])
                self._observe(task, record)
            if not batch.open:
                resting.append(batch)
        if ended:
            self._moved = time.monotonic()
        return resting

    def _look_around(self) -> None:
        now = time.monotonic()
        if now - self._looked < _TICK_S:
            return
        if cancelling.asked(self._work):
            raise RunCancelledError("the run was cancelled; run the same command again to go on")
        if now - self._watch.looked > _CAPACITY_S:
            self._capacity = self._measure()
            self._watch.look(b.tasks[i] for b in self._batches.values() for i in b.open)
            if now - self._moved > self._patience:
                self._refuse_hopeless()
        self._looked = now

    def _refuse_hopeless(self) -> None:
        """Dask would wait without end for a worker that offers enough."""
        asked = {i: b.memory.get(i, b.tasks[i].needs.memory) for b in self._batches.values() for i in b.open}
        worst = max(asked, key=lambda i: asked[i])
        if asked[worst] > self._capacity.largest:
            raise InsufficientMemoryError(
                f"no worker is large enough any more for {worst}, which needs {asked[worst] / 1e9:.2f} GB: "
                f"the largest of {self._capacity.workers} offers {self._capacity.largest / 1e9:.2f} GB; "
                f"none came in {self._patience:.0f} s; start some, then run again"
            )

    def _to_retry(self, batch: _Batch) -> bool:
        """Whether a retry can mend something; that, and what it blocked, has no record any more then."""
        mendable = [
            r
            for r in batch.records.values()
            if r.failure is not None and r.failure.retryable and batch.tries[r.id] < self._attempts
        ]
        if not mendable:
            return False
        batch.round += 1
        for record in mendable:
            asked = batch.memory.get(record.id, batch.tasks[record.id].needs.memory)
            if record.failure is not None and record.failure.out_of_memory:
                asked = self._capacity.after_kill(asked, self._watch.memory_of_worker(record.id))
                batch.memory[record.id] = asked
            message = record.failure.message if record.failure else ""
            attempt = batch.tries[record.id] + 1
            log.warning("%s: attempt %d after: %s", record.id, attempt, message)
            self._events.emit("task-retried", task=record.id, attempt=attempt, memory=asked, after=message)
        origins = {r.id for r in mendable}
        for task_id, record in list(batch.records.items()):
            if task_id in origins or (record.status is Status.BLOCKED and record.reason in origins):
                del batch.records[task_id]
        return True


def _values(client: Client, futures: list[Future]) -> list[Any]:
    """What futures came to: tuples of records, or exceptions; all are fetched in one go."""
    if any(f.status in ("cancelled", "lost") for f in futures):
        raise SchedulerLostError("the connection to the scheduler was lost")
    good = [f for f in futures if f.status == "finished"]
    try:
        fetched: list[Any] = client.gather(good) if good else []
    except Exception:
        fetched = [_value(f) for f in good]
    values = dict(zip((f.key for f in good), fetched, strict=True))
    return [values[f.key] if f.key in values else _value(f) for f in futures]


def _value(future: Future) -> Any:
    from concurrent.futures import CancelledError

    try:
        return future.result()
    except CancelledError as error:
        raise SchedulerLostError(f"the connection to the scheduler was lost ({error})") from None
    except Exception as error:
        return error


def _lost(task: Task, key: Any, error: object) -> Record:
    """A future that raised: its worker was lost time and again, or the graph itself is at fault."""
    from distributed.scheduler import KilledWorker

    # Dask gives what depends on a lost task the same error
    if isinstance(error, KilledWorker) and error.task != key:
        origin = "/".join(error.task[:2])
        return Record(task.stage, task.subject, task.fingerprint, Status.BLOCKED, reason=origin)
    words = " ".join(str(error).split()) or type(error).__name__
    failure = Failure(
        type(error).__name__,
        f"{task.id}: lost with its worker: {words}",
        retryable=True,
        # a container that is out of memory goes as a whole, the worker with its task
        out_of_memory=isinstance(error, KilledWorker),
    )
    return Record(task.stage, task.subject, task.fingerprint, Status.FAILED, failure=failure)
