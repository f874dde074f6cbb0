"""How many workers one scheduler keeps up with."""

from __future__ import annotations

import dataclasses

from batch.config import Settings
from batch.config.cluster import ClusterSettings, WorkerClass
from batch.model.plan import Plan
from batch.runtime import limits
from batch.runtime.rehearsal import large_plan


def of_seconds(seconds: float) -> Plan:
    plan = large_plan(400, {}, Settings())
    tasks = [dataclasses.replace(t, needs=dataclasses.replace(t.needs, seconds=seconds)) for t in plan.tasks]
    return dataclasses.replace(plan, tasks=tuple(tasks))


def test_long_tasks_go_one_by_one() -> None:
    """Each of 21 tasks and the sweep of ten is a request: 31 tasks of 100 s in 22 requests."""
    expected = 31 * 100 / 22 * (1 - limits.HEARTBEATS) / limits.REQUEST_S
    assert abs(limits.most_workers(of_seconds(100.0)) - expected) < 1


def test_short_tasks_go_together() -> None:
    """31 s in one request, not 1 s in each."""
    expected = 31 * (1 - limits.HEARTBEATS) / limits.REQUEST_S
    assert abs(limits.most_workers(of_seconds(1.0)) - expected) < 1


def test_more_workers_than_that_are_told_how_to_go_on() -> None:
    plan = of_seconds(1.0)
    most = limits.most_workers(plan)
    assert limits.advice(plan, most) == ""
    line = limits.advice(plan, 2 * most + 1)
    assert line.startswith(f"{2 * most + 1} workers are more than one scheduler keeps up with, about {most} ")
    assert "Make 3 runs of it" in line


def test_what_the_settings_ask_for() -> None:
    assert limits.asked(ClusterSettings()) == 0
    assert limits.asked(ClusterSettings(workers=7)) == 7
    classes = (WorkerClass(memory=1, workers=1, minimum=1, maximum=500), WorkerClass(memory=2, workers=40))
    assert limits.asked(ClusterSettings(classes=classes)) == 540
