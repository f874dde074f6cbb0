"""One line on how a run goes."""

from __future__ import annotations

import datetime
from typing import Any

from batch.runtime.progress import describe

NOW = datetime.datetime(2026, 1, 1, 12, 0, tzinfo=datetime.UTC)


def event(name: str, minutes_ago: float, **content: Any) -> dict[str, Any]:
    time = NOW - datetime.timedelta(minutes=minutes_ago)
    return {"event": name, "run": "r1", "time": time.isoformat(timespec="milliseconds"), **content}


def test_the_rate_is_that_of_late() -> None:
    slow = [event("task-finished", 60 - i) for i in range(10)]
    quick = [event("task-finished", i / 2) for i in range(20, 0, -1)]
    found = [event("run-started", 70), event("planned", 70, tasks=100, done=40), *slow, *quick]
    # 20 in the last 15 minutes, 30 left
    assert describe(found, NOW) == (
        "run r1: 30 of 60 tasks came to an end in 70 min, 1.3 a minute, about 22 min to go "
        "(last sign of life 2026-01-01T11:59:30 UTC)"
    )


def test_without_any_there_is_no_rate() -> None:
    found = [event("run-started", 1), event("planned", 1, tasks=5, done=0)]
    assert describe(found, NOW).startswith("run r1: 0 of 5 tasks came to an end in 60 s (last")


def test_a_run_that_has_ended_says_how() -> None:
    found = [event("run-started", 200), event("run-ended", 1, result="with failures", seconds=11_000.0)]
    assert describe(found, NOW) == "run r1: with failures after 3.1 h"


def test_no_events_no_line() -> None:
    assert describe([], NOW) == ""
