"""What every work directory can do, wherever it lies: a folder on a file system, or a prefix of a bucket.

Names are relative to the work directory and the same everywhere: ``plan.json``, ``report/index.html``,
``products/<stage>/<subject>/...``, ``failures/<stage>/<subject>/attempt-<n>/``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from batch.config.cluster import CACHE_BYTES, ClusterSettings
from batch.errors import UsageError
from batch.model.record import Record

LOG = "task.log"
RECORD = "record.json"
PLAN = "plan.json"
RUN = "run.json"
INDEX = "report/index.html"


@dataclass(frozen=True)
class Location:
    """Where a work directory lies, as it travels to workers."""

    address: str
    """An absolute path, or ``s3://bucket/prefix``."""
    scratch: str | None = None
    """Folder on each machine for scratch and cache of an object store; None: that of temporary files."""
    cache: int = CACHE_BYTES
    """Bytes of an object store's products that each machine keeps."""


def locate(address: str | Path, settings: ClusterSettings) -> Location:
    """The location of a work directory, with what the settings say of object stores."""
    return Location(str(address), str(settings.scratch) if settings.scratch else None, int(settings.cache))


class Work(Protocol):
    """A work directory. Every method raises `StorageError` for what a retry can mend."""

    @property
    def location(self) -> Location:
        """What `open_work` takes, here or on another machine."""

    @property
    def local(self) -> Path:
        """A folder on this machine; what is not published goes to ``scratch/`` in it."""

    def url(self, name: str) -> str:
        """What a person opens: a path, or an ``s3://`` address."""

    def writer(self) -> AbstractContextManager[None]:
        """Hold the directory for one run; `WorkDirectoryBusyError` if another one holds it."""

    def workspace(self, task_id: str) -> AbstractContextManager[Path]:
        """A private folder on this machine for one attempt, with ``area/`` in it, removed afterwards."""

    def attempt(self, workspace: Path) -> str:
        """`Record.attempt` of what will be published from a workspace."""

    def inputs(self, upstream: Sequence[Record], workspace: Path) -> Path:
        """A folder in which the products of these records lie, at `Record.place`; read-only."""

    def publish(self, workspace: Path, record: Record) -> Record:
        """Let the products of a successful attempt appear, all at once.

        Returns the record that stands: `record`, or that of another attempt that was there first.
        """

    def keep_failure(self, workspace: Path, record: Record) -> str | None:
        """Keep log and record of a failed attempt; its folder's name, or None if even that went wrong."""

    def record(self, task_id: str) -> Record | None:
        """The record of a task's published products, None where there are none or they are not whole."""

    def records(self, task_ids: Iterable[str]) -> Iterator[Record]:
        """The same for many tasks, in their order and few in memory at a time; those without are left out."""

    def last_failures(self, task_ids: Iterable[str]) -> dict[str, tuple[Record, str]]:
        """Record and log (its name) of the last failed attempt of those tasks that have one."""

    def read(self, name: str) -> bytes:
        """Content of a file; `FileNotFoundError` if there is none."""

    def write(self, name: str, content: bytes) -> None:
        """Write a file, so that it appears whole."""

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""

    def discard(self, task_ids: Iterable[str]) -> int:
        """Remove the products of tasks; returns bytes given back."""

    def discard_failures(self) -> int:
        """Remove all logs and records of failed attempts; returns bytes given back."""

    def sweep(self) -> int:
        """Remove what attempts left behind that are over; returns bytes given back. Only for the writer."""


def open_work(where: Location | str | Path) -> Work:
    """The work directory at an address. Nothing is looked at or made yet.

    Parameters
    ----------
    where : Location, str or Path
        A path, taken from the current folder if it is relative, or ``s3://bucket/prefix``.

    Raises
    ------
    UsageError
        For an address of another kind.
    """
    location = where if isinstance(where, Location) else Location(str(where))
    scheme, separator, _ = location.address.partition("://")
    if not separator:
        from batch.storage.workdir import WorkDirectory

        return WorkDirectory(Path(location.address).expanduser().absolute())
    if scheme == "s3":
        from batch.storage.objects.work import ObjectWork

        return ObjectWork(location)
    raise UsageError(f"--work: {scheme}:// is not known; give a folder or s3://bucket/prefix")
