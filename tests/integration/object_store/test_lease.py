"""One run at a time in a prefix of a bucket, whoever dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import beside
import pytest

from batch.errors import StorageRefusedError, WorkDirectoryBusyError
from batch.storage.objects.work import ObjectWork
from batch.storage.work import Location

Fault = beside.load(Path(__file__).with_name("proxy.py")).Fault

_ELSEWHERE = {
    "id": "0" * 32,
    "host": "node-7",
    "kernel": "another machine",
    "process": 1,
    "process_started": 0.0,
    "since": "2026-01-01T00:00:00+00:00",
    "renewals": 0,
}


def test_two_runs_cannot_share_a_prefix(location: Location, bucket: str) -> None:
    with (
        ObjectWork(location).writer(),
        pytest.raises(WorkDirectoryBusyError, match=rf"s3://{bucket}.*another run \(.*process {os.getpid()}"),
        ObjectWork(location).writer(),
    ):
        pass
    with ObjectWork(location).writer():
        pass


def test_a_run_that_was_killed_here_is_followed_at_once(location: Location) -> None:
    program = (
        "import os, signal; from batch.storage.objects.work import ObjectWork;"
        "from batch.storage.work import Location;"
        f"context = ObjectWork(Location({location.address!r}, scratch={location.scratch!r})).writer();"
        "context.__enter__(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False)
    assert done.returncode == -signal.SIGKILL
    assert b'"process"' in ObjectWork(location).read("lock.json")
    with ObjectWork(location).writer():
        pass


def test_a_run_elsewhere_is_followed_when_it_has_been_silent(location: Location) -> None:
    work = ObjectWork(location, lease=3)
    work.write("lock.json", json.dumps(_ELSEWHERE).encode())
    with (
        pytest.raises(WorkDirectoryBusyError, match=r"node-7.*ended without a word less than 3 s ago"),
        work.writer(),
    ):
        pass
    time.sleep(3.1)
    with work.writer():
        pass


def test_a_living_run_renews_its_lease(location: Location) -> None:
    with ObjectWork(location, lease=2).writer():
        first = ObjectWork(location).read("lock.json")
        time.sleep(3.5)
        assert ObjectWork(location).read("lock.json") != first
        with pytest.raises(WorkDirectoryBusyError), ObjectWork(location, lease=2).writer():
            pass


def test_a_run_that_was_out_of_touch_ends_when_another_has_taken_over(location: Location) -> None:
    work = ObjectWork(location, lease=2)
    begun = time.monotonic()

    def run() -> None:
        with work.writer():
            work.write("lock.json", json.dumps(_ELSEWHERE).encode())
            time.sleep(30)

    with pytest.raises(WorkDirectoryBusyError, match="another one has taken over"):
        run()
    assert time.monotonic() - begun < 15
    # and leaves the other one's lease alone
    assert b"node-7" in work.read("lock.json")


def test_a_lease_whose_answer_was_lost_is_had(location: Location, proxy: Any) -> None:
    proxy.faults[:] = [Fault("lost", "PUT", "lock.json")]
    with ObjectWork(location).writer():
        pass
    assert proxy.faults[0].hits > 1


def test_a_store_that_ignores_conditions_is_refused(location: Location, proxy: Any) -> None:
    proxy.faults[:] = [Fault("unconditional", "PUT", "lock.json", times=100)]
    with (
        pytest.raises(StorageRefusedError, match="takes no notice of conditional writes"),
        ObjectWork(location).writer(),
    ):
        pass


def test_a_damaged_lock_is_followed_when_it_is_old(location: Location) -> None:
    work = ObjectWork(location, lease=2)
    work.write("lock.json", b"{")
    with pytest.raises(WorkDirectoryBusyError), work.writer():
        pass
    time.sleep(2.1)
    with work.writer():
        pass
