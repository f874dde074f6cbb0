"""The plan on a real Dask cluster: order, resume, failures as values, retries."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from programs import submissions, until

from batch.model.record import Status
from batch.runtime.capacity import Capacity
from batch.runtime.graph import Runner
from batch.runtime.lending import KEEPER
from batch.storage import ledger
from batch.storage.ledger import State
from batch.storage.workdir import WorkDirectory


def test_every_task_runs_once_and_in_order(toys: Any, client: Any) -> None:
    records = toys.run(client)
    assert {r.status for r in records.values()} == {Status.DONE}
    assert toys.executed() == {t.id: 1 for t in toys.plan.tasks}
    # 3 singles -> gather 4 -> each spread 5 -> finish 5 + 5 + 4 + 1
    assert records["finish/asn0"].results == {"total": 15}


def test_a_second_run_does_nothing(toys: Any, client: Any) -> None:
    first = toys.run(client)
    toys.forget()
    assert toys.run(client) == first
    assert not toys.executed()


def test_a_lost_product_is_made_again_alone(toys: Any, client: Any) -> None:
    """What depends on it is valid still: its fingerprint says so."""
    toys.run(client)
    toys.forget()
    for path in toys.work.folder("spread/asn0/pf0.5").iterdir():
        path.unlink()
    toys.work.folder("spread/asn0/pf0.5").rmdir()
    toys.run(client)
    assert toys.executed() == {"spread/asn0/pf0.5": 1}


def test_a_failure_blocks_only_what_depends_on_it(toys: Any, client: Any) -> None:
    toys.order("single/asn0/j0000x01q", "input-error")
    records = toys.run(client)
    assert records["single/asn0/j0000x01q"].status is Status.FAILED
    assert records["single/asn0/j0000x01q"].failure.message == (
        "x_raw.fits[SCI,1]: pixels are missing; fetch it again"
    )
    blocked = {i for i, r in records.items() if r.status is Status.BLOCKED}
    assert blocked == {"gather/asn0", "spread/asn0/pf0.5", "spread/asn0/pf1.0", "finish/asn0"}
    assert {records[i].reason for i in blocked} == {"single/asn0/j0000x01q"}
    assert records["finish/asn1"].status is Status.DONE
    assert records.counts() == {"done": 9, "skipped": 0, "failed": 1, "blocked": 4}


def test_the_ledger_says_what_the_records_say(toys: Any, client: Any) -> None:
    toys.order("single/asn0/j0000x01q", "bug")
    toys.run(client)
    states = {i: e.state for i, e in ledger.entries(toys.work, toys.plan.tasks).items()}
    assert states["single/asn0/j0000x01q"] is State.FAILED
    assert states["finish/asn0"] is State.BLOCKED
    assert states["finish/asn1"] is State.DONE
    log = toys.work.failures / "single/asn0/j0000x01q/attempt-1/task.log"
    assert "RuntimeError: unforeseen" in log.read_text()


def test_after_a_mended_fault_only_the_rest_is_done(toys: Any, client: Any) -> None:
    order = toys.order("single/asn0/j0000x01q", "input-error")
    toys.run(client)
    order.unlink()
    toys.forget()
    records = toys.run(client)
    assert {r.status for r in records.values()} == {Status.DONE}
    assert set(toys.executed()) == {
        "single/asn0/j0000x01q",
        "gather/asn0",
        "spread/asn0/pf0.5",
        "spread/asn0/pf1.0",
        "finish/asn0",
    }


def test_a_killed_child_is_a_failure_that_says_so(toys: Any, client: Any) -> None:
    toys.order("gather/asn1", "killed")
    failure = toys.run(client)["gather/asn1"].failure
    assert failure.kind == "ChildKilledError"
    assert "SIGKILL" in failure.message
    assert "memory" in failure.message
    assert failure.out_of_memory


def test_a_killed_child_is_tried_again_with_twice_the_memory(toys: Any, client: Any) -> None:
    toys.order("gather/asn1", "killed 1")
    with submissions(client) as made:
        records = toys.run(client, attempts=2)
    assert {r.status for r in records.values()} == {Status.DONE}
    assert [m for key, m in made if key[:2] == ("gather", "asn1")] == [200_000_000, 400_000_000]
    assert toys.executed()["gather/asn1"] == 2
    assert toys.executed()["finish/asn1"] == 1


def test_attempts_are_counted_for_each_task(toys: Any, client: Any) -> None:
    """The second task is killed for the first time when its association is tried for the second."""
    toys.order("single/asn0/j0000x01q", "killed 1")
    toys.order("gather/asn0", "killed 1")
    records = toys.run(client, attempts=2)
    assert {r.status for r in records.values()} == {Status.DONE}
    assert toys.executed()["single/asn0/j0000x01q"] == toys.executed()["gather/asn0"] == 2


def test_no_task_is_tried_more_often_than_asked(toys: Any, client: Any) -> None:
    toys.order("single/asn0/j0000x01q", "killed 1")
    toys.order("gather/asn0", "killed")
    records = toys.run(client, attempts=2)
    assert records["gather/asn0"].status is Status.FAILED
    assert toys.executed()["gather/asn0"] == 2
    assert records["finish/asn1"].status is Status.DONE


def test_input_errors_are_not_tried_again(toys: Any, client: Any) -> None:
    toys.order("gather/asn1", "input-error")
    toys.run(client, attempts=3)
    assert toys.executed()["gather/asn1"] == 1


def test_a_full_disk_in_a_task_is_tried_again(toys: Any, client: Any) -> None:
    toys.order("gather/asn1", "enospc")
    record = toys.run(client, attempts=2)["gather/asn1"]
    assert record.failure.kind == "StorageError"
    assert "big.fits: no space left" in record.failure.message
    assert toys.executed()["gather/asn1"] == 2


def test_a_process_that_just_goes_is_a_failure(toys: Any, client: Any) -> None:
    toys.order("gather/asn1", "exit")
    record = toys.run(client)["gather/asn1"]
    assert "status 3 and no answer" in record.failure.message


def test_a_window_of_one_does_everything(toys: Any, client: Any) -> None:
    records = toys.run(client, window=1, workers=1)
    assert {r.status for r in records.values()} == {Status.DONE}


def test_usage_is_measured(toys: Any, client: Any) -> None:
    usage = toys.run(client)["finish/asn0"].usage
    assert 15e6 < usage.peak_memory < 200e6
    assert 0 < usage.cpu < 30
    assert usage.wall > 0
    written = json.loads((toys.work.folder("finish/asn0") / "record.json").read_text())
    assert written["usage"]["peak_memory"] == usage.peak_memory


def test_keys_group_by_stage_and_are_never_shared_by_two_runs(toys: Any, client: Any, tmp_path: Path) -> None:
    """A scheduler would answer a known key with the record of the other run's work directory."""
    with submissions(client) as made:
        toys.run(client)
        dataclasses.replace(toys, work=WorkDirectory(tmp_path / "other")).run(client)
    keys = [key for key, _ in made]
    assert {k[0] for k in keys} == {"single", "gather", "spread", "finish"}
    # the two pixfracs of an association share a process
    assert len(set(keys)) == len(keys) == 2 * (len(toys.plan.tasks) - 2)


