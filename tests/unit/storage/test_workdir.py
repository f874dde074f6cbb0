"""Products appear whole or not at all."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from batch.errors import StorageError, WorkDirectoryBusyError
from batch.model.drizzle import Drizzle
from batch.model.plan import Needs, Task
from batch.model.record import Failure, Record, Status
from batch.stages.interface import product
from batch.storage import files, ledger
from batch.storage.files import read_json, write_json
from batch.storage.ledger import State
from batch.storage.workdir import WorkDirectory

TASK = Task("sweep", "asn", None, Drizzle(0.3), (), "f" * 64, Needs(1, 1.0, 1.0))


@pytest.fixture
def work(tmp_path: Path) -> WorkDirectory:
    made = WorkDirectory(tmp_path / "work")
    made.create()
    return made


def record(text: str, area: Path, fingerprint: str = TASK.fingerprint) -> Record:
    (area / "a.txt").write_text(text)
    return Record("sweep", "asn/pf0.3", fingerprint, Status.DONE, products=(product(area, "a.txt", "text"),))


def publish(work: WorkDirectory, text: str, fingerprint: str = TASK.fingerprint) -> None:
    with work.workspace(TASK.id) as space:
        (space / "task.log").write_text("log of " + text)
        work.publish(space, record(text, space / "area", fingerprint))


def test_published_products_are_there_with_log_and_record(work: WorkDirectory) -> None:
    publish(work, "one")
    folder = work.folder(TASK.id)
    assert {p.name for p in folder.iterdir()} == {"a.txt", "task.log", "record.json"}
    assert read_json(Record, folder / "record.json").fingerprint == TASK.fingerprint
    assert ledger.entries(work, [TASK])[TASK.id].state is State.DONE
    assert not list(work.scratch.iterdir())


def test_undeclared_files_are_not_published(work: WorkDirectory) -> None:
    with work.workspace(TASK.id) as space:
        (space / "area" / "side-file.fits").write_text("x")
        work.publish(space, record("one", space / "area"))
    assert {p.name for p in work.folder(TASK.id).iterdir()} == {"a.txt", "record.json"}


def test_a_stale_product_is_replaced_whole(work: WorkDirectory) -> None:
    publish(work, "old", "0" * 64)
    assert ledger.entries(work, [TASK])[TASK.id].state is State.STALE
    publish(work, "new")
    assert (work.folder(TASK.id) / "a.txt").read_text() == "new"
    assert ledger.entries(work, [TASK])[TASK.id].state is State.DONE
    assert not list(work.scratch.iterdir())


@pytest.mark.parametrize("call", ["rename", "replace", "fsync"])
def test_nothing_appears_when_the_disk_is_full(
    work: WorkDirectory, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with work.workspace(TASK.id) as space:
        made = record("one", space / "area")
        monkeypatch.setattr(os, call, full)
        with pytest.raises(StorageError, match="no space left"):
            work.publish(space, made)
        monkeypatch.undo()
    assert not work.folder(TASK.id).exists()
    assert ledger.entries(work, [TASK])[TASK.id].state is State.TO_DO


@pytest.mark.parametrize("step", range(12))
def test_killed_at_any_step_of_publishing_it_is_done_or_not(work: WorkDirectory, step: int) -> None:
    """kill -9 before each system call in turn; afterwards the products are whole or to be made."""
    program = f"""
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
left = {step}
def counted(call):
    def wrapper(*args, **options):
        global left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        return call(*args, **options)
    return wrapper
import test_workdir as t
work = t.WorkDirectory(Path({str(work.root)!r}))
with work.workspace(t.TASK.id) as space:
    (space / "task.log").write_text("log")
    made = t.record("one", space / "area")
    for name in ("rename", "replace", "fsync", "mkdir", "chmod"):
        setattr(os, name, counted(getattr(os, name)))
    work.publish(space, made)
"""
    subprocess.run([sys.executable, "-c", program], check=False)
    state = ledger.entries(work, [TASK])[TASK.id].state
    assert state in (State.DONE, State.TO_DO)
    folder = work.folder(TASK.id)
    assert folder.exists() == (state is State.DONE)
    if state is State.DONE:
        assert (folder / "a.txt").read_text() == "one"
    with work.writer():
        assert not list(work.scratch.iterdir())
    publish(work, "again")
    assert ledger.entries(work, [TASK])[TASK.id].state is State.DONE


def test_two_runs_cannot_share_a_work_directory(work: WorkDirectory) -> None:
    with work.writer(), pytest.raises(WorkDirectoryBusyError, match="another run works here"), work.writer():
        pass


def test_scratch_of_the_living_is_left_alone(work: WorkDirectory) -> None:
    with work.workspace(TASK.id) as space:
        work.sweep()
        assert (space / "area").is_dir()


def test_scratch_that_is_being_made_is_left_alone(work: WorkDirectory) -> None:
    """A folder without its lock is one of the dead, unless it is so new that the lock is still to come."""
    stop = threading.Event()

    def sweep() -> None:
        while not stop.is_set():
            work.sweep()

    with ThreadPoolExecutor() as pool:
        sweeping = pool.submit(sweep)
        try:
            for _ in range(200):
                with work.workspace(TASK.id) as space:
                    (space / "area" / "a.txt").write_text("x")
        finally:
            stop.set()
        sweeping.result()


def test_failures_are_numbered(work: WorkDirectory) -> None:
    failed = Record("sweep", "asn/pf0.3", TASK.fingerprint, Status.FAILED, failure=Failure("X", "m"))
    for number in range(1, 12):
        with work.workspace(TASK.id) as space:
            assert work.keep_failure(space, failed) == f"failures/{TASK.id}/attempt-{number}"
    entry = ledger.entries(work, [TASK])[TASK.id]
    assert entry.state is State.FAILED
    assert entry.log == f"failures/{TASK.id}/attempt-11/task.log"


def test_a_failure_of_other_settings_does_not_count(work: WorkDirectory) -> None:
    failed = Record("sweep", "asn/pf0.3", "0" * 64, Status.FAILED, failure=Failure("X", "m"))
    with work.workspace(TASK.id) as space:
        work.keep_failure(space, failed)
    assert ledger.entries(work, [TASK])[TASK.id].state is State.TO_DO


def test_json_appears_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "plan.json"
    write_json(path, {"a": 1})

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_json(path, {"a": 2})
    assert path.read_text() == '{\n "a": 1\n}\n'
    assert list(tmp_path.iterdir()) == [path]
