"""kill -9 of whoever takes part in a run whose work directory is in a bucket; then it is run again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import psutil
import pytest

from batch.storage import ledger
from batch.storage.ledger import State
from batch.storage.objects.work import ObjectWork
from batch.storage.work import Location

pytestmark = pytest.mark.slow


def task_process(work: ObjectWork, task_id: str) -> psutil.Process | None:
    """The process of a task: not its supervisor."""
    mark = f"{work.local}{os.sep}scratch{os.sep}tasks{os.sep}{task_id.replace('/', '__')}"
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        if "batch.runtime.task" in line and line[-1].startswith(mark):
            return process
    return None


def test_a_worker_and_then_the_driver(
    toys: Any,
    bucket: str,
    tmp_path: Path,
    everything: Any,
    secret: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from programs import programs, until

    # where a run works that is not told
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    location = Location(f"s3://{bucket}/visits/one", scratch=f"{tmp_path}/acs-batch-{os.getuid()}")
    work = ObjectWork(location)
    order = toys.order("gather/asn0", "hold")
    settings = {"workers": 2, "memory": 10**9}
    with programs(tmp_path / "programs") as run:
        driver = run.driver(location.address, **settings)
        first = until(lambda: task_process(work, "gather/asn0"), "a held task")
        until(lambda: toys.executed()["gather/asn0"] == 1, "it has begun")
        worker = first.parent().parent()  # the supervisor's parent
        worker.kill()
        second = until(
            lambda: (p := task_process(work, "gather/asn0")) and p.pid != first.pid and p,
            "the task elsewhere",
        )
        until(lambda: toys.executed()["gather/asn0"] == 2, "it has begun there")
        until(lambda: work.record("finish/asn1"), "the other association")
        driver.kill()
        driver.wait(30)
        psutil.wait_procs([second], timeout=30)
        assert not second.is_running()
        states = {i: e.state for i, e in ledger.entries(ObjectWork(location), toys.plan.tasks).items()}
        assert states["gather/asn0"] is State.TO_DO
        assert states["finish/asn1"] is State.DONE

        order.unlink()
        again = run.driver(location.address, **settings)
        assert again.wait(90) == 0, run.log(again)
        assert "'done': 14" in run.log(again)
        said = run.log(driver) + run.log(again)
    executed = toys.executed()
    assert executed["gather/asn0"] == 3
    assert {t for t, n in executed.items() if n > 1} == {"gather/asn0"}
    assert {e.state for e in ledger.entries(ObjectWork(location), toys.plan.tasks).values()} == {State.DONE}
    assert not list((work.local / "scratch" / "tasks").iterdir())
    # what the killed ones left is no secret
    assert secret not in said
    assert not [name for name, content in everything(work) if secret.encode() in content]


def test_a_run_that_is_cancelled_from_elsewhere(
    toys: Any, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a mark in the bucket: whoever cancels needs no way to the driver's machine."""
    from programs import programs, until

    from batch.runtime import cancelling

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    location = Location(f"s3://{bucket}/visits/one", scratch=f"{tmp_path}/acs-batch-{os.getuid()}")
    toys.order("gather/asn0", "hold")
    with programs(tmp_path / "programs") as run:
        driver = run.driver(location.address, workers=2, memory=10**9)
        held = until(lambda: task_process(ObjectWork(location), "gather/asn0"), "a held task")
        assert cancelling.cancel(ObjectWork(location), 60)
        assert driver.wait(60) != 0
        psutil.wait_procs([held], timeout=10)
        assert not held.is_running()
    assert not any(k.name == "lock.json" for k in ObjectWork(location)._store.listing())
