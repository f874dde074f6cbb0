"""Products in a bucket appear whole or not at all, whoever else is at work; each test on a real S3 server."""

from __future__ import annotations

import dataclasses
import datetime
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import pytest

from batch.errors import StorageError
from batch.model.plan import Needs, Task
from batch.model.record import Failure, Record, Status
from batch.stages.interface import product
from batch.storage import ledger
from batch.storage.files import to_json
from batch.storage.ledger import State
from batch.storage.objects import sweeping
from batch.storage.objects.work import ObjectWork
from batch.storage.work import Location, open_work

TASK = Task("combine", "asn", None, None, (), "f" * 64, Needs(1, 1.0, 1.0))
OLD, NEW = "0" * 64, "f" * 64


def keys(bucket: str) -> list[str]:
    pages = boto3.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket)
    return [item["Key"] for page in pages for item in page.get("Contents", ())]


def made(work: ObjectWork, space: Path, text: str, fingerprint: str = NEW) -> Record:
    """What an attempt leaves in its workspace."""
    (space / "area" / "a.txt").write_text(text)
    (space / "task.log").write_text("log of " + text)
    files = (product(space / "area", "a.txt", "text"),)
    return Record("combine", "asn", fingerprint, Status.DONE, products=files, attempt=work.attempt(space))


def publish(work: ObjectWork, text: str, fingerprint: str = NEW) -> Record:
    with work.workspace(TASK.id) as space:
        return work.publish(space, made(work, space, text, fingerprint))


def content(work: ObjectWork, record: Record, task: str = "report/asn") -> str:
    """As a later task sees it."""
    with work.workspace(task) as space:
        return (work.inputs([record], space) / record.place / "a.txt").read_text()


def state(location: Location) -> State:
    return ledger.entries(ObjectWork(location), [TASK])[TASK.id].state


def test_the_address_decides_what_kind_of_work_directory_it_is(tmp_path: Path, location: Location) -> None:
    assert isinstance(open_work(location), ObjectWork)
    assert open_work("s3://bucket").location.address == "s3://bucket"
    assert open_work(str(tmp_path)).url("plan.json") == f"{tmp_path}/plan.json"


def test_published_products_are_there_with_log_and_record(work: ObjectWork, bucket: str) -> None:
    record = publish(work, "one")
    folder = "visits/one/products/combine/asn"
    assert keys(bucket) == [
        f"{folder}/{record.attempt}/a.txt",
        f"{folder}/{record.attempt}/task.log",
        f"{folder}/record.json",
    ]
    assert state(work.location) is State.DONE
    assert work.record(TASK.id) == record
    assert not list((work.local / "scratch" / "tasks").iterdir())
    head = boto3.client("s3").head_object(
        Bucket=bucket, Key=f"{folder}/{record.attempt}/a.txt", ChecksumMode="ENABLED"
    )
    assert head["Metadata"]["sha256"] == record.products[0].sha256


def test_inputs_are_fetched_once_verified_and_read_only(
    work: ObjectWork, location: Location, tmp_path: Path, bucket: str
) -> None:
    record = publish(work, "one")
    elsewhere = ObjectWork(dataclasses.replace(location, scratch=str(tmp_path / "other-machine")))
    with elsewhere.workspace("report/asn") as space:
        path = elsewhere.inputs([record], space) / record.place / "a.txt"
        assert path.read_text() == "one"
        assert path.stat().st_mode & 0o222 == 0
    boto3.client("s3").delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": k} for k in keys(bucket)]})
    assert content(elsewhere, record) == "one"


def test_without_its_record_nothing_is_published(work: ObjectWork, bucket: str) -> None:
    record = publish(work, "one")
    boto3.client("s3").delete_object(Bucket=bucket, Key="visits/one/products/combine/asn/record.json")
    assert state(work.location) is State.TO_DO
    again = publish(work, "two")
    assert again.attempt != record.attempt
    assert content(work, again) == "two"


