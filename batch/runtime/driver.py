"""One run from beginning to end: plan, cluster, graph, index page."""

from __future__ import annotations

import contextlib
import datetime
import logging
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from batch.config import Settings
from batch.model.plan import Plan, Task
from batch.model.record import Record, Status
from batch.runtime.planning import make_plan
from batch.runtime.worker import versions
from batch.storage import ledger
from batch.storage.files import from_json, to_json
from batch.storage.work import INDEX, PLAN, RUN, Location, Work, open_work

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Result:
    """How a run ended."""

    plan: Plan
    records: Mapping[str, Record]
    """By task id."""
    index: str
    """The page to open first: a path, or an ``s3://`` address."""

    @property
    def failed(self) -> list[Record]:
        """Records of the tasks that failed, not of those that they blocked."""
        return [r for r in self.records.values() if r.status is Status.FAILED]

    @property
    def complete(self) -> bool:
        """True if every task is done or skipped."""
        return all(t.id in self.records and self.records[t.id].status.ok for t in self.plan.tasks)


@dataclass(frozen=True)
class Listeners:
    """Who wants to know how a run goes."""

    planned: Callable[[Plan], None] = lambda plan: None
    connected: Callable[[str], None] = lambda dashboard: None
    finished: Callable[[Task, Record], None] = lambda task, record: None


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
    from batch.runtime.cluster import capacity, connect
    from batch.runtime.graph import Runner

    listeners = listeners or Listeners()
    directory = open_work(work)
    with directory.writer(), _termination_as_interrupt():
        plan = make_plan(settings, directory.local, wanted, until=until)
        directory.write(PLAN, to_json(plan))
        directory.write(RUN, to_json(_run(plan)))
        listeners.planned(plan)
        records = ledger.valid_records(directory, plan.tasks)
        todo = [t for t in plan.tasks if t.id not in records]
        if todo:
            with connect(settings.cluster, todo, directory) as client:
                listeners.connected(client.dashboard_link)
                workers, largest = capacity(client)
                records = Runner(
                    client,
                    directory,
                    plan,
                    attempts=settings.cluster.attempts,
                    window=settings.cluster.window,
                    largest=largest,
                    workers=workers,
                    observe=listeners.finished,
                ).run()
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


def _run(plan: Plan) -> dict[str, object]:
    return {
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "associations": [a.name for a in plan.associations],
        "settings": dict(plan.settings),
        "process": os.getpid(),
    }


@contextlib.contextmanager
def _termination_as_interrupt() -> Iterator[None]:
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
