"""What one attempt at a task left behind."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from batch.model.observation import Product


class Status(enum.Enum):
    """How an attempt ended. A task without a record never ran, or was killed with its worker."""

    DONE = "done"
    SKIPPED = "skipped"
    """There was nothing to do, for the reason in `Record.reason`; dependants go on."""
    FAILED = "failed"
    BLOCKED = "blocked"
    """Not tried, because a task upstream (named in `Record.reason`) failed."""

    @property
    def ok(self) -> bool:
        """True where dependants may go on."""
        return self in (Status.DONE, Status.SKIPPED)


@dataclass(frozen=True)
class Usage:
    """What an attempt took."""

    wall: float = 0.0
    """s"""
    cpu: float = 0.0
    """User and system time, s."""
    peak_memory: int = 0
    """Largest resident set of the task's process, bytes, as the kernel counted it (`os.wait4`)."""
    host: str = ""
    started: str = ""
    """ISO 8601, UTC."""


@dataclass(frozen=True)
class Failure:
    """Why an attempt failed."""

    kind: str
    """Class name of the error."""
    message: str
    retryable: bool = False
    out_of_memory: bool = False


@dataclass(frozen=True)
class Record:
    """What one attempt at a task left behind; about 1 kB, the only thing that Dask carries."""

    stage: str
    subject: str
    fingerprint: str
    status: Status
    reason: str = ""
    """Why a task was skipped or blocked."""
    products: tuple[Product, ...] = ()
    results: Mapping[str, Any] = field(default_factory=dict)
    """Numbers and texts that later stages and the report use (JSON values)."""
    notes: tuple[str, ...] = ()
    """What the user should know although it did not stop the task."""
    usage: Usage = Usage()
    failure: Failure | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    attempt: str = ""
    """In an object store, where nothing can be renamed: the folder of this attempt below the task's."""

    @property
    def place(self) -> str:
        """Where its files lie among the products of the work directory."""
        return f"{self.id}/{self.attempt}" if self.attempt else self.id

    @property
    def id(self) -> str:
        """``stage/subject``, as in `Task.id`."""
        return f"{self.stage}/{self.subject}"
