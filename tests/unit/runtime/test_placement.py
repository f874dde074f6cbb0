"""Which worker a task is given to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from batch.runtime.placement import choose


@dataclass(eq=False)
class Worker:
    address: str
    occupancy: float = 0.0
    processing: dict[str, float] = field(default_factory=dict)


@dataclass
class Scheduler:
    workers: list[Worker]
    n_tasks: int = 0

    @property
    def idle(self) -> dict[str, Worker]:
        return {w.address: w for w in self.workers if not w.processing}

    def __post_init__(self) -> None:
        self.running = set(self.workers)


def busy(address: str, seconds: float) -> Worker:
    return Worker(address, seconds, {"task": seconds})


def chosen(scheduler: Scheduler, offered: dict[str, float], asked: float) -> Any:
    worker = choose(scheduler, offered, asked)
    return worker and worker.address


def test_the_smallest_that_is_free_and_large_enough() -> None:
    scheduler = Scheduler([Worker("large"), Worker("small"), Worker("tiny"), busy("busy", 1.0)])
    offered = {"large": 9.0, "small": 3.0, "tiny": 1.0, "busy": 2.0}
    assert chosen(scheduler, offered, 2.0) == "small"
    assert chosen(scheduler, offered, 4.0) == "large"
    assert chosen(scheduler, offered, 10.0) is None


def test_where_none_is_free_the_one_that_is_first() -> None:
    scheduler = Scheduler([busy("a", 30.0), busy("b", 10.0), busy("c", 20.0), busy("tiny", 1.0)])
    assert chosen(scheduler, {"a": 3.0, "b": 3.0, "c": 3.0, "tiny": 1.0}, 2.0) == "b"


def test_of_a_thousand_busy_ones_few_are_asked_and_all_get_their_turn() -> None:
    asked = 0

    class Counting(Worker):
        @property
        def occupancy(self) -> float:
            nonlocal asked
            asked += 1
            return 5.0

        @occupancy.setter
        def occupancy(self, value: float) -> None:
            pass

    workers: list[Worker] = [Counting(f"w{n}", processing={"task": 1.0}) for n in range(1000)]
    offered = {w.address: 1.0 for w in workers}
    scheduler, found = Scheduler(workers), set()
    for scheduler.n_tasks in range(200):
        found.add(chosen(scheduler, offered, 1.0))
    assert asked <= 32 * 200
    assert len(found) == 200
