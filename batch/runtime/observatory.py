"""What the scheduler tells Prometheus of stages, and which worker it gives a task to.

Registered on the scheduler by the driver (`watch`), so that it works the same for a cluster on this machine
and for one of somebody else's. Metrics stand with Dask's own on the scheduler's ``/metrics``:

================================  =========  ============================================================
acs_batch_tasks_total             counter    stage, status: tasks that came to an end
acs_batch_task_seconds            histogram  stage: wall time of a task
acs_batch_task_peak_memory_bytes  histogram  stage: largest resident set of a task's process
acs_batch_memory_limit_bytes      gauge      stage: the most that a task of it asked for
acs_batch_queue                   gauge      stage, state (waiting, processing, no-worker): requests sent, by
                                             the stage of their first task
acs_batch_handed_back_total       counter    how (told to go, lost): tasks whose worker left before their end
================================  =========  ============================================================
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from distributed.diagnostics.plugin import SchedulerPlugin

from batch.runtime.events import TOPIC_FINISHED

if TYPE_CHECKING:
    from distributed import Client

log = logging.getLogger(__name__)

NAME = "acs-batch"

_SECONDS = (1, 3, 10, 30, 60, 120, 300, 600, 1200, 3600)
_BYTES = tuple(int(g * 1e9) for g in (0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64))
_QUEUE_STATES = ("waiting", "processing", "no-worker")


class _Histogram:
    """Counts below bounds, and the sum, of one stage."""

    def __init__(self, bounds: tuple[int, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        place = next((i for i, bound in enumerate(self.bounds) if value <= bound), len(self.bounds))
        self.counts[place] += 1
        self.sum += value

    def buckets(self) -> list[tuple[str, float]]:
        """As Prometheus counts: everything up to each bound."""
        total, found = 0, []
        for bound, count in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            total += count
            found.append((bound, float(total)))
        return found


class Observatory(SchedulerPlugin):  # type: ignore[misc]
    """Counts what workers report, and answers when Prometheus asks."""

    name = NAME
    # two runs on one scheduler share it
    idempotent = True

    def __init__(self) -> None:
        self._tasks: dict[tuple[str, str], int] = {}
        self._wall: dict[str, _Histogram] = {}
        self._memory: dict[str, _Histogram] = {}
        self._asked: dict[str, int] = {}
        self._handed_back = {"told to go": 0, "lost": 0}
        self._scheduler: Any = None

    async def start(self, scheduler: Any) -> None:
        """On the scheduler, when it takes the plugin."""
        self._scheduler = scheduler
        try:
            from prometheus_client import REGISTRY
        except ImportError:
            log.warning("prometheus_client is not installed where the scheduler runs: no metrics of stages")
            return
        REGISTRY.register(self)

    async def close(self) -> None:
        """On the scheduler, at its end; another one may start in the same process."""
        import contextlib

        self._scheduler = None
        with contextlib.suppress(ImportError, KeyError):
            from prometheus_client import REGISTRY

            REGISTRY.unregister(self)

    def log_event(self, topic: str, message: Any) -> None:
        """What a worker says of a process that ended, and Dask of a worker that left."""
        if topic == "all" and message.get("action") == "remove-worker":
            how = "told to go" if message.get("expected") else "lost"
            self._handed_back[how] += len(message.get("processing-tasks", ()))
        if topic != TOPIC_FINISHED:
            return
        for stage, status, wall, peak, asked in message.get("tasks", ()):
            self._tasks[stage, status] = self._tasks.get((stage, status), 0) + 1
            self._asked[stage] = max(asked, self._asked.get(stage, 0))
            if wall:
                self._wall.setdefault(stage, _Histogram(_SECONDS)).add(wall)
                self._memory.setdefault(stage, _Histogram(_BYTES)).add(peak)

    def collect(self) -> Iterable[Any]:
        """The metrics, each time that they are asked for."""
        from prometheus_client.core import (
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
        )

        tasks = CounterMetricFamily(
            "acs_batch_tasks", "Tasks that came to an end.", labels=["stage", "status"]
        )
        for (stage, status), count in sorted(self._tasks.items()):
            tasks.add_metric([stage, status], count)
        yield tasks
        for name, text, found in (
            ("acs_batch_task_seconds", "Wall time of a task, s.", self._wall),
            ("acs_batch_task_peak_memory_bytes", "Largest resident set of its process.", self._memory),
        ):
            family = HistogramMetricFamily(name, text, labels=["stage"])
            for stage, histogram in sorted(found.items()):
                family.add_metric([stage], histogram.buckets(), histogram.sum)
            yield family
        asked = GaugeMetricFamily(
            "acs_batch_memory_limit_bytes", "The most that a task asked for.", labels=["stage"]
        )
        for stage, memory in sorted(self._asked.items()):
            asked.add_metric([stage], memory)
        yield asked
        queue = GaugeMetricFamily(
            "acs_batch_queue",
            "Requests that have not ended, by the stage of their first task.",
            labels=["stage", "state"],
        )
        for stage, counts in sorted(self._queue().items()):
            for state in _QUEUE_STATES:
                queue.add_metric([stage, state], counts.get(state, 0))
        yield queue
        back = CounterMetricFamily(
            "acs_batch_handed_back", "Tasks whose worker left before they ended.", labels=["how"]
        )
        for how, count in self._handed_back.items():
            back.add_metric([how], count)
        yield back

    def _queue(self) -> Mapping[str, Mapping[str, int]]:
        if self._scheduler is None:
            return {}
        # Dask takes the first part of a key, here the stage, as its prefix
        return {
            name: dict(prefix.states)
            for name, prefix in self._scheduler.task_prefixes.items()
            if name in self._asked or any(prefix.states[s] for s in _QUEUE_STATES)
        }


def watch(client: Client) -> None:
    """Put the plugin on the client's scheduler; without it a run goes on, only without these metrics."""
    try:
        client.register_plugin(Observatory())
    except Exception as error:
        log.warning("the scheduler takes no plugin (%s): no metrics of stages", error)
