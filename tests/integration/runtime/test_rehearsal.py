"""The real plan, graph and scheduler on simulated workers."""

from __future__ import annotations

from collections import Counter

import pytest

from batch.config import Settings, load
from batch.runtime.rehearsal import Measured, large_plan, measured, run
from batch.stages import pipeline


def test_a_large_plan_has_every_stage() -> None:
    plan = large_plan(10, {}, Settings())
    counts = Counter(t.stage for t in plan.tasks)
    assert set(counts) == {s.name for s in pipeline()}
    assert len(plan.associations) == 3
    assert (counts["calibrate"], counts["align"], counts["sweep"]) == (12, 3, 30)
    assert len({t.id for t in plan.tasks}) == len(plan.tasks)


def test_tasks_take_what_was_measured() -> None:
    known = {"calibrate": [Measured(10.0, 10**9), Measured(20.0, 2 * 10**9)]}
    tasks = [t for t in large_plan(200, known, Settings()).tasks if t.stage == "calibrate"]
    found = Counter((t.needs.seconds, t.needs.memory) for t in tasks)
    assert set(found) == {(10.0, 10**9), (20.0, 2 * 10**9)}
    assert min(found.values()) > 60
    assert tasks == [t for t in large_plan(200, known, Settings()).tasks if t.stage == "calibrate"]


def test_what_records_say_is_taken(toys: object, client: object) -> None:
    toys.run(client)  # type: ignore[attr-defined]
    found = measured(toys.work, toys.plan)  # type: ignore[attr-defined]
    assert {stage: len(many) for stage, many in found.items()} == {
        "single": 6,
        "gather": 2,
        "spread": 4,
        "finish": 2,
    }
    assert all(m.seconds > 0 and m.memory > 15e6 for many in found.values() for m in many)


@pytest.mark.slow
def test_a_rehearsal_runs_everything() -> None:
    settings = load(None, ["cluster.workers=6", "sweep.pixfrac=[0.5,1.0]"])
    figures = run(settings, 12, {}, speed=1000, processes=1)
    assert figures.workers == 6
    assert figures.tasks == len(large_plan(12, {}, settings).tasks)
    # a sweep is one request where there are more associations than idle workers
    assert figures.tasks * 0.8 < figures.requests <= figures.tasks
    assert len(figures.memory) == 11
    assert 0 < figures.used < 1
    assert figures.scheduler_cost > 0
