"""End a run in order: by a mark in the work directory, so that it works wherever driver and workers are."""

from __future__ import annotations

import contextlib
import datetime
import logging
import time
from typing import TYPE_CHECKING

from batch.errors import StorageError, WorkDirectoryBusyError
from batch.storage.work import Location, Work, open_work

if TYPE_CHECKING:
    from distributed import Client

log = logging.getLogger(__name__)

MARK = "cancel"
"""A file of this name asks the run to end; workers know by it that a child was killed on purpose."""

_POLL_S = 0.5


def cancel(work: Work, timeout: float) -> bool:
    """Ask the run in a work directory to end, and wait until it has.

    Parameters
    ----------
    work : Work
        Where it works.
    timeout : float
        s

    Returns
    -------
    bool
        False if no run was going on.

    Raises
    ------
    WorkDirectoryBusyError
        If it has not ended in that time; it is asked still.
    """
    if _free(work):
        return False
    asked = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    work.write(MARK, f"{asked}\n".encode())
    deadline = time.monotonic() + timeout
    while not _free(work):
        if time.monotonic() > deadline:
            raise WorkDirectoryBusyError(
                f"{work.location.address}: the run was asked to end {timeout:.0f} s ago and has not yet; "
                "its driver may be waiting for a cluster, end it with Ctrl-C or SIGTERM"
            )
        time.sleep(_POLL_S)
    return True


def _free(work: Work) -> bool:
    try:
        with work.writer():
            return True
    except WorkDirectoryBusyError:
        return False


def asked(work: Work) -> bool:
    """Whether the run is to end."""
    try:
        work.read(MARK)
    except FileNotFoundError:
        return False
    except StorageError as error:
        # a store that is away for a while ends no run; it is asked again soon
        log.warning("%s", error.message)
        return False
    return True


def end_tasks(client: Client, work: Work) -> int:
    """Kill the processes of all tasks of this work directory on the client's workers; how many there were.

    A worker of somebody else's cluster would finish its task otherwise, for nobody.
    """
    work.write(MARK, b"the driver ends its tasks\n")
    try:
        # what a worker had in hand may start its process just now
        ended = 0
        while count := sum(client.run(_end, work.location, on_error="ignore").values()):
            ended += count
            time.sleep(_POLL_S)
        return ended
    except Exception as error:
        # the cluster may be on its way out itself; children go with their workers
        log.warning("workers could not be asked to end their tasks: %s", error)
        return 0


def clear(work: Work) -> None:
    """Forget that the run was to end."""
    with contextlib.suppress(FileNotFoundError):
        work.remove(MARK)


def _end(location: Location) -> int:
    """Runs on a worker."""
    from batch.isolation.ending import end_children

    return end_children(open_work(location).local.absolute() / "scratch")
