"""Which tasks go to a worker together."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest
from distributed import Reschedule

from batch.config import Settings
from batch.model.observation import Association
from batch.model.plan import Needs, Task
from batch.model.record import Record, Status
from batch.runtime import announcing, worker
from batch.runtime.capacity import Capacity
from batch.runtime.company import companies, groups, together
from batch.runtime.rehearsal import large_plan
from batch.runtime.request import Request
from batch.storage.work import Location

ONE = Capacity({10**9: 4})


def task(stage: str, name: str, *upstream: str, seconds: float = 10.0, memory: int = 10**8) -> Task:
    return Task(stage, "asn", name, None, upstream, "f", Needs(memory, seconds, timeout=100.0))


def chain(count: int = 3, **needs: float) -> list[Task]:
    first = [task("first", f"e{n}", **needs) for n in range(count)]  # type: ignore[arg-type]
    return first + [task("second", f"e{n}", f"first/asn/e{n}", **needs) for n in range(count)]  # type: ignore[arg-type]


def names(made: Sequence[Sequence[Task]]) -> list[list[str]]:
    return [[f"{t.stage} {t.exposure}" for t in group] for group in made]


def test_a_minute_of_work_goes_together() -> None:
    assert names(groups(chain(), {}, ONE, 4)) == [
        ["first e0", "first e1", "first e2", "second e0", "second e1", "second e2"]
    ]
    assert [len(g) for g in groups(chain(seconds=20.0), {}, ONE, 4)] == [3, 3]
    assert [len(g) for g in groups(chain(seconds=61.0), {}, ONE, 4)] == [1] * 6


@pytest.mark.parametrize(("associations", "expected"), [(3, 6), (4, 1), (1000, 1)])
def test_only_where_workers_are_no_more_than_associations(associations: int, expected: int) -> None:
    assert len(groups(chain(), {}, ONE, associations)) == expected


def test_without_workers_nothing_is_known_of_them() -> None:
    assert len(groups(chain(), {}, Capacity({}), 4)) == 6


def test_none_takes_a_larger_worker_than_alone() -> None:
    tasks = [task("a", "e0"), task("b", "e0", memory=7 * 10**8), task("c", "e0", memory=6 * 10**8)]
    two = Capacity({5 * 10**8: 3, 10**9: 1})
    assert names(groups(tasks, {}, two, 4)) == [["a e0"], ["b e0", "c e0"]]
    assert len(groups(tasks, {}, ONE, 4)) == 1
    # one that was killed asks for more than was planned
    assert names(groups(tasks, {"a/asn/e0": 6 * 10**8}, two, 4)) == [["a e0", "b e0", "c e0"]]


def test_what_failed_before_goes_alone() -> None:
    made = groups(chain(), {}, ONE, 4, apart={"first/asn/e1"})
    assert names(made) == [["first e0"], ["first e1"], ["first e2", "second e0", "second e1", "second e2"]]


@pytest.mark.parametrize("largest", [10**9, 1_100_000_000, 4 * 10**9])
@pytest.mark.parametrize("seconds", [None, 0.1])
def test_groups_of_the_pipeline(largest: int, seconds: float | None) -> None:
    """Every task once, none before what it depends on, and no larger than the worker."""
    settings = Settings.model_validate({"sweep": {"scale": [0.03, 0.05], "pixfrac": [0.5, 0.8, 1.0]}})
    tasks = [
        dataclasses.replace(
            t,
            needs=dataclasses.replace(
                t.needs,
                memory=min(t.needs.memory, 10**9),
                seconds=t.needs.seconds if seconds is None else seconds,
                together=10**8 if t.stage == "sweep" else None,
            ),
        )
        for t in large_plan(4, {}, settings).tasks
    ]
    made = groups(tasks, {}, Capacity({largest: 1}), 1)
    assert len(made) < len(tasks) - 4
    done: set[str] = set()
    for group in made:
        inside = {t.id for t in group}
        assert {u for t in group for u in t.upstream} <= done | inside
        assert together(group, {}).memory <= largest
        for t in group:
            assert set(t.upstream) <= done
            done.add(t.id)
    assert sorted(done) == sorted(t.id for t in tasks)
    assert sum(len(group) for group in made) == len(tasks)


def test_needs_of_tasks_that_follow_one_another() -> None:
    needs = together([task("a", "e0", memory=5), task("b", "e0", memory=7, seconds=1.0)], {})
    assert (needs.memory, needs.seconds, needs.timeout) == (7, 11.0, 200.0)


def test_a_request_has_a_part_for_each_process() -> None:
    """Each with its own memory and time limit."""
    tasks = [t for t in large_plan(4, {}, Settings()).tasks if t.stage in ("combine", "sweep")]
    parts = list(of(tasks).processes())
    assert [p.tasks for p in parts] == [tuple(kind) for kind in companies(tasks)]
    assert [len(p.tasks) for p in parts] == [1, 10]
    assert [p.needs.timeout for p in parts] == [tasks[0].needs.timeout, 10 * tasks[1].needs.timeout]
    assert [p.needs.memory for p in parts] == [tasks[0].needs.memory, tasks[1].needs.memory]


def test_a_process_that_goes_without_others_has_what_was_asked_for() -> None:
    """More than planned, after it was killed for memory."""
    request = of([task("a", "e0")])
    asked = dataclasses.replace(request.needs, memory=3 * 10**9)
    (part,) = dataclasses.replace(request, needs=asked).processes()
    assert part.needs == asked


def of(tasks: Sequence[Task]) -> Request:
    return Request(tuple(tasks), together(tasks, {}), Association("asn", ()), {}, Location("/nowhere"))


def record(task: Task, status: Status = Status.DONE) -> Record:
    return Record(task.stage, task.subject, task.fingerprint, status)


def test_what_follows_is_given_the_records_of_what_went_before() -> None:
    given: dict[str, list[str]] = {}

    def do(request: Request, needed: tuple[Record, ...]) -> tuple[Record, ...]:
        given[request.tasks[0].id] = [r.id for r in needed]
        status = Status.FAILED if request.tasks[0].exposure == "e1" else Status.DONE
        return (record(request.tasks[0], status),)

    tasks = [*chain(), task("third", "e0", "second/asn/e0", "zeroth/asn/e0")]
    made = worker.each_process(of(tasks), [(record(task("zeroth", "e0")),)], do)
    assert [r.id for r in made] == [t.id for t in tasks]
    assert given["second/asn/e0"] == ["first/asn/e0"]
    assert given["third/asn/e0"] == ["second/asn/e0", "zeroth/asn/e0"]
    assert {r.id: r.reason for r in made if r.status is Status.BLOCKED} == {"second/asn/e1": "first/asn/e1"}
    assert "second/asn/e1" not in given


def test_a_worker_that_is_to_go_begins_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """The request goes to another one, which finds there what this one has published."""
    done: list[str] = []

    def do(request: Request, needed: tuple[Record, ...]) -> tuple[Record, ...]:
        done.append(request.tasks[0].id)
        return (record(request.tasks[0]),)

    monkeypatch.setattr(announcing, "told_to_go", lambda: len(done) == 2)
    with pytest.raises(Reschedule):
        worker.each_process(of(chain()), [], do)
    assert done == ["first/asn/e0", "first/asn/e1"]
