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
from batch.storage.workdir import WorkDirectory, read_json, storage_errors, write_json

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Result:
    """How a run ended."""

    plan: Plan
    records: Mapping[str, Record]
    """By task id."""
    index: Path
    """The page to open first."""

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
    work: Path | str,
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
    work : Path or str
        The work directory; made if it is not there.
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
    directory = WorkDirectory(Path(work).absolute())
    with directory.writer(), _termination_as_interrupt():
        plan = make_plan(settings, directory.root, wanted, until=until)
        with storage_errors(directory.root):
            write_json(directory.root / "plan.json", plan)
            write_json(directory.root / "run.json", _run(plan))
        listeners.planned(plan)
        todo = [t for t in plan.tasks if ledger.valid_record(directory, t) is None]
        if todo:
            with connect(settings.cluster, todo, directory.root) as client:
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
        else:
            records = {t.id: r for t in plan.tasks if (r := ledger.valid_record(directory, t))}
        return Result(plan, records, write_index(directory, plan))


def load_plan(work: WorkDirectory) -> Plan:
    """The plan of the last run in a work directory.

    Raises
    ------
    UsageError
        If there was none.
    """
    from batch.errors import UsageError

    try:
        return read_json(Plan, work.root / "plan.json")
    except FileNotFoundError:
        raise UsageError(
            f"{work.root}: no run has been made here; give the folder of a run with --work"
        ) from None
    except ValueError as error:
        raise UsageError(f"{work.root / 'plan.json'}: {error}; run again to write it anew") from None


def write_index(work: WorkDirectory, plan: Plan) -> Path:
    """Write the page of the whole run from what lies in the work directory."""
    from batch.reporting.html import index

    entries = ledger.entries(work, plan.tasks)
    return index(plan, entries, work)


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
