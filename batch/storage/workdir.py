"""The work directory on a file system: where everything lies, and the one way in which products appear in it.

::

    <work>/run.json plan.json
    <work>/products/<stage>/<subject>/   appears whole: files, task.log, record.json
    <work>/failures/<stage>/<subject>/attempt-1/
    <work>/scratch/                      private working folders, on the same file system
    <work>/report/

A task works in a scratch folder of its own. Publishing writes ``record.json`` last, flushes everything to
the disk and renames the folder into place, so that a product folder exists whole or not at all. The
directory alone says what is done; there is no database.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from batch.errors import StorageError, WorkDirectoryBusyError
from batch.model.record import Record
from batch.storage import scratch
from batch.storage.files import flush, read_json, remove_folder, storage_errors, write_bytes, write_json
from batch.storage.work import LOG, RECORD, Location


@dataclass(frozen=True)
class WorkDirectory:
    """A work directory on a POSIX file system."""

    root: Path

    @property
    def location(self) -> Location:
        """What opens it on another machine."""
        return Location(str(self.root.absolute()))

    @property
    def local(self) -> Path:
        """Scratch lies beside what is published."""
        return self.root

    @property
    def products(self) -> Path:
        """Published products, ``<stage>/<subject>/``."""
        return self.root / "products"

    @property
    def failures(self) -> Path:
        """Logs and records of failed attempts, ``<stage>/<subject>/attempt-<n>/``."""
        return self.root / "failures"

    @property
    def scratch(self) -> Path:
        """Private working folders."""
        return self.root / "scratch"

    @property
    def report(self) -> Path:
        """The pages for people."""
        return self.root / "report"

    def create(self) -> None:
        """Make the folders.

        Raises
        ------
        StorageError
            If the file system refuses.
        """
        with storage_errors(self.root):
            for folder in (self.products, self.failures, self.scratch, self.report):
                folder.mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def writer(self) -> Iterator[None]:
        """Hold the directory for one run; the lock goes with the process, however that ends.

        Raises
        ------
        WorkDirectoryBusyError
            If another run holds it.
        """
        self.create()
        lock = FileLock(self.root / ".lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise WorkDirectoryBusyError(
                f"{self.root}: another run works here; wait for it, or give another --work"
            ) from None
        try:
            scratch.sweep(self.scratch)
            yield
        finally:
            lock.release()

    def workspace(self, task_id: str) -> contextlib.AbstractContextManager[Path]:
        """A private scratch folder for one attempt, removed afterwards."""
        return scratch.workspace(self.scratch, task_id)

    def sweep(self) -> int:
        """Remove the scratch folders of attempts whose process is gone; returns bytes given back."""
        return scratch.sweep(self.scratch)

    def url(self, name: str) -> str:
        """The path of a file."""
        return str(self.root / name)

    def attempt(self, workspace: Path) -> str:
        """Nothing: a product folder appears by one rename, whoever made it."""
        return ""

    def inputs(self, upstream: Sequence[Record], workspace: Path) -> Path:
        """The products as they lie."""
        return self.products

    def folder(self, task_id: str) -> Path:
        """Where a task's products are published."""
        return self.products / task_id

    def publish(self, workspace: Path, record: Record) -> Record:
        """Let the products of a successful attempt appear, in one rename.

        Parameters
        ----------
        workspace : Path
            The attempt's scratch folder, with the files of ``record.products`` in ``area/``.
        record : Record
            Written last, as the mark that everything is there.

        Returns
        -------
        Record
            As it was given.

        Raises
        ------
        StorageError
            If the file system refuses; nothing has appeared then.
        """
        # tasks that shared a process share the workspace and its log
        whole = workspace / f"publish-{uuid.uuid4().hex[:6]}"
        target = self.folder(record.id)
        with storage_errors(target):
            whole.mkdir()
            for product in record.products:
                os.replace(workspace / "area" / product.name, whole / product.name)
            _copy_if_there(workspace / LOG, whole / LOG)
            for path in whole.iterdir():
                path.chmod(0o444)
                flush(path)
            write_json(whole / RECORD, record)
            (whole / RECORD).chmod(0o444)
            flush(whole)
            target.parent.mkdir(parents=True, exist_ok=True)
            self._swap(whole, target, workspace / "outdated")
            flush(target.parent)
        return record

    def _swap(self, new: Path, target: Path, aside: Path) -> None:
        """Rename `new` to `target`; what stood there (a stale product) goes aside first."""
        for _ in range(3):
            try:
                os.rename(new, target)
                return
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
            with contextlib.suppress(FileNotFoundError):
                os.rename(target, aside.with_name(f"{aside.name}-{uuid.uuid4().hex[:6]}"))
        raise StorageError(
            f"{target}: other processes keep writing here; run one acs-batch per work directory"
        )

    def keep_failure(self, workspace: Path, record: Record) -> str | None:
        """Keep the log and record of a failed attempt; None where even that could not be written."""
        parent = self.failures / record.id
        try:
            parent.mkdir(parents=True, exist_ok=True)
            number = 1 + max((int(p.name.partition("-")[2]) for p in parent.glob("attempt-*")), default=0)
            folder = workspace / f"failure-{uuid.uuid4().hex[:6]}"
            folder.mkdir()
            _copy_if_there(workspace / LOG, folder / LOG)
            write_json(folder / RECORD, record)
            os.rename(folder, parent / f"attempt-{number}")
        except OSError:
            return None
        return f"failures/{record.id}/attempt-{number}"

    def record(self, task_id: str) -> Record | None:
        """The record of a task's published products; one that cannot be read is no record."""
        return _read(self.folder(task_id) / RECORD)

    def records(self, task_ids: Iterable[str]) -> Iterator[Record]:
        """The same for many tasks, in their order; those without are left out."""
        return (record for i in task_ids if (record := self.record(i)) is not None)

    def last_failures(self, task_ids: Iterable[str]) -> dict[str, tuple[Record, str]]:
        """Record and log of the last failed attempt of those tasks that have one."""
        found = {}
        for task_id in task_ids:
            attempts = (self.failures / task_id).glob("attempt-*")
            last = max(attempts, key=lambda p: int(p.name.partition("-")[2]), default=None)
            if last is not None and (record := _read(last / RECORD)) is not None:
                found[task_id] = record, f"failures/{task_id}/{last.name}/{LOG}"
        return found

    def read(self, name: str) -> bytes:
        """Content of a file; `FileNotFoundError` if there is none."""
        return (self.root / name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        """Write a file, so that it appears whole."""
        with storage_errors(self.root):
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            write_bytes(self.root / name, content)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        (self.root / name).unlink(missing_ok=True)

    def discard(self, task_ids: Iterable[str]) -> int:
        """Remove the products of tasks; returns bytes given back."""
        return sum(remove_folder(self.folder(task_id)) for task_id in task_ids)

    def discard_failures(self) -> int:
        """Remove all logs and records of failed attempts; returns bytes given back."""
        freed = remove_folder(self.failures)
        self.create()
        return freed


def _read(path: Path) -> Record | None:
    try:
        return read_json(Record, path)
    except (OSError, ValueError):
        return None


def _copy_if_there(source: Path, target: Path) -> None:
    if source.exists():
        shutil.copyfile(source, target)
