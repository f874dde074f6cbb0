"""The toy pipeline on a real cluster, with its work directory in a bucket."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import boto3
import pytest

from batch.model.observation import Association
from batch.model.plan import Needs, Task
from batch.model.record import Record, Status
from batch.runtime.request import Request
from batch.runtime.worker import execute
from batch.stages.interface import product
from batch.storage import ledger
from batch.storage.ledger import State
from batch.storage.objects.work import ObjectWork
from batch.storage.work import Location


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


_STAGE = """
from batch.model.plan import Stage
from batch.stages.interface import Outcome, product

STAGE = Stage("page", "association", ("large", "small"), 1, None, records_only=("large",))

def run(inputs, area, settings):
    there = {r.stage: inputs.path(r, r.products[0]).exists() for r in inputs.upstream}
    return Outcome(results={"there": there, "known": [r.results for r in inputs.upstream]})
"""


def test_files_that_a_stage_does_not_open_are_not_brought_to_it(
    work: ObjectWork, location: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lean").mkdir()
    (tmp_path / "lean" / "__init__.py").touch()
    (tmp_path / "lean" / "page.py").write_text(_STAGE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    upstream = []
    for stage in ("large", "small"):
        with work.workspace(f"{stage}/asn") as space:
            (space / "area" / "a.txt").write_text(stage)
            files = (product(space / "area", "a.txt", "text"),)
            made = Record(
                stage, "asn", "f" * 64, Status.DONE, "", files, {"n": 1}, attempt=work.attempt(space)
            )
            upstream.append(work.publish(space, made))
    needs = Needs(10**8, 1.0, 60.0)
    task = Task("page", "asn", None, None, ("large/asn", "small/asn"), "f" * 64, needs)
    request = Request((task,), needs, Association("asn", ()), {}, location, stages="lean")
    (record,) = execute(request, *upstream)
    assert record.failure is None
    assert record.results == {"there": {"large": False, "small": True}, "known": [{"n": 1}, {"n": 1}]}
    assert work.record("page/asn") == record


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
