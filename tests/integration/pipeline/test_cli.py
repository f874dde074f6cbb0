"""The command line: verbs, exit codes, and a scheduler that runs already."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from command import acs_batch

from batch.config import load
from batch.runtime.planning import make_plan

if TYPE_CHECKING:
    from conftest import Run

ASN = "jsim01010"


def test_version_and_help() -> None:
    assert re.fullmatch(r"acs-batch \d+\.\d+\.\d+\S*\n", acs_batch("--version").stdout)
    shown = acs_batch("--help").stdout
    assert all(verb in shown for verb in ("demo", "run", "plan", "status", "report", "doctor", "clean"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], "no folder of raw exposures was given; use --from DIR"),
        (["run", "--from", "/nowhere"], "/nowhere: there is no such folder"),
        (["run", "--set", "sweep.pixfrac=[2]"], "sweep.pixfrac"),
        (["run", "--settings", "/nowhere.toml"], "/nowhere.toml"),
        (["run", "--missing-references", "perhaps"], "references.missing"),
        (["run", "--workers", "0"], "cluster.workers"),
        (["run", "--until", "lunch"], "lunch"),
        (["status", "--work", "/nowhere"], "no run has been made here"),
        (["report", "--work", "/nowhere"], "no run has been made here"),
        (["clean", "--work", "/nowhere"], "no run has been made here"),
        (["fly"], "fly"),
    ],
)
def test_wrong_use_exits_2_with_one_message(arguments: list[str], message: str, tmp_path: Path) -> None:
    if arguments[0] == "run":
        arguments = [*arguments, "--work", str(tmp_path / "work")]
    if "--until" in arguments:
        arguments = [*arguments, "--from", str(tmp_path)]
    done = acs_batch(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_doctor_finds_what_is_missing(shared: Path, tmp_path: Path) -> None:
    good = acs_batch("doctor", "--work", str(tmp_path), "--crds-cache", str(shared / "data/crds_cache"))
    assert "context hst_0729.pmap" in good.stdout
    assert "drizzlepac" in good.stdout
    assert "calacs.e" in good.stdout
    bad = acs_batch("doctor", "--work", str(tmp_path), "--crds-cache", "/nowhere")
    assert bad.returncode == 1
    assert "BAD CRDS cache" in bad.stdout


def test_a_plan_runs_nothing(tiny: Run) -> None:
    done = acs_batch("plan", *tiny.arguments, "--workers", "2", "--details")
    assert done.returncode == 0, done.stderr
    assert re.search(r"calibrate\s+│\s+2 │\s+0\.\d\d │", done.stdout)
    assert "6 tasks on 2 workers" in done.stdout
    assert f"calibrate/{ASN}/jsim01abq" in done.stdout
    assert not tiny.records()


def test_a_plan_says_when_one_scheduler_is_not_enough(tiny: Run) -> None:
    done = acs_batch("plan", *tiny.arguments, "--workers", "1000000")
    assert done.returncode == 0, done.stderr
    assert re.search(r"1000000 workers are more than one scheduler keeps up with, about \d+ ", done.stdout)


def test_a_task_too_large_for_any_worker_is_refused_at_once(tiny: Run) -> None:
    done = tiny("--set", "cluster.memory=150_000_000")
    assert done.returncode == 2
    assert re.search(r"need more memory than any worker has: calibrate/.* needs 0\.\d+ GB", done.stderr)
    assert "offers 0.15 GB" in done.stderr
    assert not tiny.records()


def test_a_catalog_that_is_not_there_is_refused_at_once(tiny: Run) -> None:
    done = tiny("--set", "align.catalog=nowhere.ecsv")
    assert done.returncode == 2
    assert "nowhere.ecsv: No such file" in done.stderr
    assert not tiny.records()


@pytest.mark.slow
def test_another_catalog_makes_the_alignment_stale(tiny: Run, tmp_path: Path) -> None:
    """By its content, not by its name."""
    cache = tiny.arguments[tiny.arguments.index("--crds-cache") + 1]
    catalog, found = tmp_path / "gaia.ecsv", []
    for content in ("a", "b", "a"):
        catalog.write_text(content)
        settings = load(
            None, [f"fetch.source={tiny.source}", f"references.cache={cache}", f"align.catalog={catalog}"]
        )
        plan = make_plan(settings)
        found.append({t.stage: t.fingerprint for t in plan.tasks})
    assert found[0] == found[2]
    assert found[0]["wcs"] == found[1]["wcs"]
    assert found[0]["align"] != found[1]["align"]
    assert found[0]["report"] != found[1]["report"]


@pytest.mark.slow
def test_status_report_and_clean(tiny: Run) -> None:
    victim = tiny.source / "jsim01abq_raw.fits"
    content = victim.read_bytes()
    victim.unlink()
    assert tiny().returncode == 3
    status = acs_batch("status", "--work", str(tiny.work))
    assert status.returncode == 3
    assert "jsim01abq_raw.fits: there is no such file" in status.stdout
    log = re.search(r"log: (\S+task\.log)", status.stdout)
    assert log is not None
    assert "there is no such file" in Path(log[1]).read_text()
    page = Path(acs_batch("report", "--work", str(tiny.work)).stdout.strip())
    assert "there is no such file" in page.read_text()
    victim.write_bytes(content)
    assert tiny().returncode == 0
    assert acs_batch("status", "--work", str(tiny.work)).returncode == 0
    assert acs_batch("clean", "--work", str(tiny.work), "--failures").returncode == 0
    assert not list((tiny.work / "failures").iterdir())
    assert len(tiny.records()) == 6


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[str]:
    """A scheduler with two workers, started by hand as the manual says."""
    file = tmp_path / "scheduler.json"
    base = [sys.executable, "-m", "distributed.cli.dask_scheduler"]
    processes = [
        subprocess.Popen(
            [
                *base,
                "--scheduler-file",
                str(file),
                "--host",
                "127.0.0.1",
                "--port",
                "0",
                "--dashboard-address",
                ":0",
            ],
            stderr=subprocess.DEVNULL,
        )
    ]
    deadline = time.monotonic() + 30
    while not file.exists() or not file.read_text().endswith("}"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    address = json.loads(file.read_text())["address"]
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", "1"]
    for _ in range(2):
        processes.append(
            subprocess.Popen(
                [*worker, "--resources", "memory=4e9", "--local-directory", str(tmp_path / "dask")],
                stderr=subprocess.DEVNULL,
            )
        )
    yield address
    for process in reversed(processes):
        process.terminate()
    for process in processes:
        process.wait(timeout=30)


@pytest.mark.slow
def test_a_scheduler_that_runs_already(tiny: Run, scheduler: str) -> None:
    done = tiny("--scheduler", scheduler)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(tiny.records()) == 6


def test_a_scheduler_that_is_not_there(tiny: Run) -> None:
    done = tiny("--scheduler", "nonsense://127.0.0.1:1")
    assert done.returncode == 2
    assert "--scheduler nonsense://127.0.0.1:1: cannot be reached" in done.stderr


@pytest.mark.slow
def test_progress_on_a_terminal(tiny: Run) -> None:
    """Bars per stage on a terminal; no line per task."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        tiny.command, stdout=follower, stderr=follower, env={**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    )
    os.close(follower)
    shown = b""
    while True:
        try:
            part = os.read(leader, 65536)
        except OSError:
            break
        if not part:
            break
        shown += part
    os.close(leader)
    assert process.wait(timeout=60) == 0
    text = shown.decode()
    assert "calibrate" in text
    assert "2/2" in text
    assert "\x1b[" in text
    assert "done (" not in text