def test_published_files_are_read_only_and_scratch_is_empty(toys: Any, client: Any) -> None:
    toys.run(client)
    files = [p for p in toys.work.products.rglob("*") if p.is_file()]
    numbers = {"number.txt", "number0.5.txt", "number1.0.txt"}
    assert {p.name for p in files} == {*numbers, "record.json", "task.log"}
    assert all(p.stat().st_mode & 0o222 == 0 for p in files)
    assert not list(toys.work.scratch.iterdir())


def test_workers_keep_the_process_that_tasks_are_forked_from(toys: Any, client: Any, tmp_path: Path) -> None:
    """And have another once it is gone."""

    def kept(dask_worker: Any) -> list[int]:
        return [n._process.pid for n in dask_worker.plugins[KEEPER].idle]

    def pids() -> set[int]:
        return {pid for pids in client.run(kept).values() for pid in pids}

    toys.run(client)
    first = pids()
    toys.work = WorkDirectory(tmp_path / "second")
    toys.run(client)
    # a worker that had nothing to do before may have one now
    assert first
    # what Dask sets for its workers, see `worker.environment`
    assert not any("MALLOC_TRIM_THRESHOLD_" in psutil.Process(pid).environ() for pid in first)
    assert first <= pids()
    killed = [psutil.Process(pid) for pid in pids()]
    for process in killed:
        process.kill()
    until(lambda: all(p.status() == psutil.STATUS_ZOMBIE for p in killed), "they are gone")
    toys.work = WorkDirectory(tmp_path / "third")
    assert {r.status for r in toys.run(client).values()} == {Status.DONE}
    assert pids()
    assert not pids() & first


