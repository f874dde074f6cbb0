"""What a cluster offers at the moment: workers join and leave while a run goes on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distributed import Client


@dataclass(frozen=True)
class Capacity:
    """Workers by the memory that tasks may plan with on them."""

    classes: Mapping[int, int] = field(default_factory=dict)
    """Bytes: number of workers."""

    @property
    def workers(self) -> int:
        """How many there are."""
        return sum(self.classes.values())

    @property
    def largest(self) -> int:
        """Bytes that the largest one offers; 0 without workers."""
        return max(self.classes, default=0)

    def smallest(self, memory: int) -> int | None:
        """Bytes of the smallest class that offers `memory`, if there is one."""
        return min((c for c in self.classes if c >= memory), default=None)

    def above(self, memory: int) -> int | None:
        """Bytes of the smallest class that offers more than `memory`, if there is one."""
        return min((c for c in self.classes if c > memory), default=None)

    def after_kill(self, asked: int, ran_on: int = 0) -> int:
        """What a task asks for next that was killed for want of memory.

        Twice as much, and more than the worker offered on which it was killed; but never more than the
        largest worker has.

        Parameters
        ----------
        asked : int
            Bytes that it asked for.
        ran_on : int
            Bytes that its worker offered, 0 if that is not known.
        """
        wanted = max(2 * asked, self.above(ran_on) or 0) if ran_on else 2 * asked
        return max(asked, min(wanted, self.largest))


def measure(client: Client) -> Capacity:
    """What the client's cluster offers now."""
    return Capacity(client.run_on_scheduler(_classes))


def _classes(dask_scheduler: Any) -> dict[int, int]:
    """Runs on the scheduler: a thousand workers' descriptions need not travel."""
    return dict(Counter(int(ws.resources.get("memory", 0)) for ws in dask_scheduler.workers.values()))
