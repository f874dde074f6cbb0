"""Stragglers are told of once, by what others of their stage took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from batch.model.plan import Needs, Task
from batch.model.record import Record, Status, Usage
from batch.runtime import events, watching
from batch.storage.workdir import WorkDirectory


def task(name: str) -> Task:
    return Task("wcs", name, None, None, (), "f", Needs(memory=1, seconds=1000.0, timeout=9999))


def ended(name: str, wall: float) -> Record:
    return Record("wcs", name, "f", Status.DONE, usage=Usage(wall=wall))


@pytest.fixture
def log(tmp_path: Path) -> Iterator[events.EventLog]:
    work = WorkDirectory(tmp_path)
    work.create()
    made = events.EventLog(work, "r1")
    yield made
    made.close()


def found(log: events.EventLog, tmp_path: Path) -> list[Any]:
    return [e for e in events.read(WorkDirectory(tmp_path), log.run) if e["event"] == "task-straggling"]


def test_a_straggler_is_told_of_once(
    log: events.EventLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client: Any = None  # what is heard is handed in below
    watch = watching.Watch(client, "r1", log, lambda key: ())
    begun = time.monotonic()
    message = {"run": "r1", "tasks": ["wcs/slow"], "worker": "tcp://a", "host": "h", "memory": 5}
    watch._on_start((0.0, message))
    watch._on_start((0.0, {**message, "run": "another", "tasks": ["wcs/theirs"]}))
    for number in range(5):
        watch.ended(ended(f"quick{number}", 10.0), 1)
    # 10 s are usual: 3 x 10 and a minute are not exceeded, then they are
    for after, expected in ((80, 0), (100, 1), (200, 1)):
        monkeypatch.setattr(time, "monotonic", lambda after=after: begun + after)
        watch.look([task("slow"), task("theirs"), task("waiting")])
        assert len(found(log, tmp_path)) == expected
    (event,) = found(log, tmp_path)
    assert (event["tasks"], event["worker"], event["expected"]) == (["wcs/slow"], "tcp://a", 10.0)
    assert "wcs/slow takes 100 s so far on tcp://a, others 10 s" in caplog.text
    assert watch.memory_of_worker("wcs/slow") == 5
    assert watch.memory_of_worker("wcs/theirs") == 0


def test_tasks_that_share_a_process_may_take_as_long_as_all_of_them(
    log: events.EventLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record has its task's share of the process."""
    client: Any = None
    watch = watching.Watch(client, "r1", log, lambda key: ())
    begun = time.monotonic()
    names = [f"wcs/part{number}" for number in range(10)]
    watch._on_start((0.0, {"run": "r1", "tasks": names, "worker": "w", "host": "h", "memory": 5}))
    for number in range(5):
        watch.ended(ended(f"quick{number}", 10.0), 1)
    for after, expected in ((350, 0), (370, 10)):
        monkeypatch.setattr(time, "monotonic", lambda after=after: begun + after)
        watch.look([task(f"part{number}") for number in range(10)])
        assert len(found(log, tmp_path)) == expected


def test_a_task_that_another_followed_on_its_worker_is_over(
    log: events.EventLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its record comes with the last one of the request: it neither straggles nor is handed back."""
    client: Any = None
    watch = watching.Watch(client, "r1", log, lambda key: ("wcs/first", "wcs/second", "wcs/third"))
    begun = time.monotonic()
    for name in ("wcs/first", "wcs/second"):
        watch._on_start((0.0, {"run": "r1", "tasks": [name], "worker": "w", "host": "h", "memory": 5}))
    monkeypatch.setattr(time, "monotonic", lambda: begun + 9999)
    watch.look([task("first"), task("second"), task("third")])
    assert [e["tasks"] for e in found(log, tmp_path)] == [["wcs/second"]]
    left = {"action": "remove-worker", "worker": "w", "expected": True, "processing-tasks": {"key": 1}}
    watch._on_change((0.0, left))
    told = {e["event"]: e["tasks"] for e in events.read(WorkDirectory(tmp_path), log.run)}
    assert told["worker-lost"] == ["wcs/first", "wcs/second", "wcs/third"]
    assert told["task-preempted"] == ["wcs/second"]
    assert watch.memory_of_worker("wcs/first") == 5


def test_until_others_have_ended_the_plan_says_what_is_usual(
    log: events.EventLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client: Any = None
    watch = watching.Watch(client, "r1", log, lambda key: ())
    begun = time.monotonic()
    watch._on_start((0.0, {"run": "r1", "tasks": ["wcs/slow"], "worker": "w", "host": "h", "memory": 5}))
    for after, expected in ((3000, 0), (3100, 1)):
        monkeypatch.setattr(time, "monotonic", lambda after=after: begun + after)
        watch.look([task("slow")])
        assert len(found(log, tmp_path)) == expected