@pytest.mark.slow
def test_a_killed_worker_loses_only_its_own_task(toys: Any, client: Any) -> None:
    """kill -9 of the worker process: its child dies with it, the task runs again elsewhere."""
    order = toys.order("gather/asn0", "hold")
    killed = []

    def kill_once(task: Any, record: Any) -> None:
        if killed or task.id != "finish/asn1":
            return
        child = _wait_for_child("gather__asn0")
        worker = child.parent().parent()  # the supervisor's parent
        killed.append(child)
        os.kill(worker.pid, signal.SIGKILL)
        order.unlink()

    with toys.work.writer():
        records = Runner(
            client,
            toys.work,
            toys.plan,
            attempts=1,
            window=8,
            capacity=lambda: Capacity({10**9: 2}),
            observe=kill_once,
            stages="toystages",
        ).run()
    assert killed
    assert {r.status for r in records.values()} == {Status.DONE}
    assert toys.executed()["gather/asn0"] == 2
    assert toys.executed().total() == len(toys.plan.tasks) + 1
    _, alive = psutil.wait_procs(killed, timeout=10)
    assert not alive


def _wait_for_child(name: str) -> psutil.Process:
    """The task's own process: not its supervisor."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for process in psutil.process_iter(["cmdline"]):
            line = process.info["cmdline"] or []
            if "batch.runtime.task" in line and name in line[-1]:
                return process
        time.sleep(0.05)
    raise AssertionError(f"no process of {name}")


def test_a_product_folder_without_record_is_not_done(toys: Any, client: Any, tmp_path: Path) -> None:
    folder = toys.work.folder("single/asn0/j0000x00q")
    folder.mkdir(parents=True)
    (folder / "number.txt").write_text("999")
    records = toys.run(client)
    assert records["finish/asn0"].results == {"total": 15}


def test_a_damaged_record_is_not_done(toys: Any, client: Any) -> None:
    toys.run(client)
    toys.forget()
    record = toys.work.folder("single/asn0/j0000x00q") / "record.json"
    record.chmod(0o644)
    record.write_text(record.read_text()[:100])
    toys.run(client)
    assert toys.executed() == {"single/asn0/j0000x00q": 1}


def processes(records: dict[str, Any], association: str) -> list[int]:
    return [r.results["shared"] for i, r in records.items() if i.startswith(f"spread/{association}/")]


def test_tasks_share_a_process_and_are_published_each(toys: Any, client: Any) -> None:
    records = toys.run(client)
    assert len(set(processes(records, "asn0"))) == 1
    for name in ("pf0.5", "pf1.0"):
        folder = toys.work.folder(f"spread/asn0/{name}")
        assert {p.name for p in folder.iterdir()} == {f"number{name[2:]}.txt", "record.json", "task.log"}
    one = records["spread/asn0/pf0.5"].usage
    assert one.peak_memory == records["spread/asn0/pf1.0"].usage.peak_memory > 15e6


def test_tasks_spread_over_idle_workers(toys: Any, client: Any) -> None:
    """With more workers than associations each takes its part."""
    records = toys.run(client, workers=4)
    assert "shared" not in records["spread/asn0/pf0.5"].results
    assert {r.status for r in records.values()} == {Status.DONE}


def test_tasks_that_do_not_fit_together_run_alone(toys: Any, client: Any) -> None:
    records = toys.run(client, largest=249_999_999)
    assert "shared" not in records["spread/asn0/pf0.5"].results


def test_when_one_of_several_is_missing_it_runs_alone(toys: Any, client: Any) -> None:
    toys.run(client)
    shutil.rmtree(toys.work.folder("spread/asn0/pf0.5"))
    toys.forget()
    records = toys.run(client)
    assert toys.executed() == {"spread/asn0/pf0.5": 1}
    assert records["spread/asn0/pf0.5"].results == {"total": 5}


def test_what_kills_one_of_several_fails_all(toys: Any, client: Any) -> None:
    toys.order("spread/asn0/pf1.0", "killed 1")
    records = toys.run(client, attempts=2)
    assert {r.status for r in records.values()} == {Status.DONE}
    assert toys.executed()["spread/asn0/pf0.5"] == 2
