"""Workers of two sizes, as programs of their own; toy tasks ask for 200 MB."""

from __future__ import annotations

import time
from typing import Any

import pytest
from programs import events, task_process, until

pytestmark = pytest.mark.slow


def workers(programs: Any, *memory: float) -> None:
    programs.scheduler()
    for size in memory:
        programs.worker(size)
    programs.await_workers(len(memory))


def run(toys: Any, programs: Any, shape: tuple[Any, ...]) -> list[dict[str, Any]]:
    driver = programs.driver(toys.work.root, shape, scheduler=programs.address)
    assert driver.wait(90) == 0, programs.log(driver)
    return events(toys.work.root)


def test_small_tasks_leave_the_large_worker_free(toys: Any, programs: Any) -> None:
    """One after the other they all go to the small one."""
    workers(programs, 1e9, 3e8)
    found = run(toys, programs, (1, 1, [0.5]))
    started = [e for e in found if e["event"] == "task-started"]
    assert [e["tasks"][0].partition("/")[0] for e in started] == ["single", "gather", "spread", "finish"]
    (used,) = {e["worker"] for e in started}
    joined = next(e for e in found if e["event"] == "connected")
    assert joined["classes"] == {"300000000": 1, "1000000000": 1}
    assert used == worker_of(programs, 3e8)


def worker_of(programs: Any, memory: float) -> str:
    """Address of the worker that offers so much."""
    from distributed import Client

    with Client(programs.address, timeout=60, set_as_default=False) as client:
        found = client.scheduler_info(n_workers=-1)["workers"]
    (address,) = [a for a, w in found.items() if w["resources"]["memory"] == memory]
    return str(address)


def test_a_task_killed_for_memory_goes_to_a_larger_worker(toys: Any, programs: Any) -> None:
    """Twice 200 MB is nothing new to a worker of 500 MB: the next size up is asked for."""
    toys.order("gather/asn0", "killed 1")
    workers(programs, 5e8, 2e9)
    found = run(toys, programs, (1, 1, [0.5]))
    (retried,) = [e for e in found if e["event"] == "task-retried"]
    first, second = [e for e in found if e["event"] == "task-started" and e["tasks"] == ["gather/asn0"]]
    assert retried["task"] == "gather/asn0"
    assert retried["memory"] == 2e9
    assert first["worker"] == worker_of(programs, 5e8)
    assert second["worker"] == worker_of(programs, 2e9)
    assert found[-1]["result"] == "complete"


def test_a_task_that_no_worker_is_large_enough_for_is_refused(toys: Any, programs: Any) -> None:
    workers(programs, 1.5e8)
    driver = programs.driver(toys.work.root, scheduler=programs.address)
    assert driver.wait(90) == 2
    message = programs.log(driver)
    assert "needs 0.20 GB, the largest worker offers 0.15 GB" in message
    assert not toys.executed()


def test_a_larger_worker_that_joins_later_is_seen(toys: Any, programs: Any) -> None:
    """Killed on the only size that there is; a larger one comes while the task is held."""
    order = toys.order("gather/asn0", "hold")
    workers(programs, 5e8)
    driver = programs.driver(toys.work.root, (1, 1), scheduler=programs.address, attempts=3)
    until(lambda: toys.executed()["gather/asn0"], "the start of gather")
    programs.worker(2e9)
    until(lambda: [e for e in events(toys.work.root) if e["event"] == "worker-joined"], "the larger one")
    # the driver looks at what there is every ten seconds
    time.sleep(12)
    order.write_text("killed 1")
    until(lambda: task_process(toys.work.root, "gather/asn0"), "its process").kill()
    assert driver.wait(90) == 0, programs.log(driver)
    retried = [e["memory"] for e in events(toys.work.root) if e["event"] == "task-retried"]
    assert retried[-1] == 2e9


def test_a_container_that_goes_as_a_whole_counts_as_out_of_memory(
    toys: Any, programs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker dies with its task, twice; then a larger one is asked for."""
    monkeypatch.setenv("DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES", "1")
    toys.order("gather/asn0", "container 2")
    workers(programs, 5e8, 2e9)
    found = run(toys, programs, (1, 1, [0.5]))
    (retried,) = [e for e in found if e["event"] == "task-retried"]
    assert retried["task"] == "gather/asn0"
    assert retried["memory"] > 2e8
    (failed,) = [e for e in found if e["event"] == "task-failed"]
    assert failed["out_of_memory"]
    assert failed["kind"] == "KilledWorker"
    blocked = [e["task"] for e in found if e["event"] == "task-finished" and e["status"] == "blocked"]
    assert sorted(blocked) == ["finish/asn0", "spread/asn0/pf0.5"]
    assert [e["expected"] for e in found if e["event"] == "worker-lost"] == [False, False]
    assert found[-1]["result"] == "complete"
