"""A run whose workers are jobs: dask-jobqueue itself, and commands that start jobs as processes here."""

from __future__ import annotations

import os
import signal
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from batch.config.cluster import ClusterSettings, SlurmSettings, WorkerClass
from batch.errors import InsufficientMemoryError, UsageError
from batch.runtime import slurm
from batch.runtime.classes import KEPT
from batch.runtime.cluster import capacity, connect

COMMANDS = Path(__file__).parent / "slurm"
SMALL = WorkerClass.model_validate({"memory": KEPT + 4 * 10**8, "workers": 1})
LARGE = WorkerClass.model_validate({"memory": KEPT + 10**9, "workers": 1})


class Jobs:
    """What was submitted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __iter__(self) -> Any:
        return iter(sorted((p for p in self.folder.iterdir()), key=lambda p: int(p.name)))

    def scripts(self) -> list[str]:
        return [(job / "script.sh").read_text() for job in self]

    def kill(self, number: int) -> None:
        os.killpg(int((self.folder / str(number) / "pid").read_text()), signal.SIGKILL)

    def alive(self) -> list[int]:
        """Processes of any job that still run."""
        groups = {int((job / "pid").read_text()) for job in self}
        found = []
        for process in psutil.process_iter():
            try:
                if os.getpgid(process.pid) in groups and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process.pid)
            except (ProcessLookupError, psutil.NoSuchProcess):
                continue
        return found


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Jobs:
    folder = tmp_path / "slurm-state"
    folder.mkdir()
    monkeypatch.setenv("TOY_SLURM", str(folder))
    monkeypatch.setenv("PATH", f"{COMMANDS}:{os.environ['PATH']}")
    return Jobs(folder)


@pytest.fixture
def settings(tmp_path: Path) -> ClusterSettings:
    own = SlurmSettings(
        partition="long",
        account="hst",
        scratch=str(tmp_path),
        interface="lo",
        timeout=60,
        walltime="02:00:00",
    )
    return ClusterSettings(kind="slurm", slurm=own, classes=(SMALL, LARGE))


def until(true: Callable[[], object], what: str) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.1)


@pytest.mark.slow
def test_a_whole_run(toys: Any, jobs: Jobs, settings: ClusterSettings, no_secrets: Any) -> None:
    keys: list[str] = []
    toys.work.create()
    with connect(settings, toys.plan.tasks, toys.work) as client:
        assert client.scheduler.address.startswith("tls://")
        assert capacity(client) == (2, 10**9)
        [key] = toys.work.root.glob("slurm/tls-*/tls.key")
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
        keys.append(key.read_text())
        for script in jobs.scripts():
            assert f"--tls-key {key}" in script
        records = toys.run(client)
    assert {r.status.value for r in records.values()} == {"done"}
    # on the shared file system: jobs cancelled, their processes gone, the key as well
    assert all((job / "cancelled").exists() for job in jobs)
    assert not jobs.alive()
    assert not list(toys.work.root.glob("slurm/tls-*"))
    assert len(list(toys.work.root.glob("slurm/log/*.err"))) == 2
    no_secrets(toys.work.root, keys[0])
    no_secrets(jobs.folder, keys[0])


@pytest.mark.slow
@pytest.mark.usefixtures("quiet_dask")
def test_a_job_that_ends_is_submitted_again(toys: Any, jobs: Jobs, settings: ClusterSettings) -> None:
    """Walltime, a broken node: the run goes on with as many workers as before."""
    held = toys.order("gather/asn0", "hold")
    records: dict[str, Any] = {}
    toys.work.create()
    with slurm.start(settings, (SMALL, LARGE), toys.work.root, look=0.5) as client:
        client.wait_for_workers(2, timeout=60)
        run = threading.Thread(target=lambda: records.update(toys.run(client, workers=2)))
        run.start()
        until(lambda: toys.executed()["gather/asn0"], "the task starts")
        jobs.kill(1)
        jobs.kill(2)
        held.unlink()
        run.join(90)
        until(lambda: capacity(client)[0] == 2, "both workers are back")
        assert capacity(client) == (2, 10**9)
    assert {r.status.value for r in records.values()} == {"done"}
    assert len(list(jobs)) == 4
    assert not jobs.alive()


def test_what_slurm_refuses_is_said(toys: Any, jobs: Jobs, settings: ClusterSettings) -> None:
    toys.work.create()
    wrong = settings.model_copy(update={"slurm": settings.slurm.model_copy(update={"partition": "nowhere"})})
    with (
        pytest.raises(UsageError, match="SLURM takes no such job: sbatch: error: invalid partition"),
        connect(wrong, (), toys.work),
    ):
        pass
    assert not list(jobs)


def test_tasks_too_large_are_refused_before_any_job(toys: Any, jobs: Jobs, settings: ClusterSettings) -> None:
    small = settings.model_copy(update={"classes": (WorkerClass.model_validate({"memory": KEPT + 10}),)})
    with (
        pytest.raises(InsufficientMemoryError, match=r"the largest worker offers 0\.00 GB"),
        connect(small, toys.plan.tasks, toys.work),
    ):
        pass
    assert not list(jobs)


def test_without_slurm(toys: Any, settings: ClusterSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UsageError, match="no sbatch here"), connect(settings, (), toys.work):
        pass
