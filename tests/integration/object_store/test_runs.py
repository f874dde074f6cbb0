"""The toy pipeline on a real cluster, with its work directory in a bucket."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import boto3
import pytest

from batch.model.record import Status
from batch.storage import ledger
from batch.storage.ledger import State
from batch.storage.objects.work import ObjectWork


def states(toys: Any) -> set[State]:
    return {e.state for e in ledger.entries(ObjectWork(toys.work.location), toys.plan.tasks).values()}


def test_every_task_runs_once_and_a_second_run_does_nothing(toys: Any, client: Any, proxy: Any) -> None:
    records = toys.run(client)
    assert toys.executed() == {t.id: 1 for t in toys.plan.tasks}
    assert records["finish/asn0"].results == {"total": 15}
    assert states(toys) == {State.DONE}
    toys.forget()
    again = type(toys)(ObjectWork(toys.work.location), toys.control, toys.plan)
    assert dict(again.run(client)) == dict(records)
    assert not toys.executed()
    # what lies on this machine when it is over
    assert not list((toys.work.local / "scratch" / "tasks").iterdir())
    assert not list(Path.cwd().glob("number*"))
    cached = [p for p in (toys.work.local / "cache" / "files").rglob("*") if p.is_file()]
    # by content: many of the toys' numbers are the same
    assert 0 < len(cached) < len(toys.plan.tasks)


@pytest.mark.slow
def test_what_was_lost_is_made_again_alone(toys: Any, client: Any, bucket: str) -> None:
    """A record without its products is none."""
    toys.run(client)
    toys.forget()
    place = toys.work.record("spread/asn0/pf0.5").place
    boto3.client("s3").delete_object(Bucket=bucket, Key=f"visits/one/products/{place}/number0.5.txt")
    again = type(toys)(ObjectWork(toys.work.location), toys.control, toys.plan)
    again.run(client)
    assert toys.executed() == {"spread/asn0/pf0.5": 1}
    assert states(toys) == {State.DONE}


@pytest.mark.slow
def test_failures_are_kept_in_the_bucket_and_mended_by_another_run(toys: Any, client: Any) -> None:
    order = toys.order("single/asn0/j0000x01q", "input-error")
    records = toys.run(client)
    assert records["single/asn0/j0000x01q"].status is Status.FAILED
    entry = ledger.entries(toys.work, toys.plan.tasks)["single/asn0/j0000x01q"]
    assert entry.state is State.FAILED
    assert b"pixels are missing" in toys.work.read(entry.log)
    order.unlink()
    toys.forget()
    records = toys.run(client)
    assert {r.status for r in records.values()} == {Status.DONE}
    assert len(toys.executed()) == 5
