"""The ways to a process of its own, with one face."""

from __future__ import annotations

import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import pytest

from batch.isolation import child
from batch.isolation.child import Ending
from batch.isolation.nursery import Nursery

PROGRAMS = str(Path(__file__).parent / "programs")
ENVIRONMENT = {**os.environ, "PYTHONPATH": PROGRAMS, "PYTHONUNBUFFERED": "1"}


class Isolated(ABC):
    """Runs Python text in `folder`, in a process of its own."""

    environment = ENVIRONMENT
    waiting = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    outlives = "os.getppid()"
    """The process that is there for the next one as well."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @abstractmethod
    def run(self, code: str, timeout: float = 30, environment: Mapping[str, str] = ENVIRONMENT) -> Ending:
        """Run it to its end."""

    @abstractmethod
    def text(self, code: str) -> str:
        """Python text that runs this text in the same way, for a process that is to be killed."""

    @property
    def said(self) -> list[str]:
        """The lines of the log."""
        log = self.folder / "log"
        return log.read_text().splitlines() if log.exists() else []

    def heard(self) -> list[str]:
        """The lines of the log, once the first is there."""
        deadline = time.monotonic() + 30
        while not (self.folder / "log").exists() or "\n" not in (self.folder / "log").read_text():
            assert time.monotonic() < deadline, "the child says nothing"
            time.sleep(0.02)
        return self.said

    def pids(self) -> list[psutil.Process]:
        """The processes that the first line names."""
        return [psutil.Process(int(pid)) for pid in self.heard()[0].split()]


class Started(Isolated):
    """A new interpreter."""

    def run(self, code: str, timeout: float = 30, environment: Mapping[str, str] = ENVIRONMENT) -> Ending:
        return child.run(
            [sys.executable, "-c", code],
            cwd=self.folder,
            log=self.folder / "log",
            timeout=timeout,
            environment=environment,
        )

    def text(self, code: str) -> str:
        return (
            "import sys; from pathlib import Path; from batch.isolation import child\n"
            f"here = Path({str(self.folder)!r})\n"
            f"child.run([sys.executable, '-c', {code!r}], cwd=here, log=here / 'log', timeout=600)"
        )


class Forked(Isolated):
    """A fork of a nursery's process."""

    modules: tuple[str, ...] = ()

    def __init__(self, folder: Path, nursery: Nursery) -> None:
        super().__init__(folder)
        self.nursery = nursery

    def run(self, code: str, timeout: float = 30, environment: Mapping[str, str] = ENVIRONMENT) -> Ending:
        return self.nursery.run(
            [code],
            cwd=self.folder,
            log=self.folder / "log",
            timeout=timeout,
            environment=environment,
            modules=self.modules,
        )

    def text(self, code: str) -> str:
        return (
            "import os; from pathlib import Path; from batch.isolation.nursery import Nursery\n"
            f"here = Path({str(self.folder)!r})\n"
            f"Nursery('nursery_program', dict(os.environ)).run([{code!r}], cwd=here, log=here / 'log', "
            f"timeout=600, environment=dict(os.environ), modules={self.modules})"
        )

    @property
    def process(self) -> psutil.Process:
        """The nursery's."""
        return psutil.Process(self.nursery._process.pid)


class Branched(Forked):
    """A fork of a nursery's branch."""

    modules = ("heavy",)
    outlives = "__import__('psutil').Process().parent().ppid()"


@pytest.fixture
def started(tmp_path: Path) -> Started:
    return Started(tmp_path)


@pytest.fixture
def forked(tmp_path: Path) -> Iterator[Forked]:
    nursery = Nursery("nursery_program", ENVIRONMENT)
    yield Forked(tmp_path, nursery)
    nursery.close()


@pytest.fixture
def branched(forked: Forked) -> Branched:
    return Branched(forked.folder, forked.nursery)


@pytest.fixture(params=["started", "forked", "branched"])
def isolated(request: pytest.FixtureRequest) -> Isolated:
    made: Isolated = request.getfixturevalue(request.param)
    return made
