"""What the cluster tells of itself while a run goes on: which task started where, who came and who left."""

from __future__ import annotations

import logging
import statistics
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from batch.model.plan import Task
from batch.model.record import Record
from batch.runtime.events import TOPIC_STARTED, EventLog, Silence

if TYPE_CHECKING:
    from distributed import Client

log = logging.getLogger(__name__)

# a task is a straggler when it takes so many times what others of its stage took, and a minute more
_FACTOR = 3.0
_SLACK_S = 60.0
_TYPICAL_OF = 5
_REMEMBER = 200


@dataclass(frozen=True)
class _Started:
    time: float
    worker: str
    memory: int
    """Bytes that the worker offers."""


class Watch:
    """Listens to Dask's events while the block lasts.

    Parameters
    ----------
    client : Client
        Of the cluster.
    run : str
        What other runs on the same cluster start is not ours.
    events : EventLog or Silence
        Takes what is heard.
    tasks : callable
        Ids of the tasks behind a key; none if it is not ours.
    """

    def __init__(
        self, client: Client, run: str, events: EventLog | Silence, tasks: Callable[[Any], Sequence[str]]
    ) -> None:
        self.looked = time.monotonic()
        self._client = client
        self._run = run
        self._events = events
        self._tasks = tasks
        self._started: dict[str, _Started] = {}
        self._in_hand: dict[str, Sequence[str]] = {}
        """By worker, the tasks that it started last: those of its request before them are over."""
        self._walls: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=_REMEMBER))
        self._told: set[str] = set()

    def __enter__(self) -> Watch:
        self._client.subscribe_topic(TOPIC_STARTED, self._on_start)
        self._client.subscribe_topic("all", self._on_change)
        return self

    def __exit__(self, *exception: object) -> None:
        for topic in (TOPIC_STARTED, "all"):
            try:
                self._client.unsubscribe_topic(topic)
            except Exception as error:
                # the connection is what was lost
                log.debug("%s: %s", topic, error)

    def ended(self, record: Record, attempt: int) -> None:
        """A task came to an end."""
        usage, failure = record.usage, record.failure
        self._told.discard(record.id)
        if failure is None:
            self._started.pop(record.id, None)
            if usage.wall:
                self._walls[record.stage].append(usage.wall)
            self._events.emit(
                "task-finished",
                task=record.id,
                status=record.status.value,
                wall=usage.wall,
                cpu=usage.cpu,
                peak_memory=usage.peak_memory,
                host=usage.host,
            )
            return
        self._events.emit(
            "task-failed",
            task=record.id,
            kind=failure.kind,
            message=failure.message,
            attempt=attempt,
            out_of_memory=failure.out_of_memory,
            wall=usage.wall,
            peak_memory=usage.peak_memory,
            host=usage.host,
        )

    def memory_of_worker(self, task_id: str) -> int:
        """Bytes that the worker offers on which a task started last; 0 if that is not known."""
        return self._started[task_id].memory if task_id in self._started else 0

    def look(self, open_tasks: Iterable[Task]) -> None:
        """Tell of tasks that take far longer than others of their stage, once each.

        They are not started a second time: a task has a time limit of its own, after which it *is* tried
        elsewhere, and until then a second one would need the memory twice to make the same product.
        """
        self.looked = now = time.monotonic()
        slow: list[str] = []
        for task in open_tasks:
            started = self._started.get(task.id)
            if started is None or task.id in self._told or not self._runs(task.id, started.worker):
                continue
            known = self._walls[task.stage]
            typical = statistics.median(known) if len(known) >= _TYPICAL_OF else task.needs.seconds
            # each was counted with its share of the process
            typical *= len(self._in_hand[started.worker])
            spent = now - started.time
            if spent > _FACTOR * typical + _SLACK_S:
                self._told.add(task.id)
                slow.append(
                    f"{task.id} takes {spent:.0f} s so far on {started.worker}, others {typical:.0f} s"
                )
                self._events.emit(
                    "task-straggling",
                    tasks=[task.id],
                    worker=started.worker,
                    seconds=round(spent, 1),
                    expected=round(typical, 1),
                )
        if slow:
            log.warning("%s%s", slow[0], f", and {len(slow) - 1} more such" if slow[1:] else "")

    def _on_start(self, event: tuple[float, Any]) -> None:
        _, message = event
        if message["run"] != self._run:
            return
        worker, memory = message["worker"], int(message["memory"])
        started = _Started(time.monotonic(), worker, memory)
        self._started |= dict.fromkeys(message["tasks"], started)
        self._in_hand[worker] = message["tasks"]
        self._events.emit("task-started", tasks=message["tasks"], worker=worker, host=message["host"])

    def _on_change(self, event: tuple[float, Any]) -> None:
        _, message = event
        action = message.get("action") if isinstance(message, dict) else None
        if action == "add-worker":
            self._events.emit("worker-joined", worker=message.get("worker", ""))
        elif action == "remove-worker":
            keys = message.get("processing-tasks", ())
            lost = [i for key in keys for i in self._tasks(tuple(key) if isinstance(key, list) else key)]
            running = sorted(i for i in lost if self._runs(i, message["worker"]))
            expected = bool(message.get("expected"))
            self._events.emit("worker-lost", worker=message["worker"], expected=expected, tasks=sorted(lost))
            if expected and running:
                self._events.emit("task-preempted", tasks=running, worker=message["worker"])
            self._in_hand.pop(message["worker"], None)

    def _runs(self, task_id: str, worker: str) -> bool:
        return task_id in self._started and task_id in self._in_hand.get(worker, ())
