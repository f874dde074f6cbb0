"""Which tasks go to a worker together, and what they need then.

Two reasons: tasks of one company (`Task.company`) share a process, because their stage does several of them
in one pass; and short tasks of an association follow one another on one worker, each in a process of its own,
because a scheduler spends as much on a second of work as on an hour.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence

from batch.model.plan import Needs, Task
from batch.runtime.capacity import Capacity

# Work that is worth a round through scheduler and driver, which costs them some ms: a thousand workers that
# are each given so much come back 17 times a second. More would only be more to do again when a worker goes.
_WORTH_S = 60.0


def groups(
    tasks: Sequence[Task],
    memory: Mapping[str, int],
    capacity: Capacity,
    associations: int,
    apart: Collection[str] = (),
) -> list[list[Task]]:
    """Tasks that go to a worker together, in the order of the plan.

    Where workers are more than associations, an association spreads over its share of them: companies are no
    larger than keeps those busy, and nothing else is put together.

    Parameters
    ----------
    tasks : sequence of Task
        Of one association, each after those that it depends on.
    memory : mapping
        Bytes asked for, by task id, where more than planned.
    capacity : Capacity
        What the cluster offers.
    associations : int
        How many are in flight, this one among them.
    apart : collection of str
        Ids of tasks that nothing but their own company may go with: they have failed before.

    Returns
    -------
    list of list of Task
        A group depends on earlier ones alone. Tasks of one company in it fit the largest worker together;
        none takes a larger worker because of the others of other companies.
    """
    shares = capacity.workers // max(1, associations)
    made = _companies(tasks, memory, capacity.largest, shares)
    if not 0 < capacity.workers <= associations:
        return made
    merged: list[list[Task]] = []
    for company in made:
        last = merged[-1] if merged else []
        tried = any(t.id in apart for t in (*last, *company))
        if last and not tried and _follows(last, company, memory, capacity):
            last.extend(company)
        else:
            merged.append(company)
    return merged


def companies(tasks: Sequence[Task]) -> list[list[Task]]:
    """Tasks of a group by the processes that they share, in order."""
    kinds: dict[object, list[Task]] = {}
    for task in tasks:
        kinds.setdefault(task.company, []).append(task)
    return list(kinds.values())


def together(tasks: Sequence[Task], memory: Mapping[str, int]) -> Needs:
    """What tasks need that go to a worker together."""
    kinds = companies(tasks)
    first = max((t.needs for t in tasks), key=lambda n: n.memory)
    return dataclasses.replace(
        first,
        memory=max(_memory(kind, memory) for kind in kinds),
        seconds=sum(t.needs.seconds for t in tasks),
        timeout=sum(t.needs.timeout for t in tasks),
    )


def _companies(
    tasks: Sequence[Task], memory: Mapping[str, int], largest: int, shares: int
) -> list[list[Task]]:
    made = []
    for kind in companies(tasks):
        size = math.ceil(len(kind) / max(1, shares))
        start = 0
        while start < len(kind):
            count = size
            while count > 1 and _memory(kind[start : start + count], memory) > largest:
                count -= 1
            made.append(kind[start : start + count])
            start += count
    position = {task.id: number for number, task in enumerate(tasks)}
    return sorted(made, key=lambda group: position[group[0].id])


def _memory(company: Sequence[Task], memory: Mapping[str, int]) -> int:
    planned = max(memory.get(t.id, t.needs.memory) for t in company)
    return planned + sum(t.needs.together or 0 for t in company[1:])


def _follows(
    group: Sequence[Task], company: Sequence[Task], memory: Mapping[str, int], capacity: Capacity
) -> bool:
    """Whether so much work is not too much, and takes no larger a worker than each of them alone."""
    if sum(t.needs.seconds for t in (*group, *company)) > _WORTH_S:
        return False
    # two parts of one company were split because they do not fit together
    if any(t.company == company[0].company for t in group):
        return False
    first, second = (capacity.smallest(together(part, memory).memory) for part in (group, company))
    return first == second
