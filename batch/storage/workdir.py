"""The work directory: where everything lies, and the one way in which products appear in it.

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
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from batch.errors import StorageError, WorkDirectoryBusyError
from batch.model.json import decode, encode
from batch.model.record import Record

T = TypeVar("T")

LOG = "task.log"
RECORD = "record.json"


@dataclass(frozen=True)
class WorkDirectory:
    """A work directory on a POSIX file system."""

    root: Path

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
            self.sweep_scratch()
            yield
        finally:
            lock.release()

    @contextlib.contextmanager
    def workspace(self, task_id: str) -> Iterator[Path]:
        """A private scratch folder for one attempt, removed afterwards.

        The folder holds ``area/`` (the task's current folder); a lock beside it tells `sweep_scratch`
        that its owner is alive.
        """
        folder = self.scratch / f"{task_id.replace('/', '__')}-{uuid.uuid4().hex[:12]}"
        with storage_errors(folder):
            folder.mkdir(parents=True)
        try:
            with FileLock(folder / ".owner", timeout=0):
                (folder / "area").mkdir()
                yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def sweep_scratch(self) -> None:
        """Remove the scratch folders of attempts whose process is gone."""
        for folder in self.scratch.iterdir():
            owner = FileLock(folder / ".owner", timeout=0)
            try:
                if folder.is_dir() and (folder / ".owner").exists():
                    owner.acquire()
                    owner.release()
            except Timeout:
                continue
            shutil.rmtree(folder, ignore_errors=True)

    def folder(self, task_id: str) -> Path:
        """Where a task's products are published."""
        return self.products / task_id

    def publish(self, workspace: Path, record: Record) -> None:
        """Let the products of a successful attempt appear, in one rename.

        Parameters
        ----------
        workspace : Path
            The attempt's scratch folder, with the files of ``record.products`` in ``area/``.
        record : Record
            Written last, as the mark that everything is there.

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
                _flush(path)
            write_json(whole / RECORD, record)
            (whole / RECORD).chmod(0o444)
            _flush(whole)
            target.parent.mkdir(parents=True, exist_ok=True)
            self._swap(whole, target, workspace / "outdated")
            _flush(target.parent)

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

    def keep_failure(self, workspace: Path, record: Record) -> Path | None:
        """Keep the log and record of a failed attempt; None where even that could not be written."""
        parent = self.failures / record.id
        try:
            parent.mkdir(parents=True, exist_ok=True)
            number = 1 + max((int(p.name.partition("-")[2]) for p in parent.glob("attempt-*")), default=0)
            folder = workspace / f"failure-{uuid.uuid4().hex[:6]}"
            folder.mkdir()
            _copy_if_there(workspace / LOG, folder / LOG)
            write_json(folder / RECORD, record)
            target = parent / f"attempt-{number}"
            os.rename(folder, target)
        except OSError:
            return None
        return target


@contextlib.contextmanager
def storage_errors(where: object) -> Iterator[None]:
    """Turn what a file system refuses into a `StorageError` that says where."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageError(f"{where}: no space left; free some, then run again") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise StorageError(f"{where}: {error.strerror}; make it writable, then run again") from error
        raise


def write_json(path: Path, value: Any) -> None:
    """Write a model value as JSON, so that the file appears whole."""
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        with aside.open("w", encoding="utf-8") as stream:
            json.dump(encode(value), stream, indent=1, sort_keys=True)
            stream.write("\n")
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(aside, path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise


def read_json(kind: type[T], path: Path) -> T:
    """Read what `write_json` wrote.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it does not hold a `kind`.
    """
    return decode(kind, json.loads(path.read_text(encoding="utf-8")))


def _copy_if_there(source: Path, target: Path) -> None:
    if source.exists():
        shutil.copyfile(source, target)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
