"""A work directory below ``s3://bucket/prefix``; `batch.storage.objects` says how it is laid out."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from batch.errors import BatchError, StorageError, StorageRefusedError
from batch.model.record import Record
from batch.storage import scratch
from batch.storage.files import storage_errors, to_json
from batch.storage.objects import sweeping
from batch.storage.objects.cache import Cache
from batch.storage.objects.lease import Lease
from batch.storage.objects.records import FAILURES, PRODUCTS, Records
from batch.storage.objects.store import DamagedObjectError, Store, parse
from batch.storage.objects.trouble import ConflictError
from batch.storage.work import LOG, RECORD, Location

_TRANSFERS = 8
"""Files that a task moves at a time."""
_TASKS = "scratch/tasks"


class ObjectWork:
    """A work directory in an object store.

    Parameters
    ----------
    location : Location
    timeout : float
        Of a connection without a byte, s.
    lease : float
        Seconds after which a run without a sign of life may be followed by another.

    Raises
    ------
    UsageError
        If the address is none.
    """

    def __init__(self, location: Location, *, timeout: float = 60.0, lease: float = 60.0) -> None:
        bucket, prefix = parse(location.address)
        address = f"s3://{bucket}/{prefix}".rstrip("/")
        self._location = replace(location, address=address)
        self._store = Store(bucket, prefix, timeout)
        self._records = Records(self._store)
        self._lease = lease

    @property
    def location(self) -> Location:
        """What opens it on another machine."""
        return self._location

    @functools.cached_property
    def local(self) -> Path:
        """Its folder on this machine, for nobody but this user.

        Raises
        ------
        StorageError
            If it cannot be made.
        StorageRefusedError
            If it belongs to somebody else.
        """
        # anybody may make folders where temporary files go
        temporary = Path(tempfile.gettempdir()) / f"acs-batch-{os.getuid()}"
        given = Path(self._location.scratch) if self._location.scratch else None
        base = given or temporary
        key = sha256(self._location.address.encode()).hexdigest()[:12]
        folder = base / f"{self._store.bucket}-{key}"
        with storage_errors(folder):
            base.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)
            if any(p.is_symlink() or p.lstat().st_uid != os.getuid() for p in {base, folder} - {given}):
                raise StorageRefusedError(f"{folder}: belongs to another user; set cluster.scratch")
            (folder / "scratch").mkdir(exist_ok=True)
        return folder

    @property
    def _cache(self) -> Cache:
        return Cache(self.local / "cache", self._location.cache)

    def url(self, name: str) -> str:
        """The ``s3://`` address of a file."""
        return f"{self._location.address}/{name}"

    @contextlib.contextmanager
    def writer(self) -> Iterator[None]:
        """Hold the prefix for one run.

        Raises
        ------
        WorkDirectoryBusyError
            If another run holds it.
        StorageRefusedError
            If there is no such bucket, or no permission.
        """
        with Lease(self._store, self._lease).held():
            for folder in (self.local / "scratch").iterdir():
                # workers of another cluster may be at work still; what they leave goes with the next task
                if folder.is_dir() and folder != self.local / _TASKS:
                    shutil.rmtree(folder, ignore_errors=True)
            yield
            self._records.remember()

    @contextlib.contextmanager
    def workspace(self, task_id: str) -> Iterator[Path]:
        """A private folder for one attempt on this machine; those of dead processes are removed first."""
        folder = self.local / _TASKS
        with storage_errors(folder):
            scratch.sweep(folder)
        with scratch.workspace(folder, task_id) as made:
            yield made

    def attempt(self, workspace: Path) -> str:
        """Every workspace has a name of its own."""
        return workspace.name.rpartition("-")[2]

    def inputs(self, upstream: Sequence[Record], workspace: Path) -> Path:
        """Bring the products of these records to ``inputs/`` in the workspace, through the cache.

        Raises
        ------
        StorageError
            If the store, or the file system, fails for now. A product that is not what was published takes
            its record with it: the next run makes it anew.
        """
        folder = workspace / "inputs"
        wanted = [(r, p) for r in upstream for p in r.products]

        def bring(number: int) -> None:
            record, product = wanted[number]
            name = f"{PRODUCTS}{record.place}/{product.name}"
            try:
                self._cache.provide(
                    product,
                    folder / record.place / product.name,
                    lambda path: self._store.download(name, path, product.size, product.sha256),
                )
            except DamagedObjectError as error:
                standing = self.record(record.id)
                if standing is not None and standing.attempt == record.attempt:
                    self._store.remove([f"{PRODUCTS}{record.id}/{RECORD}"])
                raise DamagedObjectError(f"{error.message}; run again to make it anew") from None

        with storage_errors(folder):
            folder.mkdir()
        with ThreadPoolExecutor(_TRANSFERS) as threads:
            list(threads.map(bring, range(len(wanted))))
        with contextlib.suppress(OSError):
            self._cache.trim()
        return folder

    def publish(self, workspace: Path, record: Record) -> Record:
        """Upload the products of an attempt, then write the record that names them.

        Parameters
        ----------
        workspace : Path
            With the files of ``record.products`` in ``area/``.
        record : Record
            Its `attempt` is that of the workspace.

        Returns
        -------
        Record
            What stands now: of two workers that did the same task, both get the record of the first.

        Raises
        ------
        StorageError
            If the store fails; nothing has appeared then. Also if another run, with other settings, has
            published in the meantime.
        """
        folder = f"{PRODUCTS}{record.place}/"
        files: dict[str, tuple[Path, str | None]] = {
            p.name: (workspace / "area" / p.name, p.sha256) for p in record.products
        }
        if (workspace / LOG).exists():
            files[LOG] = (workspace / LOG, None)
        sizes = {p.name: p.size for p in record.products}

        def send(name: str) -> None:
            path, digest = files[name]
            if digest is not None:
                path.chmod(0o444)
            self._store.upload(path, folder + name, digest)
            if digest is not None:
                self._cache.keep(path, digest)

        with storage_errors(folder), ThreadPoolExecutor(_TRANSFERS) as threads:
            list(threads.map(send, files))
        # seen to be there before the record says so, whoever sweeps at the same time
        there = {o.name.removeprefix(folder): o.size for o in self._store.listing(folder)}
        missing = sorted(name for name in sizes if there.get(name) != sizes[name])
        if missing:
            raise StorageError(f"{self._store.url(folder)}: {missing[0]} did not arrive whole; run again")
        return self._commit(record)

    def _commit(self, record: Record) -> Record:
        """Write the record, on condition that what stands is what stood when the attempt began."""
        standing = None
        for _ in range(3):
            try:
                self._records.commit(record)
                return record
            except ConflictError:
                standing = self.record(record.id)
            if standing is not None:
                break
            # what was to be replaced has been removed, or is not whole
        if standing is not None and standing.attempt == record.attempt:
            # the answer to a first request was lost, and boto3 asked again
            return standing
        with contextlib.suppress(BatchError):
            self._store.remove(o.name for o in list(self._store.listing(f"{PRODUCTS}{record.place}/")))
        if standing is not None and standing.fingerprint == record.fingerprint:
            return standing
        raise StorageError(
            f"{self._store.url(PRODUCTS + record.id)}: another run has published here in the meantime; "
            "run one acs-batch per work directory"
        )

    def keep_failure(self, workspace: Path, record: Record) -> str | None:
        """Keep log and record of a failed attempt; its folder's name, or None if even that went wrong."""
        try:
            number = 1 + max(self._records.attempts(record.id), default=0)
            folder = f"{FAILURES}{record.id}/attempt-{number}"
            while True:
                try:
                    self._store.put_instead(f"{folder}/{RECORD}", to_json(record), None)
                    break
                except ConflictError:
                    number += 1
                    folder = f"{FAILURES}{record.id}/attempt-{number}"
            if (workspace / LOG).exists():
                self._store.upload(workspace / LOG, f"{folder}/{LOG}")
        except (BatchError, OSError):
            return None
        return folder

    def record(self, task_id: str) -> Record | None:
        """The record of a task's published products, None where there are none or they are not whole."""
        return next(self._records.standing([task_id]), None)

    def records(self, task_ids: Iterable[str]) -> Iterator[Record]:
        """The same for many tasks, in their order; those without are left out."""
        return self._records.standing(task_ids)

    def last_failures(self, task_ids: Iterable[str]) -> dict[str, tuple[Record, str]]:
        """Record and log of the last failed attempt of those tasks that have one."""
        return self._records.failures(task_ids)

    def read(self, name: str) -> bytes:
        """Content of a file; `FileNotFoundError` if there is none."""
        return self._store.get(name)[0]

    def write(self, name: str, content: bytes) -> None:
        """Write a file, whole."""
        self._store.put(name, content)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        self._store.remove([name])

    def discard(self, task_ids: Iterable[str]) -> int:
        """Remove the products of tasks, their records first; returns bytes given back."""
        return sum(sweeping.remove(self._store, f"{PRODUCTS}{i}/") for i in task_ids)

    def discard_failures(self) -> int:
        """Remove all logs and records of failed attempts; returns bytes given back."""
        return sweeping.remove(self._store, FAILURES)

    def sweep(self) -> int:
        """Remove files that no record names, and what lies on this machine; returns bytes given back."""
        freed = scratch.sweep(self.local / _TASKS)
        return freed + sweeping.unnamed(self._store, self._records) + self._cache.clear()
