"""Give disk space back: scratch folders always, more where the user asks."""

from __future__ import annotations

from batch.model.plan import Plan
from batch.storage import ledger
from batch.storage.ledger import State
from batch.storage.work import Work


def clean(
    work: Work,
    plan: Plan,
    *,
    failures: bool = False,
    stale: bool = False,
) -> int:
    """Remove what is not needed.

    Parameters
    ----------
    work : Work
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
        freed = work.sweep()
        if failures:
            freed += work.discard_failures()
        if stale:
            entries = ledger.entries(work, plan.tasks).values()
            freed += work.discard([e.task.id for e in entries if e.state is State.STALE])
        return freed
