"""What scheduler and driver take in a rehearsal."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass

from batch.model.plan import Task
from batch.runtime import limits

_TELL_S = 60.0


@dataclass(frozen=True)
class Figures:
    """What a rehearsal came to."""

    tasks: int
    requests: int
    """Tasks that go to a worker together are one to the scheduler."""
    workers: int
    wall: float
    """s, of the rehearsal"""
    busy: float
    """Sum of the tasks' durations, s, at the speed of the rehearsal."""
    scheduler_cpu: float
    """s"""
    driver_cpu: float
    memory: tuple[tuple[int, int], ...]
    """Resident sets of scheduler and driver, bytes: at the start, and after each tenth of the tasks."""
    speed: float

    @property
    def rate(self) -> float:
        """Requests that the scheduler sent and took back, per second."""
        return self.requests / self.wall

    @property
    def scheduler_cost(self) -> float:
        """CPU of the scheduler, s a request; it has one thread."""
        return self.scheduler_cpu / self.requests

    @property
    def driver_cost(self) -> float:
        """CPU of the driver, s a request."""
        return self.driver_cpu / self.requests

    @property
    def mean(self) -> float:
        """Duration of a request in truth, s."""
        return self.busy * self.speed / self.requests

    @property
    def most_workers(self) -> int:
        """How many workers one scheduler can keep busy: beyond, tasks end faster than it sends new ones."""
        return limits.most_at(self.mean, max(self.scheduler_cost, self.driver_cost))

    def text(self) -> str:
        """For people."""
        return (
            f"{self.tasks} tasks in {self.requests} requests of {self.mean:.1f} s (mean) on {self.workers} "
            f"workers: {self.wall:.0f} s at {self.speed:g} times the speed\n"
            f"scheduler: {self.rate:.0f} requests/s, {1e3 * self.scheduler_cost:.2f} ms CPU each, "
            f"memory after each tenth {_megabytes(s for s, _ in self.memory)} MB\n"
            f"driver: {1e3 * self.driver_cost:.2f} ms CPU a request, "
            f"memory {_megabytes(d for _, d in self.memory)} MB\n"
            f"workers had a task for {self.used:.0%} of the time\n"
            f"one scheduler keeps up with about {self.most_workers} workers at true durations\n"
        )

    @property
    def used(self) -> float:
        """The fraction of the workers' time in which they had a task."""
        return self.busy / (self.wall * self.workers)


class Meter:
    """What scheduler and driver take while a rehearsal goes on.

    Parameters
    ----------
    scheduler : int
        Its process id; the driver is this process.
    tasks : int
        How many there will be.
    """

    def __init__(self, scheduler: int, tasks: int) -> None:
        import psutil

        self._processes = psutil.Process(scheduler), psutil.Process(os.getpid())
        self._tasks = tasks
        self._before = [_cpu(p) for p in self._processes]
        self._told = self._start = time.perf_counter()
        self._busy = 0.0
        self._ended = 0
        self.memory: list[tuple[int, int]] = [self._resident()]
        """Resident sets of scheduler and driver, bytes: at the start, and after each tenth of the tasks."""

    @property
    def wall(self) -> float:
        """s"""
        return time.perf_counter() - self._start

    @property
    def cpu(self) -> tuple[float, float]:
        """Of scheduler and driver, s."""
        scheduler, driver = (
            _cpu(p) - before for p, before in zip(self._processes, self._before, strict=True)
        )
        return scheduler, driver

    def ended(self, task: Task) -> None:
        """A task came to its end."""
        self._ended += 1
        self._busy += task.needs.seconds
        if self._ended * 10 // self._tasks > len(self.memory) - 1:
            self.memory.append(self._resident())

    def line(self, requests: int, workers: int, speed: float) -> str | None:
        """How it goes, once a minute."""
        now = time.perf_counter()
        if now - self._told < _TELL_S:
            return None
        self._told = now
        scheduler, driver = self.cpu
        requests = max(1, requests)
        memory = self._resident()
        return (
            f"{self.wall / 60:.0f} min: {self._ended} of {self._tasks} tasks, {requests} requests ended; "
            f"CPU a request: scheduler {1e3 * scheduler / requests:.2f} ms, "
            f"driver {1e3 * driver / requests:.2f} ms; "
            f"memory: {memory[0] / 1e6:.0f} MB, {memory[1] / 1e6:.0f} MB; "
            f"workers used {self._busy / speed / self.wall / workers:.0%}"
        )

    def _resident(self) -> tuple[int, int]:
        scheduler, driver = (int(p.memory_info().rss) for p in self._processes)
        return scheduler, driver


def _cpu(process: object) -> float:
    times = process.cpu_times()  # type: ignore[attr-defined]
    return float(times.user + times.system)


def _megabytes(sizes: Iterable[int]) -> str:
    return ", ".join(f"{size / 1e6:.0f}" for size in sizes)
