"""How many workers one scheduler keeps up with, and what to do with more."""

from __future__ import annotations

import itertools

from batch.config.cluster import ClusterSettings
from batch.model.plan import Plan
from batch.runtime.capacity import Capacity
from batch.runtime.company import groups

# CPU of a scheduler, which has one thread, as `acs-batch rehearse` measured it (k8s/README.md): for what goes
# to a worker and comes back, and the share of the thread that up to 200 heartbeats a second take
REQUEST_S = 0.006
HEARTBEATS = 0.2

_SAMPLE = 100


def most_workers(plan: Plan) -> int:
    """How many workers one scheduler can keep busy with the tasks of a plan; they take what is planned.

    More of them end their tasks faster than the scheduler sends new ones.
    """
    largest = max((t.needs.memory for t in plan.tasks), default=1)
    seconds, requests = 0.0, 0
    by_association = itertools.groupby(plan.tasks, lambda task: task.association)
    for _, tasks in itertools.islice(by_association, _SAMPLE):
        made = groups(list(tasks), {}, Capacity({largest: 1}), 1)
        requests += len(made)
        seconds += sum(t.needs.seconds for group in made for t in group)
    return most_at(seconds / max(1, requests), REQUEST_S)


def most_at(mean: float, cost: float) -> int:
    """The same, from the mean duration of a request and what one costs the scheduler, s."""
    return int(mean * (1 - HEARTBEATS) / cost)


def asked(settings: ClusterSettings) -> int:
    """The number of workers that the settings ask for at most; 0 where they leave it open."""
    return sum(c.maximum or c.workers for c in settings.classes) or settings.workers or 0


def advice(plan: Plan, workers: int) -> str:
    """One line, if so many workers are more than one scheduler keeps up with; else empty."""
    most = most_workers(plan)
    if workers <= most:
        return ""
    parts = -(-workers // max(1, most))
    return (
        f"{workers} workers are more than one scheduler keeps up with, about {most} for this plan: "
        f"some would wait for it. Make {parts} runs of it, each with a part of the list, a work directory "
        f"and a scheduler of its own (k8s/README.md, Sizing)"
    )
