"""How a run goes, from its event log."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from typing import Any

from batch.runtime.events import read
from batch.storage.work import RUN, Work

# the rate is that of the last so many seconds: stages differ too much for the whole run's
_RECENT_S = 900.0


def of_last_run(work: Work) -> str:
    """One line on the last run in a work directory; empty where it left no event log."""
    try:
        run = json.loads(work.read(RUN))["run"]
        return describe(read(work, run), datetime.datetime.now(datetime.UTC))
    except (FileNotFoundError, ValueError, KeyError):
        return ""


def describe(events: Sequence[Mapping[str, Any]], now: datetime.datetime) -> str:
    """One line on the run that wrote these events; empty if there are none.

    Parameters
    ----------
    events : sequence of mapping
        As `batch.runtime.events.read` gives them.
    now : datetime
        With its time zone.
    """
    if not events:
        return ""
    first, last = events[0], events[-1]
    run = f"run {first['run']}"
    if last["event"] == "run-ended":
        return f"{run}: {last['result']} after {_span(last['seconds'])}"
    total = sum(e["tasks"] - e["done"] for e in events if e["event"] == "planned")
    ended = [_time(e) for e in events if e["event"] in ("task-finished", "task-failed")]
    begun = _time(first)
    since = max(begun, now - datetime.timedelta(seconds=_RECENT_S))
    recent = sum(t >= since for t in ended)
    text = f"{run}: {len(ended)} of {total} tasks came to an end in {_span((now - begun).total_seconds())}"
    if recent and total > len(ended):
        rate = recent / max(1.0, (now - since).total_seconds())
        text += f", {60 * rate:.1f} a minute, about {_span((total - len(ended)) / rate)} to go"
    return f"{text} (last sign of life {last['time'][:19]} UTC)"


def _time(event: Mapping[str, Any]) -> datetime.datetime:
    return datetime.datetime.fromisoformat(event["time"])


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
