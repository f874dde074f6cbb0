"""Short tasks that go to a worker together, where workers are no more than associations."""

from __future__ import annotations

import dataclasses
import shutil
from typing import Any

from programs import submissions

from batch.model.record import Record, Status, Usage
from batch.storage import ledger
from batch.storage.ledger import State
from batch.storage.workdir import WorkDirectory

WORKERS = 2  # as many as associations


def test_an_association_of_short_tasks_is_one_request(toys: Any, client: Any) -> None:
    with submissions(client) as made:
        records = toys.run(client, workers=WORKERS)
    assert {r.status for r in records.values()} == {Status.DONE}
    # called after its first task
    assert [key[:2] for key, _ in made] == [("single", f"asn{a}/j000{a}x00q") for a in range(2)]
    assert toys.executed() == {t.id: 1 for t in toys.plan.tasks}


def test_with_more_workers_than_associations_each_task_goes_alone(toys: Any, client: Any) -> None:
    with submissions(client) as made:
        toys.run(client, workers=WORKERS + 1)
    # only the pixfracs go together, which share a process
    assert len(made) == len(toys.plan.tasks) - 2


def test_products_and_records_are_those_of_tasks_that_go_alone(toys: Any, client: Any, tmp_path: Any) -> None:
    def what_was_made(work: WorkDirectory) -> dict[str, Any]:
        files = sorted(p for p in work.products.rglob("*") if p.is_file() and p.name != "task.log")
        return {str(p.relative_to(work.products)): p.read_text() for p in files if p.suffix == ".txt"}

    def comparable(record: Record) -> Record:
        results = {k: v for k, v in record.results.items() if k != "shared"}
        return dataclasses.replace(record, usage=Usage(), results=results)

    alone = dataclasses.replace(toys, work=WorkDirectory(tmp_path / "alone"))
    one, other = alone.run(client, workers=WORKERS + 1), toys.run(client, workers=WORKERS)
    assert {i: comparable(r) for i, r in one.items()} == {i: comparable(r) for i, r in other.items()}
    assert what_was_made(alone.work) == what_was_made(toys.work) != {}


def test_each_task_has_its_own_log_usage_and_process(toys: Any, client: Any) -> None:
    records = toys.run(client, workers=WORKERS)
    for task in toys.plan.tasks:
        (log,) = toys.work.folder(task.id).glob("task.log")
        begun = [line for line in log.read_text().splitlines() if line.endswith("begins")]
        assert len(begun) == 1
        assert task.id.rpartition("/")[0] in begun[0]
    usages = [records[f"single/asn0/j0000x0{e}q"].usage for e in range(3)]
    assert len({u.wall for u in usages} | {u.cpu for u in usages}) > 3
    assert all(15e6 < u.peak_memory < 200e6 for u in usages)


def test_a_failure_stops_none_of_the_others(toys: Any, client: Any) -> None:
    toys.order("single/asn0/j0000x01q", "input-error")
    records = toys.run(client, workers=WORKERS)
    assert records["single/asn0/j0000x01q"].failure.message.startswith("x_raw.fits[SCI,1]")
    assert records["single/asn0/j0000x02q"].status is Status.DONE
    blocked = {i for i, r in records.items() if r.status is Status.BLOCKED}
    assert blocked == {"gather/asn0", "spread/asn0/pf0.5", "spread/asn0/pf1.0", "finish/asn0"}
    assert {records[i].reason for i in blocked} == {"single/asn0/j0000x01q"}
    assert records.counts() == {"done": 9, "skipped": 0, "failed": 1, "blocked": 4}
    states = {i: e.state for i, e in ledger.entries(toys.work, toys.plan.tasks).items()}
    assert states["single/asn0/j0000x01q"] is State.FAILED
    assert states["finish/asn0"] is State.BLOCKED


def test_only_what_is_missing_is_done_again(toys: Any, client: Any) -> None:
    first = toys.run(client, workers=WORKERS)
    for lost in ("single/asn0/j0000x01q", "spread/asn0/pf0.5"):
        shutil.rmtree(toys.work.folder(lost))
    toys.forget()
    records = toys.run(client, workers=1)
    assert toys.executed() == {"single/asn0/j0000x01q": 1, "spread/asn0/pf0.5": 1}
    assert records["finish/asn0"] == first["finish/asn0"]


def test_what_was_killed_is_tried_again_alone(toys: Any, client: Any) -> None:
    """With twice the memory; its neighbours are done, and what it blocked follows."""
    toys.order("single/asn0/j0000x01q", "killed 1")
    with submissions(client) as made:
        records = toys.run(client, workers=WORKERS, attempts=2)
    assert {r.status for r in records.values()} == {Status.DONE}
    assert [(key[0], memory) for key, memory in made[2:]] == [
        ("single", 400_000_000),
        ("gather", 250_000_000),
    ]
    assert toys.executed() == {t.id: 1 for t in toys.plan.tasks} | {"single/asn0/j0000x01q": 2}
