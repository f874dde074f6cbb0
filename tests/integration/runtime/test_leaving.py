"""Workers that go, a scheduler that dies, a run that is cancelled: on programs of their own."""

from __future__ import annotations

import signal
import urllib.request
from pathlib import Path
from typing import Any

import psutil
import pytest
from command import acs_batch
from programs import Program, events, task_process, until

pytestmark = pytest.mark.slow


def start(programs: Any, workers: int = 2) -> list[Program]:
    programs.scheduler()
    made = [programs.worker() for _ in range(workers)]
    programs.await_workers(workers)
    return made


def finish(programs: Any, driver: Program, code: int = 0) -> str:
    assert driver.wait(90) == code, programs.log(driver)
    return programs.log(driver)


def named(found: list[dict[str, Any]], event: str) -> list[dict[str, Any]]:
    return [e for e in found if e["event"] == event]


def test_a_worker_that_is_told_to_go_hands_its_task_back(toys: Any, programs: Any) -> None:
    """SIGTERM mid-task: killed child, done by the other worker, and no attempt counted."""
    order = toys.order("gather/asn0", "hold")
    workers = start(programs)
    driver = programs.driver(toys.work.root, scheduler=programs.address, grace=1, attempts=1)
    # its process is there a while before it has begun
    until(lambda: toys.executed()["gather/asn0"], "the start of gather/asn0")
    child = until(lambda: task_process(toys.work.root, "gather/asn0"), "a process of gather/asn0")
    nanny = child.parent().parent().parent()
    (leaving,) = [w for w in workers if w.pid == nanny.pid]
    leaving.send_signal(signal.SIGTERM)
    leaving.wait(30)
    _, alive = psutil.wait_procs([child], timeout=5)
    assert not alive
    order.unlink()
    finish(programs, driver)
    assert toys.executed()["gather/asn0"] == 2
    assert toys.executed().total() == len(toys.plan.tasks) + 1
    assert not list(toys.work.failures.iterdir())
    found = events(toys.work.root)
    assert [e["tasks"] for e in named(found, "task-preempted")] == [["gather/asn0"]]
    assert [e["expected"] for e in named(found, "worker-lost")] == [True]
    assert not named(found, "task-failed")
    assert not named(found, "task-retried")


def test_a_worker_that_is_told_to_go_finishes_what_it_can(toys: Any, programs: Any) -> None:
    order = toys.order("gather/asn0", "hold")
    workers = start(programs)
    driver = programs.driver(toys.work.root, scheduler=programs.address, grace=30)
    child = until(lambda: task_process(toys.work.root, "gather/asn0"), "a process of gather/asn0")
    nanny = child.parent().parent().parent()
    (leaving,) = [w for w in workers if w.pid == nanny.pid]
    leaving.send_signal(signal.SIGTERM)
    # everything else is done by the worker that stays
    until(lambda: (toys.work.folder("finish/asn1") / "record.json").exists(), "asn1")
    assert child.is_running()
    assert leaving.poll() is None
    order.unlink()
    finish(programs, driver)
    assert toys.executed() == {t.id: 1 for t in toys.plan.tasks}


def test_a_lost_scheduler_is_waited_for(toys: Any, programs: Any) -> None:
    """kill -9 of the scheduler: the run goes on with one at the same address, and repeats nothing."""
    order = toys.order("gather/asn0", "hold")
    scheduler = programs.scheduler()
    for _ in range(2):
        programs.worker()
    driver = programs.driver(toys.work.root, scheduler=programs.address)
    until(lambda: (toys.work.folder("finish/asn1") / "record.json").exists(), "asn1")
    child = until(lambda: task_process(toys.work.root, "gather/asn0"), "a process of gather/asn0")
    before = toys.executed()
    scheduler.kill()
    until(lambda: named(events(toys.work.root), "scheduler-lost"), "the loss")
    until(lambda: not child.is_running(), "the end of the child")
    order.unlink()
    start(programs, workers=1)
    finish(programs, driver)
    after = toys.executed()
    assert {t for t in after if after[t] > before[t]} == {
        "gather/asn0",
        "spread/asn0/pf0.5",
        "spread/asn0/pf1.0",
        "finish/asn0",
    }
    assert named(events(toys.work.root), "run-ended")[0]["result"] == "complete"


@pytest.mark.parametrize("kind", ["local", "scheduler"])
def test_a_run_is_cancelled_from_another_terminal(toys: Any, programs: Any, kind: str) -> None:
    order = toys.order("gather/asn0", "hold")
    settings: dict[str, Any] = {"workers": 2, "memory": 10**9}
    if kind == "scheduler":
        workers = start(programs)
        settings = {"scheduler": programs.address}
    driver = programs.driver(toys.work.root, **settings)
    child = until(lambda: task_process(toys.work.root, "gather/asn0"), "a process of gather/asn0")
    assert cancel(toys.work.root) == "the run has ended; run again to go on\n"
    assert "cancelled" in finish(programs, driver, code=130)
    assert not child.is_running()
    assert task_process(toys.work.root) is None
    assert not list(toys.work.failures.iterdir())
    assert not [p for p in toys.work.scratch.iterdir() if p.name != "dask"]
    order.unlink()
    if kind == "scheduler":
        assert all(w.poll() is None for w in workers)
    finish(programs, programs.driver(toys.work.root, **settings))
    repeated = {t for t, times in toys.executed().items() if times > 1}
    # the other worker may have been at one process of asn1
    assert "gather/asn0" in repeated
    assert len({t.partition("/")[0] for t in repeated if "asn1" in t}) <= 1
    found = events(toys.work.root)
    assert [e["result"] for e in named(found, "run-ended")] == ["cancelled", "complete"]
    assert named(found, "cancelled")[0]["by"] == "cancel"
    assert cancel(toys.work.root) == "no run works here\n"


def cancel(work: Path) -> str:
    done = acs_batch("cancel", "--work", str(work), timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_interrupted_run_leaves_nothing_on_a_foreign_cluster(toys: Any, programs: Any) -> None:
    toys.order("gather/asn0", "hold")
    start(programs)
    driver = programs.driver(toys.work.root, scheduler=programs.address)
    child = until(lambda: task_process(toys.work.root, "gather/asn0"), "a process of gather/asn0")
    driver.send_signal(signal.SIGINT)
    driver.wait(30)
    assert not child.is_running()
    assert not list(toys.work.failures.iterdir())


def test_a_foreign_scheduler_has_the_metrics(toys: Any, programs: Any) -> None:
    toys.order("single/asn0/j0000x01q", "input-error")
    start(programs)
    finish(programs, programs.driver(toys.work.root, scheduler=programs.address, performance_report=True))
    with urllib.request.urlopen(f"http://127.0.0.1:{programs.http}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("acs_batch"))
    assert float(lines['acs_batch_tasks_total{stage="single",status="done"}']) == 5
    assert float(lines['acs_batch_tasks_total{stage="single",status="failed"}']) == 1
    assert float(lines['acs_batch_tasks_total{stage="finish",status="blocked"}']) == 1
    assert float(lines['acs_batch_task_seconds_count{stage="finish"}']) == 1
    assert float(lines['acs_batch_task_peak_memory_bytes_sum{stage="finish"}']) > 15e6
    assert float(lines['acs_batch_memory_limit_bytes{stage="finish"}']) == 200e6
    report = (toys.work.report / "dask-performance.html").read_text()
    assert "bokeh" in report
