"""What travels to a worker for one task, and from there into the task's own process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from batch.model.observation import Association, Product
from batch.model.plan import Needs, Task
from batch.model.record import Failure, Record
from batch.storage.work import Location


@dataclass(frozen=True)
class Request:
    """Tasks for one process, with everything that their stage needs to know; about 2 kB."""

    tasks: tuple[Task, ...]
    """One, or several of one stage with the same inputs (`Needs.together`)."""
    needs: Needs
    """Of all of them together."""
    association: Association
    settings: Mapping[str, Any]
    """The section of the stage, as JSON values."""
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
