"""A plan as Dask futures: when and where each task runs, and what its failure means for the others."""

from __future__ import annotations

import collections
import dataclasses
import logging
import math
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from batch.model.plan import Needs, Plan, Task
from batch.model.record import Failure, Record, Status
from batch.runtime.request import Request
from batch.runtime.worker import execute
from batch.storage.ledger import valid_records
from batch.storage.work import Work

if TYPE_CHECKING:
    from distributed import Client, Future

log = logging.getLogger(__name__)

Observer = Callable[[Task, Record], None]


def groups(tasks: Sequence[Task], memory: Mapping[str, int], largest: int, shares: int) -> list[list[Task]]:
    """Tasks that run in one process each, in the order of the plan.

    Parameters
    ----------
    tasks : sequence of Task
        Of one association.
    memory : mapping
        Bytes asked for, by task id, where more than planned.
    largest : int
        Memory of the largest worker, bytes.
    shares : int
        Workers that an association may spread over: a group is no larger than needed to keep them busy.

    Returns
    -------
    list of list of Task
        Tasks that share a process are of one company (`Task.company`) and fit the largest worker.
    """
    kinds: dict[object, list[Task]] = {}
    for task in tasks:
        kinds.setdefault(task.company, []).append(task)
    made = []
    for kind in kinds.values():
        size = math.ceil(len(kind) / max(1, shares))
        start = 0
        while start < len(kind):
            count = size
            while count > 1 and together(kind[start : start + count], memory).memory > largest:
                count -= 1
            made.append(kind[start : start + count])
            start += count
    position = {task.id: number for number, task in enumerate(tasks)}
    return sorted(made, key=lambda group: position[group[0].id])


def together(tasks: Sequence[Task], memory: Mapping[str, int]) -> Needs:
    """What tasks need that run in one process."""
    first = max((t.needs for t in tasks), key=lambda n: n.memory)
    planned = max(memory.get(t.id, t.needs.memory) for t in tasks)
    return dataclasses.replace(
        first,
        memory=planned + sum(t.needs.together or 0 for t in tasks[1:]),
        seconds=sum(t.needs.seconds for t in tasks),
        timeout=sum(t.needs.timeout for t in tasks),
    )


@dataclass
class _Batch:
    """One association in flight."""

    name: str
    tasks: dict[str, Task]
    records: dict[str, Record]
    """Records so far, by task id; those of finished earlier runs from the start."""
    attempt: int = 1
    open: set[str] = field(default_factory=set)
    """Ids of tasks whose future is not back yet."""
    memory: dict[str, int] = field(default_factory=dict)
    """Bytes asked for now, where more than planned."""