@pytest.mark.parametrize("change", ["removed", "cut short"])
def test_a_record_whose_products_are_not_whole_does_not_count(
    work: ObjectWork, bucket: str, change: str
) -> None:
    record = publish(work, "one")
    key = f"visits/one/products/{record.place}/a.txt"
    if change == "removed":
        boto3.client("s3").delete_object(Bucket=bucket, Key=key)
    else:
        boto3.client("s3").put_object(Bucket=bucket, Key=key, Body=b"on")
    assert not state(work.location).ok
    fresh = ObjectWork(work.location)
    assert fresh.record(TASK.id) is None
    assert publish(fresh, "one").attempt != record.attempt
    assert state(work.location) is State.DONE


def test_two_workers_that_do_the_same_task_agree_on_one_record(location: Location, bucket: str) -> None:
    """A straggler that was submitted again: both begin before either ends."""
    first, second = ObjectWork(location), ObjectWork(location)
    assert first.record(TASK.id) is None
    assert second.record(TASK.id) is None
    one = publish(first, "one")
    two = publish(second, "two")
    assert two == one
    assert content(second, two) == "one"
    # the files of the one that came second are gone
    assert len(keys(bucket)) == 3


def test_many_workers_at_once_leave_one_whole_product(location: Location) -> None:
    works = [ObjectWork(location) for _ in range(6)]
    for work in works:
        work.record(TASK.id)
    with ThreadPoolExecutor(6) as threads:
        records = list(threads.map(lambda n: publish(works[n], f"text {n}"), range(6)))
    standing = ObjectWork(location).record(TASK.id)
    assert standing is not None
    assert standing in records
    assert content(ObjectWork(location), standing).startswith("text ")


def test_a_latecomer_with_older_settings_does_not_replace_newer_products(location: Location) -> None:
    late, now = ObjectWork(location), ObjectWork(location)
    publish(now, "before", OLD)
    late.record(TASK.id)
    new = publish(now, "new", NEW)
    with pytest.raises(StorageError, match="another run has published here in the meantime"):
        publish(late, "late", OLD)
    assert ObjectWork(location).record(TASK.id) == new


def test_a_reader_keeps_what_it_began_with_while_something_newer_is_published(
    location: Location, tmp_path: Path
) -> None:
    work = ObjectWork(location)
    old = publish(work, "old", OLD)
    assert state(location) is State.STALE
    new = publish(work, "new", NEW)
    assert state(location) is State.DONE
    elsewhere = ObjectWork(dataclasses.replace(location, scratch=str(tmp_path / "reader")))
    assert content(elsewhere, old) == "old"
    assert content(elsewhere, new) == "new"


def test_an_answer_that_was_lost_is_no_conflict(work: ObjectWork) -> None:
    """boto3 asks again then, and finds what its own first request wrote."""
    with work.workspace(TASK.id) as space:
        record = made(work, space, "one")
        work.record(TASK.id)
        work.write(f"products/{TASK.id}/record.json", to_json(record))
        assert work.publish(space, record) == record
    assert state(work.location) is State.DONE


@pytest.mark.slow
@pytest.mark.parametrize("step", range(6))
def test_killed_at_any_request_of_publishing_it_is_done_or_not(
    location: Location, bucket: str, step: int
) -> None:
    """kill -9 before each request to the store in turn."""
    program = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import botocore.httpsession as http
