"""The real command on small simulated visits."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from command import acs_batch

from batch.simulation.visit import Visit, VisitSettings, simulate


class Run:
    """``acs-batch run`` on a folder, with its work directory."""

    def __init__(self, source: Path, cache: Path, work: Path, *options: str) -> None:
        self.output = ""
        self.source = source
        self.work = work
        self.arguments = [
            "--from",
            str(source),
            "--crds-cache",
            str(cache),
            "--work",
            str(work),
            *options,
        ]

    @property
    def command(self) -> list[str]:
        """What a user would type."""
        return [sys.executable, "-m", "batch.cli", "run", *self.arguments]

    def __call__(self, *options: str) -> subprocess.CompletedProcess[str]:
        return acs_batch("run", *self.arguments, *options)

    def start(self, *options: str) -> subprocess.Popen[str]:
        """Without waiting."""
        return subprocess.Popen(
            [*self.command, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def records(self) -> dict[str, dict[str, Any]]:
        """Published records by task id."""
        products = self.work / "products"
        return {
            str(p.parent.relative_to(products)): json.loads(p.read_text())
            for p in products.rglob("record.json")
        }

    def failures(self) -> dict[str, str]:
        """Messages of failed attempts by task id, the last one of each."""
        folder = self.work / "failures"
        return {
            str(p.parents[1].relative_to(folder)): json.loads(p.read_text())["failure"]["message"]
            for p in sorted(folder.rglob("record.json"))
        }

    def identities(self) -> dict[str, int]:
        """Inode of each published record: a task that ran again has another."""
        products = self.work / "products"
        return {str(p.parent.relative_to(products)): p.stat().st_ino for p in products.rglob("record.json")}

    def wait_for(self, task: str, seconds: float = 120) -> None:
        """Until a task has been published."""
        path = self.work / "products" / task / "record.json"
        deadline = time.monotonic() + seconds
        while not path.exists():
            assert time.monotonic() < deadline, f"{task} was not done in {seconds} s"
            time.sleep(0.02)

    def processes(self) -> list[psutil.Process]:
        """Everything that runs for this work directory."""
        found = []
        for process in psutil.process_iter(["cmdline"]):
            if any(str(self.work) in part for part in process.info["cmdline"] or []):
                found.append(process)
        return found


@pytest.fixture(scope="session")
def run_class() -> type[Run]:
    """For tests with other inputs."""
    return Run


@pytest.fixture(scope="session")
def tiny_visit(tmp_path_factory: pytest.TempPathFactory) -> Visit:
    """Two exposures of 2072 x 512 pixels."""
    settings = VisitSettings(size="512", exposures=2, short_exptime=None, stars=20_000)
    return simulate(tmp_path_factory.mktemp("tiny"), settings)


@pytest.fixture
def tiny(tiny_visit: Visit, tmp_path: Path) -> Run:
    """A run up to calibrated frames on a copy of the raw files, which a test may damage."""
    source = tmp_path / "raw"
    shutil.copytree(tiny_visit.raw, source)
    return Run(source, tiny_visit.crds, tmp_path / "work", "--until", "calibrate", "--workers", "1")


@pytest.fixture
def six(tmp_path: Path) -> Run:
    """The same with six exposures."""
    settings = VisitSettings(size="512", exposures=6, short_exptime=None, stars=5_000)
    visit = simulate(tmp_path / "visit", settings)
    return Run(visit.raw, visit.crds, tmp_path / "work", "--until", "calibrate", "--workers", "1")


@pytest.fixture(autouse=True)
def _no_crds_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in os.environ if n.startswith("CRDS_")]:
        monkeypatch.delenv(name)
