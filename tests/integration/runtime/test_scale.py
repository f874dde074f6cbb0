"""What must not grow with the number of associations; operations are counted, never timed."""

from __future__ import annotations

import urllib.request
from dataclasses import replace
from typing import Any

import pytest
from toyplan import toy_plan

from batch.errors import InsufficientMemoryError
from batch.model.plan import Plan
from batch.model.record import Record, Status
from batch.runtime import graph
from batch.runtime.capacity import Capacity
from batch.runtime.execution import equip
from batch.runtime.graph import Runner
from batch.runtime.outcomes import Outcomes
from batch.runtime.rehearsal import pretend  # importable where scheduler and workers run


def run(toys: Any, client: Any, associations: int, window: int) -> tuple[Outcomes, list[int], list[int]]:
    """Outcomes, futures held at each task's end, and sizes of the graphs that were sent."""
    import functools

    held: list[int] = []
    sent: list[int] = []
    real = client.get

    def get(graph: Any, keys: Any, **options: Any) -> Any:
        sent.append(len(list(keys)))
        return real(graph, keys, **options)

    client.get = get
    try:
        runner = Runner(
            client,
            toys.work,
            _of_long_tasks(toy_plan(associations)),
            attempts=1,
            window=window,
            capacity=lambda: Capacity({10**9: 2}),
            observe=lambda task, record: held.append(runner.in_flight),
            perform=functools.partial(pretend, speed=1e6),
        )
        return runner.run(), held, sent
    finally:
        client.get = real


def _of_long_tasks(plan: Plan) -> Plan:
    """Those are not put together."""
    long = [replace(t, needs=replace(t.needs, seconds=61.0)) for t in plan.tasks]
    return replace(plan, tasks=tuple(long))


def test_futures_and_records_are_bounded_by_the_window(toys: Any, client: Any) -> None:
    associations, window = 40, 4
    outcomes, held, sent = run(toys, client, associations, window)
    assert outcomes.counts() == {"done": 7 * associations, "skipped": 0, "failed": 0, "blocked": 0}
    # 3 singles, gather, a company of two spreads, finish
    assert sum(sent) == 6 * associations
    assert max(held) < 6 * window
    # the first submission fills the window, later ones what came free: never one message a task
    assert sent[0] == 6 * window
    assert len(sent) <= associations - window + 1
    # statuses stay, records do not
    assert not outcomes.bad
    assert len(outcomes) == 7 * associations
    assert not [v for v in vars(outcomes).values() if isinstance(v, dict) and any_record(v)]


def test_a_wide_window_is_filled_by_several_messages(
    toys: Any, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph, "_AT_ONCE", 4)
    outcomes, _, sent = run(toys, client, associations=10, window=10)
    assert outcomes.counts()["done"] == 70
    assert sent == [24, 24, 12]


def any_record(found: dict[Any, Any]) -> bool:
    return any(isinstance(v, Record) for v in found.values())


def test_the_scheduler_forgets_what_has_ended(toys: Any, client: Any) -> None:
    run(toys, client, 10, 4)

    def left(dask_scheduler: Any) -> int:
        return len(dask_scheduler.tasks)

    import time

    deadline = time.monotonic() + 10
    while client.run_on_scheduler(left) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert client.run_on_scheduler(left) == 0


def test_finished_associations_are_not_looked_at_again(toys: Any, client: Any) -> None:
    """A run that goes on reads each record once, and submits nothing for what is done."""
    toys.run(client)
    reads: list[str] = []

    class Counting(type(toys.work)):  # type: ignore[misc]
        def record(self, task_id: str) -> Record | None:
            reads.append(task_id)
            return super().record(task_id)

    work = Counting(toys.work.root)
    outcomes = Outcomes(work)
    outcomes.survey(toys.plan.tasks)
    runner = Runner(
        client,
        work,
        toys.plan,
        attempts=1,
        window=8,
        capacity=lambda: Capacity({10**9: 2}),
        outcomes=outcomes,
    )
    assert runner.run() is outcomes
    assert sorted(reads) == sorted(t.id for t in toys.plan.tasks)
    assert runner.submitted == 0
    assert outcomes["finish/asn0"].results == {"total": 15}
    assert outcomes.status["finish/asn0"] is Status.DONE


def test_a_cluster_on_this_machine_has_the_metrics(toys: Any, client: Any) -> None:
    from batch.config.cluster import ClusterSettings

    equip(client, ClusterSettings())
    toys.order("gather/asn1", "input-error")
    toys.run(client)
    host, _, port = client.dashboard_link.rpartition("/")[0].rpartition(":")
    with urllib.request.urlopen(f"{host}:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    assert 'acs_batch_tasks_total{stage="gather",status="failed"} 1.0' in text
    assert 'acs_batch_tasks_total{stage="spread",status="done"} 2.0' in text
    assert 'acs_batch_tasks_total{stage="spread",status="blocked"} 2.0' in text
    assert 'acs_batch_task_seconds_bucket{le="60",stage="single"} 6.0' in text
    assert 'acs_batch_queue{stage="single",state="processing"} 0.0' in text
    # Dask's own stand beside them, by stage as well: the keys' first part
    assert "dask_scheduler_workers" in text
    assert 'task_prefix_name="gather"' in text


def test_a_run_whose_large_workers_have_gone_is_refused(
    toys: Any, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dask would wait for ever; the message has the numbers."""
    monkeypatch.setattr(graph, "_CAPACITY_S", 0.0)
    order = toys.order("gather/asn0", "hold")
    sizes = iter([10**9])
    runner = Runner(
        client,
        toys.work,
        toys.plan,
        attempts=1,
        window=8,
        capacity=lambda: Capacity({next(sizes, 10**8): 2}),
        patience=3.0,
        stages="toystages",
    )
    with pytest.raises(InsufficientMemoryError, match=r"needs 0.20 GB: the largest of 2 offers 0.10 GB"):
        runner.run()
    runner.abandon()
    assert runner.in_flight == 0
    order.unlink()
