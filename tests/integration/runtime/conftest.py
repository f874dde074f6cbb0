"""A toy pipeline on a real cluster."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from batch.model.plan import Plan
from batch.model.record import Record
from batch.runtime.capacity import Capacity
from batch.runtime.graph import Runner
from batch.storage.workdir import WorkDirectory

TOYS = Path(__file__).parent / "toys"
if str(TOYS) not in sys.path:
    sys.path.insert(0, str(TOYS))


@dataclasses.dataclass
class Toys:
    """A plan of toy tasks, a work directory, and the orders for faults."""

    work: WorkDirectory
    control: Path
    plan: Plan

    def order(self, task_id: str, what: str) -> Path:
        path = self.control / "orders" / task_id.replace("/", "__")
        path.write_text(what)
        return path

    def executed(self) -> Counter[str]:
        """How often each task's stage was really run."""
        names = (p.name.rpartition(".")[0].replace("__", "/") for p in (self.control / "executed").iterdir())
        return Counter(names)

    def forget(self) -> None:
        """Start counting executions anew."""
        for path in (self.control / "executed").iterdir():
            path.unlink()

    def run(
        self,
        client: object,
        attempts: int = 1,
        window: int = 8,
        largest: int = 10**9,
        workers: int = 3,
    ) -> dict[str, Record]:
        with self.work.writer():
            return Runner(
                client,  # type: ignore[arg-type]
                self.work,
                self.plan,
                attempts=attempts,
                window=window,
                capacity=lambda: Capacity({largest: workers}),
                stages="toystages",
            ).run()


@pytest.fixture
def toys(tmp_path: Path, toy_control: Path) -> Toys:
    """Two associations of three exposures, two pixfracs: 14 tasks."""
    for folder in ("orders", "executed"):
        for path in (toy_control / folder).iterdir():
            path.unlink()
    from toyplan import toy_plan

    return Toys(WorkDirectory(tmp_path / "work"), toy_control, toy_plan())


@pytest.fixture(scope="module")
def toy_control(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder through which tests order faults; workers know it from their environment."""
    control = tmp_path_factory.mktemp("control")
    (control / "orders").mkdir()
    (control / "executed").mkdir()
    before = {k: os.environ.get(k) for k in ("TOY_CONTROL", "PYTHONPATH")}
    os.environ["TOY_CONTROL"] = str(control)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(TOYS), before["PYTHONPATH"]]))
    yield control
    for name, value in before.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value


@pytest.fixture(scope="module")
def client(toy_control: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    """A real cluster of two worker processes."""
    from batch.config.cluster import ClusterSettings
    from batch.runtime.cluster import connect
    from batch.runtime.keeping import keep_nurseries

    settings = ClusterSettings(workers=2, memory=10**9)
    with connect(settings, (), WorkDirectory(tmp_path_factory.mktemp("cluster"))) as connected:
        keep_nurseries(connected)
        yield connected


@pytest.fixture
def programs(toys: Toys, tmp_path: Path) -> Iterator[object]:
    """Scheduler, workers and drivers as programs of their own; `toys` has the orders and counts."""
    from programs import programs

    with programs(tmp_path / "programs") as made:
        yield made
