"""What is done, stale, failed, blocked or still to do: read off the work directory, nothing else."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from batch.model.plan import Task
from batch.model.record import Record, Status
from batch.storage.work import LOG, Work


class State(enum.Enum):
    """Where a task stands."""

    DONE = "done"
    SKIPPED = "skipped"
    STALE = "stale"
    """Its products were made with other settings, inputs or versions."""
    FAILED = "failed"
    BLOCKED = "blocked"
    TO_DO = "to do"
    """Never ran, or was killed."""

    @property
    def ok(self) -> bool:
        """True where the products are there and valid."""
        return self in (State.DONE, State.SKIPPED)


@dataclass(frozen=True)
class Entry:
    """A task, where it stands, and the record that says so."""

    task: Task
    state: State
    record: Record | None = None
    log: str | None = None
    """The name of its log in the work directory."""


def valid_record(work: Work, task: Task) -> Record | None:
    """The record of a task's published products, if they are those that the task would make now."""
    return _valid(work.record(task.id), task)


def valid_records(work: Work, tasks: Iterable[Task]) -> dict[str, Record]:
    """The same for many tasks, by id; those without are left out."""
    return {record.id: record for record in each_valid(work, tasks)}


def each_valid(work: Work, tasks: Iterable[Task]) -> Iterator[Record]:
    """The same one after the other, in the order of the tasks."""
    known = {task.id: task for task in tasks}
    return (r for r in work.records(known) if _valid(r, known[r.id]) is not None)


def entries(work: Work, tasks: Iterable[Task]) -> dict[str, Entry]:
    """Where every task stands, by task id; `tasks` come each after the ones they depend on."""
    known = {task.id: task for task in tasks}
    records = {record.id: record for record in work.records(known)}
    failures = work.last_failures(i for i, task in known.items() if _valid(records.get(i), task) is None)
    found: dict[str, Entry] = {}
    for task in known.values():
        found[task.id] = _entry(task, records.get(task.id), failures.get(task.id), found)
    return found


def _valid(record: Record | None, task: Task) -> Record | None:
    return record if record is not None and record.fingerprint == task.fingerprint else None


def _entry(
    task: Task, record: Record | None, failure: tuple[Record, str] | None, known: Mapping[str, Entry]
) -> Entry:
    if (valid := _valid(record, task)) is not None:
        state = State.SKIPPED if valid.status is Status.SKIPPED else State.DONE
        return Entry(task, state, valid, f"products/{valid.place}/{LOG}")
    if failure is not None and failure[0].fingerprint == task.fingerprint:
        return Entry(task, State.FAILED, *failure)
    if any(known[u].state in (State.FAILED, State.BLOCKED) for u in task.upstream):
        return Entry(task, State.BLOCKED)
    return Entry(task, State.STALE if record is not None else State.TO_DO)
