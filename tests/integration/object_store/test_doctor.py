"""What `acs-batch doctor` says of a work directory in a bucket."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import beside
import pytest

from batch.runtime.doctor import Finding, examine
from batch.storage.objects.work import ObjectWork
from batch.storage.work import Location

Fault = beside.load(Path(__file__).with_name("proxy.py")).Fault


def store(location: Location) -> Finding:
    (found,) = [f for f in examine(location.address, None, {}) if f.what == "object store"]
    return found


def test_a_bucket_that_will_do(location: Location, work: ObjectWork) -> None:
    assert store(location).good
    with work.writer():
        assert "a run is going on" in store(location).found


@pytest.mark.parametrize(
    ("method", "code", "status"), [("PUT", "AccessDenied", 403), ("GET", "NoSuchBucket", 404)]
)
def test_a_bucket_that_will_not_do(
    location: Location, proxy: Any, method: str, code: str, status: int
) -> None:
    proxy.faults[:] = [Fault("answer", method, "lock.json", times=100, status=status, code=code)]
    found = store(location)
    assert not found.good
    assert code in found.advice
