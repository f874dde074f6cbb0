"""What travels to a worker for one task, and from there into the task's own process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from batch.model.observation import Association, Product
from batch.model.plan import Task
from batch.model.record import Failure, Record


@dataclass(frozen=True)
class Request:
    """One task, with everything that its stage needs to know; about 2 kB."""

    task: Task
    association: Association
    settings: Mapping[str, Any]
    """The section of the task's stage, as JSON values."""
    work: str
    """Absolute path of the work directory."""
    stages: str = "batch.stages"
    """The Python package in which the stage's module is found."""
    upstream: tuple[Record, ...] = ()
    """Filled in by the worker."""


@dataclass(frozen=True)
class Answer:
    """What the task's process leaves in ``answer.json``: products, or a failure."""

    products: tuple[Product, ...] = ()
    results: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    skipped: str = ""
    failure: Failure | None = None