class Runner:
    """Runs a plan on a cluster.

    Futures carry `Record`s; pixels go through the work directory. A task that fails *returns* a FAILED
    record, its dependants return BLOCKED at once, everything else goes on. When an association has come to
    rest with failures that a retry can mend, what is missing of it is submitted again; a task that was
    killed for want of memory then asks for twice as much.

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
        Associations in flight at a time.
    largest : int
        Memory of the largest worker, bytes.
    workers : int
        Number of workers.
    observe : callable, optional
        Called with each task and its record as it comes to an end.
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
        largest: int,
        workers: int = 1,
        observe: Observer | None = None,
        stages: str = "batch.stages",
    ) -> None:
        self._client = client
        self._work = work
        self._plan = plan
        self._attempts = attempts
        self._window = window
        self._largest = largest
        self._workers = workers
        self._observe = observe or (lambda task, record: None)
        self._stages = stages
        self._order = {name: i for i, name in enumerate(dict.fromkeys(t.stage for t in plan.tasks))}
        # a scheduler that serves two runs of the same data must not take one's result for the other's
        self._run = uuid.uuid4().hex[:8]
        self._batches: dict[str, _Batch] = {}
        self._where: dict[Any, tuple[str, list[str]]] = {}

    def run(self) -> dict[str, Record]:
        """Do what is not done yet.

        Returns
        -------
        dict
            The record of every task of the plan that ran now or was valid before, by task id.
        """
        from distributed import as_completed

        waiting = collections.deque(self._load())
        finished: dict[str, Record] = {}
        futures = as_completed(with_results=True, raise_errors=False)
        while waiting or self._batches:
            while waiting and len(self._batches) < self._window:
                batch = waiting.popleft()
                self._batches[batch.name] = batch
                futures.update(self._submit(batch))
                if not batch.open:
                    finished |= self._batches.pop(batch.name).records
            if not self._batches:
                continue
            future, value = next(futures)
            batch = self._take(future, value)
            if not batch.open:
                again = self._retry(batch)
                futures.update(again)
                if not again:
                    finished |= self._batches.pop(batch.name).records
        return finished

    def _load(self) -> Iterable[_Batch]:
        valid = valid_records(self._work, self._plan.tasks)
        by_association: dict[str, dict[str, Task]] = {}
        for task in self._plan.tasks:
            by_association.setdefault(task.association, {})[task.id] = task
        for name, tasks in by_association.items():
            records = {i: valid[i] for i in tasks if i in valid}
            for task_id, record in records.items():
                self._observe(tasks[task_id], record)
            yield _Batch(name, tasks, records)

    def _submit(self, batch: _Batch) -> list[Future]:
        """Submit what has no good record yet, with what is there already handed over as it is."""
        made: dict[str, Any] = dict(batch.records)
        futures = []
        association = self._plan.association(batch.name)
        todo = [t for t in batch.tasks.values() if t.id not in batch.records]
        for group in groups(todo, batch.memory, self._largest, self._workers // len(self._batches)):
            task, needs = group[0], together(group, batch.memory)
            request = Request(
                tasks=tuple(group),
                needs=needs,
                association=association,
                settings=self._plan.settings.get(task.stage, {}),
                work=self._work.location,
                stages=self._stages,
            )
            future = self._client.submit(
                execute,
                request,
                *{id(made[u]): made[u] for u in task.upstream}.values(),
                key=(task.stage, task.subject, f"{task.fingerprint[:12]}-{self._run}-{batch.attempt}"),
                resources={"memory": needs.memory},
                # later stages first: associations finish, and scratch space is given back
                priority=self._order[task.stage],
                pure=False,
            )
            made |= dict.fromkeys((t.id for t in group), future)
            self._where[future.key] = (batch.name, [t.id for t in group])
            batch.open.update(t.id for t in group)
            futures.append(future)
        return futures

    def _take(self, future: Future, value: Any) -> _Batch:
        name, ids = self._where.pop(future.key)
        batch = self._batches[name]
        tasks = [batch.tasks[i] for i in ids]
        done = {r.id: r for r in value} if future.status == "finished" else {}
        for task in tasks:
            record = done.get(task.id) or _lost(task, value)
            batch.records[task.id] = record
            batch.open.discard(task.id)
            self._observe(task, record)
        return batch

    def _retry(self, batch: _Batch) -> list[Future]:
        """Submit again what a retry can mend and what was blocked by it, if there is any."""
        mendable = [r for r in batch.records.values() if r.failure is not None and r.failure.retryable]
        if not mendable or batch.attempt >= self._attempts:
            return []
        batch.attempt += 1
        for record in mendable:
            log.warning("%s: attempt %d after: %s", record.id, batch.attempt, _message(record))
            if record.failure is not None and record.failure.out_of_memory:
                before = batch.memory.get(record.id, batch.tasks[record.id].needs.memory)
                batch.memory[record.id] = max(before, min(2 * before, self._largest))
        origins = {r.id for r in mendable}
        for task_id, record in list(batch.records.items()):
            if task_id in origins or (record.status is Status.BLOCKED and record.reason in origins):
                del batch.records[task_id]
        return self._submit(batch)


def _lost(task: Task, error: object) -> Record:
    """A future that raised: its worker was lost time and again, or the graph itself is at fault."""
    if isinstance(error, tuple) and len(error) == 3:
        # distributed hands over (type, value, traceback)
        error = error[1]
    words = " ".join(str(error).split()) or type(error).__name__
    return Record(
        task.stage,
        task.subject,
        task.fingerprint,
        Status.FAILED,
        failure=Failure(type(error).__name__, f"{task.id}: lost with its worker: {words}", retryable=True),
    )


def _message(record: Record) -> str:
    return record.failure.message if record.failure else ""


def outcome(plan: Plan, records: Mapping[str, Record]) -> dict[str, int]:
    """How many tasks ended in each status."""
    counts = collections.Counter(records[t.id].status.value for t in plan.tasks if t.id in records)
    return {s.value: counts.get(s.value, 0) for s in Status}
