"""What happened in a run, in order: one JSON object a line, in ``<work>/events/<run>.jsonl``.

Every line has ``time`` (ISO 8601, UTC, ms), ``run`` and ``event``; ``task`` and ``tasks`` are ids as in
`Task.id`, memory is in bytes, durations are in seconds. What else it has goes by its event:

=====================  ===========================================================================
run-started            version, work, until, process, host
planned                associations, tasks, done (tasks finished by earlier runs), stages {stage: tasks}
connected              workers, classes {memory of a worker: how many}, scheduler, dashboard
task-started           tasks (several share a process), worker, host
task-finished          task, status (done, skipped, blocked), wall, cpu, peak_memory, host
task-failed            task, kind, message, attempt, out_of_memory, wall, peak_memory, host
task-retried           task, attempt, memory, after (what failed)
task-preempted         tasks, worker: its worker was told to go; done anew elsewhere, not counted as a try
task-straggling        tasks, worker, seconds (so far), expected
worker-joined          worker
worker-lost            worker, expected (False: it died), tasks (that it had in hand)
scheduler-lost         message
cancelled              by (``cancel``, ``signal``)
run-ended              result (complete, with failures, cancelled, broken), seconds, counts {status: tasks}
=====================  ===========================================================================

Settings, environment and headers are not written: they may hold tokens.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from typing import Any, TextIO

from batch.errors import RunCancelledError, StorageError
from batch.model.record import Status
from batch.storage.work import Work

log = logging.getLogger(__name__)

FOLDER = "events"
TOPIC_STARTED = "acs-batch-started"
TOPIC_FINISHED = "acs-batch-finished"
"""Topics of Dask's event stream by which workers tell driver and scheduler what they do."""

# an object store takes whole files only
_UPLOAD_S = 60.0


def new_run() -> str:
    """An id for a run, in order of time: ``20260101T120000-1a2b3c``."""
    return f"{datetime.datetime.now(datetime.UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}"


class EventLog:
    """Appends events to the log of one run; from any thread.

    A log that cannot be written stops no run: it says so once.

    Parameters
    ----------
    work : Work
        Held by the caller.
    run : str
        As `new_run` gives it.
    """

    def __init__(self, work: Work, run: str) -> None:
        self.run = run
        self.counts: dict[str, int] = {}
        """How many tasks ended in each status, once the run has."""
        self._work = work
        self._name = f"{FOLDER}/{run}.jsonl"
        self._path = work.local / FOLDER / f"{run}.jsonl"
        self._in_place = str(self._path) == work.url(self._name)
        self._lock = threading.Lock()
        self._uploaded = time.monotonic()
        self._stream: TextIO | None = None
        with self._harmless():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = self._path.open("a", encoding="utf-8")

    def emit(self, event: str, **content: Any) -> None:
        """Append one event."""
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"time": now, "run": self.run, "event": event, **content})
        with self._lock, self._harmless():
            if self._stream is None:
                return
            self._stream.write(line + "\n")
            self._stream.flush()
            if not self._in_place and time.monotonic() - self._uploaded > _UPLOAD_S:
                self._upload()

    @property
    def complete(self) -> bool:
        """Whether no task was left undone."""
        return not any(self.counts.get(s.value) for s in Status if not s.ok)

    def close(self) -> None:
        """The last event was emitted."""
        with self._lock, self._harmless():
            if self._stream is None:
                return
            self._stream.close()
            self._stream = None
            if not self._in_place:
                self._upload()
                self._path.unlink()

    def _upload(self) -> None:
        self._uploaded = time.monotonic()
        self._work.write(self._name, self._path.read_bytes())

    @contextlib.contextmanager
    def _harmless(self) -> Iterator[None]:
        try:
            yield
        except (OSError, StorageError) as error:
            log.warning("%s cannot be written (%s); the run goes on without", self._name, error)
            self._stream = None


class Silence:
    """Takes events and keeps none."""

    run = ""

    def emit(self, event: str, **content: Any) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


@contextlib.contextmanager
def journal(work: Work, version: str, until: str | None) -> Iterator[EventLog]:
    """The event log of a run, from its beginning to its end, however that comes."""
    events = EventLog(work, new_run())
    started = time.monotonic()
    events.emit(
        "run-started",
        version=version,
        work=work.location.address,
        until=until,
        process=os.getpid(),
        host=socket.gethostname(),
    )
    result = "broken"
    try:
        yield events
        result = "complete" if events.complete else "with failures"
    except (KeyboardInterrupt, RunCancelledError) as reason:
        result = "cancelled"
        events.emit("cancelled", by="cancel" if isinstance(reason, RunCancelledError) else "signal")
        raise
    finally:
        seconds = round(time.monotonic() - started, 3)
        events.emit("run-ended", result=result, seconds=seconds, counts=events.counts)
        events.close()


def read(work: Work, run: str) -> list[Mapping[str, Any]]:
    """The events of a run; a last line that is cut short (the driver was killed) is left out."""
    found: list[Mapping[str, Any]] = []
    for line in work.read(f"{FOLDER}/{run}.jsonl").decode("utf-8").splitlines():
        with contextlib.suppress(ValueError):
            found.append(json.loads(line))
    return found
