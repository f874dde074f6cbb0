"""The folder of downloads: shared by tasks, runs and users; each file comes once and appears whole.

``<cache>/<rootname>/<stamp>/<name>``: another version of a file has another stamp, so that nothing in there
is ever replaced while somebody reads it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from batch.archive.retry import Patience
from batch.archive.slots import slot
from batch.archive.transfer import Order, bring
from batch.archive.transport import Transport
from batch.archive.verify import damage
from batch.errors import NetworkError, StorageError
from batch.model.names import plain_name

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cache:
    """A folder of downloads."""

    root: Path
    connections: int
    """Downloads at a time from this machine."""
    patience: Patience

    def place(self, name: str, stamp: str) -> Path:
        """Where a file lies, or will."""
        stem = plain_name(name, name).partition("_")[0]
        return self.root / stem / plain_name(stamp, "stamp") / name

    def obtain(self, transport: Transport, order: Order, stamp: str) -> Path:
        """The file, downloaded if it is not here yet; read-only.

        Parameters
        ----------
        transport : Transport
        order : Order
        stamp : str
            The version that is wanted.

        Raises
        ------
        NotThereError, RestrictedError, InputError, NetworkError
            As `batch.archive.transfer.bring`.
        StorageError
            If the cache cannot be written.
        """
        target = self.place(order.name, stamp)
        try:
            if _sound(target, order.size):
                return target
            target.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(target.with_name(f".{order.name}.lock"), timeout=self.patience.deadline)
            # whoever waited here finds the file that another process has brought
            with lock:
                if not _sound(target, order.size):
                    # slots are waited for inside the lock: at most one process per file does
                    with slot(self.root / ".slots", self.connections, self.patience.deadline):
                        bring(transport, order, target, self.patience)
        except Timeout:
            raise NetworkError(
                f"{target}: another process has been downloading it for {self.patience.deadline:.0f} s; "
                "run again to go on"
            ) from None
        except OSError as error:
            raise StorageError(
                f"{error.filename or target}: {error.strerror or error}; free some space, make it writable, "
                "or give another folder with --set fetch.cache=FOLDER"
            ) from error
        return target


def _sound(path: Path, size: int | None) -> bool:
    """Whether a file is here and whole; one that has been damaged since is removed."""
    if not path.is_file():
        return False
    wrong = damage(path, size)
    if wrong:
        log.warning("%s: %s; downloading it again", path, wrong)
        path.unlink(missing_ok=True)
    return not wrong


def link(path: Path, target: Path) -> None:
    """Give a cached file a second name, without another copy of its bytes where the file system allows."""
    with contextlib.suppress(OSError):
        os.link(path, target)
        return
    shutil.copyfile(path, target)
