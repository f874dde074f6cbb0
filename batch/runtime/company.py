"""Which tasks share a process, and what they need together."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

from batch.model.plan import Needs, Task


def groups(tasks: Sequence[Task], memory: Mapping[str, int], largest: int, shares: int) -> list[list[Task]]:
    """Tasks that run in one process each, in the order of the plan.

    Parameters
    ----------
    tasks : sequence of Task
        Of one association.
    memory : mapping
        Bytes asked for, by task id, where more than planned.
    largest : int
        Memory of the largest worker, bytes.
    shares : int
        Workers that an association may spread over: a group is no larger than needed to keep them busy.

    Returns
    -------
    list of list of Task
        Tasks that share a process are of one company (`Task.company`) and fit the largest worker.
    """
    kinds: dict[object, list[Task]] = {}
    for task in tasks:
        kinds.setdefault(task.company, []).append(task)
    made = []
    for kind in kinds.values():
        size = math.ceil(len(kind) / max(1, shares))
        start = 0
        while start < len(kind):
            count = size
            while count > 1 and together(kind[start : start + count], memory).memory > largest:
                count -= 1
            made.append(kind[start : start + count])
            start += count
    position = {task.id: number for number, task in enumerate(tasks)}
    return sorted(made, key=lambda group: position[group[0].id])


def together(tasks: Sequence[Task], memory: Mapping[str, int]) -> Needs:
    """What tasks need that run in one process."""
    first = max((t.needs for t in tasks), key=lambda n: n.memory)
    planned = max(memory.get(t.id, t.needs.memory) for t in tasks)
    return dataclasses.replace(
        first,
        memory=planned + sum(t.needs.together or 0 for t in tasks[1:]),
        seconds=sum(t.needs.seconds for t in tasks),
        timeout=sum(t.needs.timeout for t in tasks),
    )
