"""One run from beginning to end: plan, cluster, graph, index page."""

from __future__ import annotations

import contextlib
import datetime
import logging
import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from batch.config import Settings
from batch.model.plan import Plan
from batch.model.record import Record, Status
from batch.runtime import cancelling, events, kubernetes
from batch.runtime.execution import Listeners as Listeners
from batch.runtime.execution import carry_out
from batch.runtime.outcomes import Outcomes
from batch.runtime.planning import make_plan
from batch.runtime.worker import versions
from batch.storage import ledger
from batch.storage.files import from_json, to_json
from batch.storage.work import INDEX, PLAN, RUN, Location, Work, locate, open_work

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Result:
    """How a run ended."""

    plan: Plan
    records: Outcomes
    """By task id."""
    index: str
    """The page to open first: a path, or an ``s3://`` address."""

    @property
    def failed(self) -> list[Record]:
        """Records of the tasks that failed, not of those that they blocked."""
        return [r for r in self.records.bad.values() if r.status is Status.FAILED]

    @property
    def complete(self) -> bool:
        """True if every task is done or skipped."""
        return all(self.records.done(t.id) for t in self.plan.tasks)


def reduce(
    settings: Settings,
    work: Location | Path | str,
    wanted: Sequence[str] = (),
    *,
    until: str | None = None,
    listeners: Listeners | None = None,
) -> Result:
    """Reduce a folder of raw exposures to chosen mosaics, going on from whatever is done already.

    Parameters
    ----------
    settings : Settings
        With `fetch.source`; see `batch.config.load`.
    work : Location, Path or str
        The work directory, a folder or ``s3://bucket/prefix``; made if it is not there.
    wanted : sequence of str
        Associations or exposures; empty takes everything in the folder.
    until : str, optional
        The last stage to run.
    listeners : Listeners, optional
        Called as the run goes.

    Returns
    -------
    Result
        Failures of single tasks are in there, as values.

    Raises
    ------
    BatchError
        For what makes the run pointless or impossible, before any task starts.
    """
    listeners = listeners or Listeners()
    directory = open_work(work if isinstance(work, Location) else locate(work, settings.cluster))
    with directory.writer(), termination_as_interrupt(), kubernetes.ending(settings.cluster):
        cancelling.clear(directory)
        plan = make_plan(settings, wanted, until=until, fetch=True)
        directory.write(PLAN, to_json(plan))
        with events.journal(directory, versions()["acs-batch"], until) as journal:
            directory.write(RUN, to_json(_run(plan, journal.run)))
            listeners.planned(plan)
            records = carry_out(settings.cluster, directory, plan, listeners, journal)
        return Result(plan, records, write_index(directory, plan))


def load_plan(work: Work) -> Plan:
    """The plan of the last run in a work directory.

    Raises
    ------
    UsageError
        If there was none.
    """
    from batch.errors import UsageError

    try:
        return from_json(Plan, work.read(PLAN))
    except FileNotFoundError:
        raise UsageError(
            f"{work.location.address}: no run has been made here; give the folder of a run with --work"
        ) from None
    except ValueError as error:
        raise UsageError(f"{work.url(PLAN)}: {error}; run again to write it anew") from None


def write_index(work: Work, plan: Plan) -> str:
    """Write the page of the whole run from what lies in the work directory; returns where it is."""
    from batch.reporting.html import index

    entries = ledger.entries(work, plan.tasks)
    work.write(INDEX, index(plan, entries).encode())
    return work.url(INDEX)


def _run(plan: Plan, run: str) -> dict[str, object]:
    return {
        "run": run,
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "associations": [a.name for a in plan.associations],
        "settings": dict(plan.settings),
        "process": os.getpid(),
    }


@contextlib.contextmanager
def termination_as_interrupt() -> Iterator[None]:
    """SIGTERM ends a run as Ctrl-C does: the cluster is closed in order, its children with it."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:
        # not in the main thread: whoever owns that one decides
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