import test_publishing as t
from batch.storage.work import Location
left = {step}
real = http.URLLib3Session.send
def send(*args, **options):
    global left
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    return real(*args, **options)
work = t.ObjectWork(Location({location.address!r}, scratch={location.scratch!r}))
http.URLLib3Session.send = send
t.publish(work, "one")
"""
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    # uploads 0 and 1 at once, listing before and after them, the record
    assert (done.returncode == 0) == (step == 5), done.stderr
    assert state(location) in (State.DONE, State.TO_DO)
    work = ObjectWork(location)
    record = publish(work, "again")
    assert state(location) is State.DONE
    assert not list((work.local / "scratch" / "tasks").iterdir())
    assert sweeping.unnamed(work._store, work._records, datetime.timedelta(seconds=-2)) >= 0
    left = [k for k in keys(bucket) if "/combine/asn/" in k]
    assert all(record.attempt in k or k.endswith("record.json") for k in left)
    assert content(work, record) == "again"


def test_failures_are_numbered(work: ObjectWork) -> None:
    failed = Record("combine", "asn", NEW, Status.FAILED, failure=Failure("X", "m"))
    for number in range(1, 12):
        with work.workspace(TASK.id) as space:
            (space / "task.log").write_text(f"log {number}")
            assert work.keep_failure(space, failed) == f"failures/{TASK.id}/attempt-{number}"
    entry = ledger.entries(ObjectWork(work.location), [TASK])[TASK.id]
    assert entry.state is State.FAILED
    assert entry.log == f"failures/{TASK.id}/attempt-11/task.log"
    assert work.read(entry.log) == b"log 11"


def test_large_files_go_in_parts(work: ObjectWork, monkeypatch: pytest.MonkeyPatch, bucket: str) -> None:
    from batch.storage.objects import store

    monkeypatch.setattr(store, "_LARGE", 5 * 2**20)
    with work.workspace(TASK.id) as space:
        (space / "area" / "big.fits").write_bytes(os.urandom(12 * 2**20))
        files = (product(space / "area", "big.fits", "mosaic"),)
        record = Record("combine", "asn", NEW, Status.DONE, products=files, attempt=work.attempt(space))
        work.publish(space, record)
    key = f"visits/one/products/{record.place}/big.fits"
    head = boto3.client("s3").head_object(Bucket=bucket, Key=key)
    assert head["ETag"].strip('"').endswith("-3")
    assert head["ContentType"] == "application/fits"
    elsewhere = ObjectWork(dataclasses.replace(work.location, scratch=work.location.scratch + "-2"))
    with elsewhere.workspace("report/asn") as space:
        assert (elsewhere.inputs([record], space) / record.place / "big.fits").stat().st_size == 12 * 2**20


def test_scratch_of_the_dead_goes_with_the_next_task(location: Location) -> None:
    program = (
        "import os, signal; from batch.storage.objects.work import ObjectWork;"
        "from batch.storage.work import Location;"
        f"work = ObjectWork(Location({location.address!r}, scratch={location.scratch!r}));"
        "context = work.workspace('combine/asn'); space = context.__enter__();"
        "(space / 'area' / 'x').write_text('x'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False)
    assert done.returncode == -signal.SIGKILL
    work = ObjectWork(location)
    (left,) = (work.local / "scratch" / "tasks").iterdir()
    with work.workspace("combine/asn") as mine, ObjectWork(location).workspace("combine/asn") as other:
        assert not left.exists()
        assert mine.is_dir()
        assert other.is_dir()


def test_clean_removes_what_no_record_names_and_nobody_may_still_be_writing(
    work: ObjectWork, bucket: str
) -> None:
    old, new = publish(work, "old", OLD), publish(work, "new", NEW)
    client = boto3.client("s3")
    half = client.create_multipart_upload(Bucket=bucket, Key="visits/one/products/combine/asn/half/big.fits")
    client.upload_part(
        Bucket=bucket, Key=half["Key"], UploadId=half["UploadId"], PartNumber=1, Body=b"x" * 100
    )
    client.put_object(Bucket=bucket, Key="visits/other/products/combine/asn/stranger/a.txt", Body=b"x")
    with work.writer():
        # all of it is less than an hour old
        work.sweep()
        assert any(old.attempt in k for k in keys(bucket))
        freed = sweeping.unnamed(work._store, work._records, datetime.timedelta(seconds=-5))
    assert freed == len("old") + len("log of old")
    left = keys(bucket)
    assert not any(old.attempt in k for k in left)
    assert any("stranger" in k for k in left)
    assert not client.list_multipart_uploads(Bucket=bucket).get("Uploads")
    assert content(ObjectWork(work.location), new) == "new"


def test_discarded_products_are_gone_whole(work: ObjectWork, bucket: str) -> None:
    publish(work, "one")
    failed = Record("combine", "asn", NEW, Status.FAILED, failure=Failure("X", "m"))
    with work.workspace(TASK.id) as space:
        work.keep_failure(space, failed)
    assert work.discard([TASK.id]) > 0
    assert work.discard_failures() > 0
    assert keys(bucket) == []
