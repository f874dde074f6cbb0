"""What is done, stale, failed, blocked or still to do: read off the work directory, nothing else."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from batch.model.plan import Task
from batch.model.record import Record, Status
from batch.storage.workdir import RECORD, WorkDirectory, read_json


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
    log: Path | None = None


def valid_record(work: WorkDirectory, task: Task) -> Record | None:
    """The record of a task's published products, if they are those that the task would make now."""
    record = _read(work.folder(task.id) / RECORD)
    return record if record is not None and record.fingerprint == task.fingerprint else None


def entries(work: WorkDirectory, tasks: Iterable[Task]) -> dict[str, Entry]:
    """Where every task stands, by task id; `tasks` come each after the ones they depend on."""
    found: dict[str, Entry] = {}
    for task in tasks:
        found[task.id] = _entry(work, task, found)
    return found


def _entry(work: WorkDirectory, task: Task, known: Mapping[str, Entry]) -> Entry:
    folder = work.folder(task.id)
    record = _read(folder / RECORD)
    if record is not None and record.fingerprint == task.fingerprint:
        state = State.SKIPPED if record.status is Status.SKIPPED else State.DONE
        return Entry(task, state, record, folder / "task.log")
    failure = _last_failure(work, task)
    if failure is not None and failure[0].fingerprint == task.fingerprint:
        return Entry(task, State.FAILED, *failure)
    if any(known[u].state in (State.FAILED, State.BLOCKED) for u in task.upstream):
        return Entry(task, State.BLOCKED)
    return Entry(task, State.STALE if record is not None else State.TO_DO)


def _last_failure(work: WorkDirectory, task: Task) -> tuple[Record, Path] | None:
    attempts = sorted(
        (work.failures / task.id).glob("attempt-*"), key=lambda p: int(p.name.partition("-")[2])
    )
    if not attempts:
        return None
    record = _read(attempts[-1] / RECORD)
    return None if record is None else (record, attempts[-1] / "task.log")


def _read(path: Path) -> Record | None:
    """A record that cannot be read is no record: the task is then done again."""
    try:
        return read_json(Record, path)
    except (OSError, ValueError):
        return None
