"""One run at a time in a prefix of a bucket: its owner renews an object, which others take when it is old."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import logging
import os
import signal
import socket
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from batch.errors import StorageError, StorageRefusedError, WorkDirectoryBusyError
from batch.storage.files import from_json, to_json
from batch.storage.objects.store import Store
from batch.storage.objects.trouble import ConflictError

log = logging.getLogger(__name__)

_NAME = "lock.json"
_PATIENCE_S = 10.0


@dataclass(frozen=True)
class _Holder:
    """Who holds the lease."""

    id: str
    host: str
    kernel: str
    """Says whether `process` means anything here: this boot of this machine, this container."""
    process: int
    process_started: float
    since: str
    renewals: int = 0
    """Makes every renewal another object: who would take the lease notices."""


@dataclass(frozen=True)
class _Standing:
    """The lease as it is in the store."""

    etag: str
    age: float
    """Seconds since it was renewed, by the server's clock."""
    holder: _Holder | None
    """None where it cannot be read."""


class Lease:
    """The right to run in a prefix.

    Parameters
    ----------
    store : Store
    seconds : float
        After that long without a sign of life another run may take it. The holder renews it four times
        as often. A holder that died on this machine is seen at once.
    """

    def __init__(self, store: Store, seconds: float = 60.0) -> None:
        self._store = store
        self._seconds = seconds

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lease while the block lasts.

        Raises
        ------
        WorkDirectoryBusyError
            If another run holds it, or took it meanwhile: this one was out of touch for too long.
        StorageRefusedError
            If the store does not honour conditional writes.
        """
        holder = _me()
        etag = self._acquire(holder)
        stop, lost = threading.Event(), threading.Event()
        in_main = threading.current_thread() is threading.main_thread()
        renewal = threading.Thread(
            target=self._renew, args=(holder, etag, stop, lost, in_main), name="lease", daemon=True
        )
        renewal.start()
        try:
            yield
        except KeyboardInterrupt:
            if lost.is_set():
                raise self._taken() from None
            raise
        finally:
            stop.set()
            # not for ever, where the store does not answer: the lease goes by itself then
            renewal.join(_PATIENCE_S)
            if not lost.is_set() and not renewal.is_alive():
                self._release(holder)
        if lost.is_set():
            raise self._taken()

    def _acquire(self, holder: _Holder) -> str:
        content = to_json(holder)
        standing = self._look()
        if standing is not None and standing.age < self._seconds and not _is_dead(standing.holder):
            raise self._busy(standing.holder)
        try:
            etag = self._store.put_instead(_NAME, content, standing.etag if standing else None)
        except (ConflictError, FileNotFoundError):
            now = self._look()
            # an answer that was lost: boto3 asked again, and found its own first attempt
            if now is None or now.holder is None or now.holder.id != holder.id:
                raise self._busy(now.holder if now else None) from None
            return now.etag
        try:
            self._store.put_instead(_NAME, content, None)
        except ConflictError:
            return etag
        raise StorageRefusedError(
            f"{self._store.url('')}: the store takes no notice of conditional writes (If-None-Match), "
            "without which two runs could spoil each other; use another store, or a newer version of it"
        )

    def _look(self) -> _Standing | None:
        try:
            content, listed = self._store.get(_NAME)
        except FileNotFoundError:
            return None
        age = (self._store.clock() - listed.modified).total_seconds()
        try:
            return _Standing(listed.etag, age, from_json(_Holder, content))
        except ValueError:
            return _Standing(listed.etag, age, None)

    def _renew(
        self, holder: _Holder, etag: str, stop: threading.Event, lost: threading.Event, in_main: bool
    ) -> None:
        while not stop.wait(self._seconds / 4):
            holder = dataclasses.replace(holder, renewals=holder.renewals + 1)
            try:
                etag = self._store.put_instead(_NAME, to_json(holder), etag)
            except (ConflictError, FileNotFoundError):
                now = self._quietly_look()
                if now is not None and now.holder is not None and now.holder.id == holder.id:
                    etag = now.etag
                    continue
                lost.set()
                if in_main:
                    # wakes it, whatever it waits for
                    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
                return
            except (StorageError, StorageRefusedError) as error:
                log.warning("%s; trying again", error.message)

    def _quietly_look(self) -> _Standing | None:
        with contextlib.suppress(StorageError, StorageRefusedError):
            return self._look()
        return None

    def _release(self, holder: _Holder) -> None:
        try:
            standing = self._look()
            if standing is not None and standing.holder is not None and standing.holder.id == holder.id:
                self._store.remove([_NAME])
        except (StorageError, StorageRefusedError) as error:
            log.warning("%s; the lock goes by itself in %.0f s", error.message, self._seconds)

    def _busy(self, holder: _Holder | None) -> WorkDirectoryBusyError:
        who = f" ({holder.host}, process {holder.process}, since {holder.since})" if holder else ""
        return WorkDirectoryBusyError(
            f"{self._store.url('')}: another run{who} works here, or ended without a word less than "
            f"{self._seconds:.0f} s ago; wait for it, or give another --work"
        )

    def _taken(self) -> WorkDirectoryBusyError:
        return WorkDirectoryBusyError(
            f"{self._store.url('')}: this run was out of touch for more than {self._seconds:.0f} s and "
            "another one has taken over; it goes on where this one ended"
        )


def _me() -> _Holder:
    return _Holder(
        id=uuid.uuid4().hex,
        host=socket.gethostname(),
        kernel=_kernel(),
        process=os.getpid(),
        process_started=psutil.Process().create_time(),
        since=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )


def _kernel() -> str:
    """This boot and this namespace of processes."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        boot, space = str(psutil.boot_time()), ""
    return hashlib.sha256(f"{boot} {space} {socket.gethostname()}".encode()).hexdigest()[:16]


def _is_dead(holder: _Holder | None) -> bool:
    """True where it is certain; a holder elsewhere may always be alive."""
    if holder is None or holder.kernel != _kernel():
        return False
    try:
        return bool(abs(psutil.Process(holder.process).create_time() - holder.process_started) > 1)
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:
        return False
