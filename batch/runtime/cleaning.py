"""Give disk space back: scratch folders always, more where the user asks."""

from __future__ import annotations

import shutil
from pathlib import Path

from batch.model.plan import Plan
from batch.storage import ledger
from batch.storage.ledger import State
from batch.storage.workdir import WorkDirectory


def clean(
    work: WorkDirectory,
    plan: Plan,
    *,
    failures: bool = False,
    stale: bool = False,
    intermediate: bool = False,
) -> int:
    """Remove what is not needed.

    Parameters
    ----------
    work : WorkDirectory
        Must not be in use by a run.
    plan : Plan
        The last run's.
    failures : bool
        Remove the logs and records of failed attempts too.
    stale : bool
        Remove products that a run would make anew too.

    Returns
    -------
    int
        Bytes given back.

    Raises
    ------
    WorkDirectoryBusyError
        If a run is going on.
    """
    with work.writer():
        before = _size(work.root)
        work.sweep_scratch()
        if failures:
            shutil.rmtree(work.failures, ignore_errors=True)
        if stale:
            for entry in ledger.entries(work, plan.tasks).values():
                if entry.state is State.STALE:
                    shutil.rmtree(work.folder(entry.task.id))
        work.create()
        return before - _size(work.root)


def _size(folder: Path) -> int:
    return sum(p.lstat().st_size for p in folder.rglob("*") if p.is_file())
