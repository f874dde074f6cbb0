"""What a store, or the way to it, can do wrong: every row ends in success after retries, or in one clear
message and a state from which the next run goes on; none in a silent gap.

Each fault is done to real requests of boto3 to a real S3 server, by a proxy in between.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import beside
import boto3
import pytest

from batch.errors import BatchError, StorageError, StorageRefusedError, UsageError
from batch.model.plan import Needs, Task
from batch.model.record import Record, Status
from batch.stages.interface import product
from batch.storage import ledger
from batch.storage.ledger import State
from batch.storage.objects.work import ObjectWork
from batch.storage.work import Location, open_work

Fault = beside.load(Path(__file__).with_name("proxy.py")).Fault

TASK = Task("combine", "asn", None, None, (), "f" * 64, Needs(1, 1.0, 1.0))
TEXT = "pixels " * 5000
FILE, RECORD, LISTING = r"/a\.txt", r"/record\.json", "list-type"
EVER = 10**6


@dataclass(frozen=True)
class Row:
    """A fault, and what is to come of it."""

    name: str
    faults: Callable[[], list[Any]]
    error: type[BatchError] | None = None
    message: str = ""
    remade: bool = False
    """Whether the product counts as not made afterwards, although it had been published."""


def _(kind: str, method: str, path: str, **options: Any) -> Callable[[], list[Any]]:
    return lambda: [Fault(kind, method, path, **options)]


def refused(code: str, status: int, method: str, path: str) -> Callable[[], list[Any]]:
    return _("answer", method, path, times=EVER, status=status, code=code)


PUBLISHING = (
    Row("a product is slowed down", _("answer", "PUT", FILE, times=2)),
    Row(
        "the store fails when the record comes", _("answer", "PUT", RECORD, status=500, code="InternalError")
    ),
    Row("the connection breaks during an upload", _("reset", "PUT", FILE)),
    Row("the answer to an upload is lost", _("lost", "PUT", FILE)),
    Row("the answer to the record is lost", _("lost", "PUT", RECORD)),
    Row("the listing fails", _("answer", "GET", LISTING, status=500, code="InternalError")),
    Row("the listing is cut", _("cut", "GET", LISTING)),
    Row("the server says nothing", _("stall", "PUT", FILE, seconds=1.6)),
    Row("a request takes too long to arrive", _("answer", "PUT", FILE, status=400, code="RequestTimeout")),
    Row(
        "slowed down without end",
        _("answer", "PUT", FILE, times=EVER),
        StorageError,
        r"a\.txt: the store is overloaded \(SlowDown\); run again later",
    ),
    Row(
        "the store is down when the record comes",
        _("reset", "PUT", RECORD, times=EVER),
        StorageError,
        r"record\.json: the connection to the store broke .*; run again",
    ),
    Row(
        "the store is full",
        refused("QuotaExceeded", 507, "PUT", FILE),
        StorageError,
        "no space left in the store",
    ),
    Row(
        "what was sent arrives damaged",
        refused("BadDigest", 400, "PUT", FILE),
        StorageError,
        "arrived damaged",
    ),
    Row(
        "no permission to write",
        refused("AccessDenied", 403, "PUT", FILE),
        StorageRefusedError,
        "access denied; the credentials must allow",
    ),
    Row(
        "the credentials expire before the record",
        refused("ExpiredToken", 400, "PUT", RECORD),
        StorageRefusedError,
        r"the credentials have expired; renew them",
    ),
    Row(
        "a wrong secret",
        refused("SignatureDoesNotMatch", 403, "PUT", FILE),
        StorageRefusedError,
        "does not take these credentials",
    ),
    Row(
        "an unknown key",
        refused("InvalidAccessKeyId", 403, "GET", LISTING),
        StorageRefusedError,
        "does not know these credentials",
    ),
    Row(
        "the bucket was removed",
        refused("NoSuchBucket", 404, "PUT", FILE),
        StorageRefusedError,
        "there is no such bucket",
    ),
    Row(
        "the clock is wrong",
        refused("RequestTimeTooSkewed", 403, "PUT", FILE),
        StorageRefusedError,
        "clock is wrong; set it",
    ),
    Row(
        "the store knows no conditional writes",
        refused("NotImplemented", 501, "PUT", RECORD),
        StorageRefusedError,
        "lacks an operation that is needed",
    ),
)

READING = (
    Row("a read is slowed down", _("answer", "GET", FILE, times=2)),
    Row("the body breaks off", _("cut", "GET", FILE, times=2)),
    Row("the body ends early, in order", _("short", "GET", FILE, times=1)),
    Row("a bit of the body is wrong", _("altered", "GET", FILE)),
    Row("the connection breaks", _("reset", "GET", FILE)),
    Row("the server says nothing while reading", _("stall", "GET", FILE, seconds=1.6)),
    Row("the record is cut", _("cut", "GET", RECORD)),
    Row("the record ends early, in order", _("short", "GET", RECORD)),
    Row(
        "the body breaks off without end",
        _("cut", "GET", FILE, times=EVER),
        StorageError,
        r"a\.txt: the connection to the store broke .*; run again",
    ),
    Row(
        "no permission to read",
        refused("AccessDenied", 403, "GET", FILE),
        StorageRefusedError,
        "access denied; the credentials must allow",
    ),
    Row(
        "something else is stored",
        _("altered", "GET", FILE, times=EVER),
        StorageError,
        r"a\.txt: holds something else than was published; run again to make it anew",
        remade=True,
    ),
)


def publish(work: ObjectWork) -> Record:
    """As the worker does: look, work, publish."""
    assert work.record(TASK.id) is None
    with work.workspace(TASK.id) as space:
        (space / "area" / "a.txt").write_text(TEXT)
        files = (product(space / "area", "a.txt", "text"),)
        record = Record(
            "combine", "asn", TASK.fingerprint, Status.DONE, products=files, attempt=work.attempt(space)
        )
        return work.publish(space, record)


def read(work: ObjectWork) -> str:
    """As the worker of the next task does, on another machine."""
    record = work.record(TASK.id)
    assert record is not None
    with work.workspace("report/asn") as space:
        return (work.inputs([record], space) / record.place / "a.txt").read_text()


def state(work: ObjectWork) -> State:
    return ledger.entries(ObjectWork(work.location), [TASK])[TASK.id].state


@pytest.fixture
def work(location: Location) -> ObjectWork:
    return ObjectWork(location, timeout=0.8)


@pytest.fixture
def elsewhere(location: Location) -> ObjectWork:
    """The same on a machine that has nothing in its cache."""
    return ObjectWork(dataclasses.replace(location, scratch=f"{location.scratch}-2"), timeout=0.8)


def check(row: Row, proxy: Any, act: Callable[[], Any]) -> bool:
    """Do something under a fault; whether it went well."""
    proxy.faults[:] = row.faults()
    try:
        if row.error is None:
            act()
            return True
        with pytest.raises(row.error, match=row.message) as caught:
            act()
        # the runtime tries what can be mended again, and nothing else
        assert caught.value.retryable == (row.error is StorageError)
        assert caught.value.message.startswith("s3://")
        assert "\n" not in caught.value.message
        return False
    finally:
        assert all(f.hits for f in proxy.faults), "the fault never struck"
        proxy.faults.clear()


@pytest.mark.parametrize("row", PUBLISHING, ids=lambda r: r.name)
def test_publishing(row: Row, work: ObjectWork, elsewhere: ObjectWork, proxy: Any) -> None:
    went_well = check(row, proxy, lambda: publish(work))
    assert state(work) is (State.DONE if went_well else State.TO_DO)
    if not went_well:
        publish(ObjectWork(work.location))
    assert read(elsewhere) == TEXT


@pytest.mark.parametrize("row", READING, ids=lambda r: r.name)
def test_reading(row: Row, work: ObjectWork, elsewhere: ObjectWork, proxy: Any) -> None:
    publish(work)

    def act() -> None:
        assert read(elsewhere) == TEXT

    check(row, proxy, act)
    assert state(work) is (State.TO_DO if row.remade else State.DONE)
    if row.remade:
        publish(ObjectWork(work.location))
    assert read(elsewhere) == TEXT
    assert not list((elsewhere.local / "scratch" / "tasks").iterdir())


def test_a_product_that_vanishes_while_it_is_wanted(
    work: ObjectWork, elsewhere: ObjectWork, proxy: Any, bucket: str
) -> None:
    record = publish(work)
    client = boto3.client("s3")
    key = f"visits/one/products/{record.place}/a.txt"
    proxy.faults[:] = [Fault("do", "GET", FILE, before=lambda: client.delete_object(Bucket=bucket, Key=key))]
    with pytest.raises(StorageError, match="is not there any more; run again to make it anew"):
        read(elsewhere)
    assert state(work) is not State.DONE
    publish(ObjectWork(work.location))
    assert read(elsewhere) == TEXT


def test_a_store_that_cannot_be_reached(work: ObjectWork, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StorageError, match="cannot be reached; see to the network and AWS_ENDPOINT_URL"):
        publish(ObjectWork(work.location))


def test_no_credentials(work: ObjectWork, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StorageRefusedError, match="no credentials, or not all of them; set AWS_PROFILE"):
        publish(ObjectWork(work.location))


def test_a_profile_that_is_not_there(work: ObjectWork, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(StorageRefusedError, match=r"ProfileNotFound.*nobody"):
        publish(ObjectWork(work.location))


def test_a_bucket_that_is_not_there() -> None:
    with (
        pytest.raises(
            StorageRefusedError, match=r"s3://no-such-bucket-here/.*: there is no such bucket; make"
        ),
        open_work("s3://no-such-bucket-here/x").writer(),
    ):
        pass


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("gs://bucket/x", "gs:// is not known"),
        ("s3://", "no name of a bucket"),
        ("s3://bucket/x//y", "empty or relative"),
        ("s3://bucket/../other", "empty or relative"),
        ("s3://KEY:hidden@bucket/x", "credentials do not belong into an address"),
    ],
)
def test_addresses_that_are_none(address: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        open_work(address)
    assert "hidden" not in caught.value.message


def test_a_folder_that_somebody_else_made(
    location: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where temporary files go anybody may have prepared something."""
    (tmp_path / "trap").mkdir()
    (tmp_path / f"acs-batch-{os.getuid()}").symlink_to(tmp_path / "trap")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(StorageRefusedError, match=r"belongs to another user; set cluster\.scratch"):
        publish(ObjectWork(Location(location.address)))


