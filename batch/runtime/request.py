"""What travels to a worker for one task or several, and from there into the tasks' own processes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from batch.model.observation import Association, Product
from batch.model.plan import Needs, Task
from batch.model.record import Failure, Record
from batch.runtime.company import companies, together
from batch.storage.work import Location


@dataclass(frozen=True)
class Request:
    """Tasks for one worker, with everything that their stages need to know; 2 kB and half a kB a task."""

    tasks: tuple[Task, ...]
    """In order: those of one company (`Task.company`) share a process, one process follows the other."""
    needs: Needs
    """Of all of them together."""
    association: Association
    settings: Mapping[str, Mapping[str, Any]]
    """The sections of the stages, and of those that they try (`Stage.tries`), as JSON values."""
    work: Location
    """Where the work directory is."""
    stages: str = "batch.stages"
    """The Python package in which the stage's module is found."""
    run: str = ""
    """Id of the run that asks, for its event log."""
    upstream: tuple[Record, ...] = ()
    """Filled in by the worker, as are the next two."""
    products: str = ""
    """The folder in which the products of `upstream` lie on this machine."""
    attempt: str = ""
    """`Record.attempt` of what will be published."""

    def processes(self) -> Iterator[Request]:
        """A request for each process, in order."""
        parts = companies(self.tasks)
        for tasks in parts:
            # one that was killed for memory asks for more than planned, and goes without others
            needs = self.needs if len(parts) == 1 else together(tasks, {})
            yield dataclasses.replace(self, tasks=tuple(tasks), needs=needs)

    @property
    def name(self) -> str:
        """The id of the task, or of the first of several."""
        more = f"+{len(self.tasks) - 1}" if len(self.tasks) > 1 else ""
        return self.tasks[0].id + more


@dataclass(frozen=True)
class Result:
    """What a task's stage returned."""

    products: tuple[Product, ...] = ()
    results: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    skipped: str = ""


@dataclass(frozen=True)
class Answer:
    """What the process leaves in ``answer.json``: a result for each task, or a failure."""

    results: tuple[Result, ...] = ()
    failure: Failure | None = None