@pytest.mark.slow
def test_workers_try_again_and_say_what_cannot_be_mended(toys: Any, client: Any, proxy: Any) -> None:
    """Each of boto3's attempts at one task's product fails; then another task may not write."""
    proxy.faults[:] = [
        Fault("answer", "PUT", r"/gather/asn0/.*/number\.txt", times=3),
        # before a worker does anything, and while the driver looks whether it is to end
        Fault("answer", "GET", r"list-type=2.*prefix=.*%2Ffinish%2Fasn0%2F", times=3, status=500),
        Fault("answer", "GET", r"/visits/one/cancel$", times=3, status=500),
    ]
    denied = Fault(
        "answer", "PUT", r"/gather/asn1/.*/number\.txt", times=EVER, status=403, code="AccessDenied"
    )
    proxy.faults.append(denied)
    records = toys.run(client, attempts=3)
    assert records["finish/asn0"].status is Status.DONE
    assert toys.executed()["gather/asn0"] == 2
    assert toys.executed()["finish/asn0"] == 1
    assert all(f.hits >= 3 for f in proxy.faults[:3])
    failure = records["gather/asn1"].failure
    assert failure.kind == "StorageRefusedError"
    assert "access denied" in failure.message
    assert toys.executed()["gather/asn1"] == 1
    assert records["finish/asn1"].status is Status.BLOCKED
    proxy.faults.clear()
    toys.forget()
    records = toys.run(client)
    assert {r.status for r in records.values()} == {Status.DONE}
    assert set(toys.executed()) == {"gather/asn1", "spread/asn1/pf0.5", "spread/asn1/pf1.0", "finish/asn1"}
