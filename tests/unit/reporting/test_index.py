"""The index page of a run, and that whatever comes from files is escaped."""

from __future__ import annotations

import enum
from dataclasses import dataclass

import pytest

from batch.model.observation import Association, Exposure, Product, SetAside
from batch.model.plan import Needs, Plan, Task
from batch.model.record import Failure, Record, Status
from batch.reporting.html import association_page, index


class State(enum.Enum):
    DONE = "done"
    FAILED = "failed"
    BLOCKED = "blocked"
    TO_DO = "to do"


@dataclass(frozen=True)
class Entry:
    state: State
    record: Record | None = None
    log: str | None = None


EVIL = '<script>alert("x")</script>'


def exposure(root: str) -> Exposure:
    return Exposure(root, "WFC", "WFC", "ABCD", ("F606W",), 339.0, 53765.5, (2068, 4144), 2, "1-1")


def task(stage: str, association: str, root: str | None = None) -> Task:
    return Task(stage, association, root, None, (), "f" * 64, Needs(1, 1, 1))


@pytest.fixture
def run() -> tuple[Plan, dict[str, Entry]]:
    """One association that is done, one in which an exposure failed."""
    good = Association("j9l960010", (exposure("j9l960a7q"), exposure("j9l960a9q")))
    bad = Association(
        "j8bt05010", (exposure("j8bt05njq"),), (SetAside(exposure("j8bt06o6q"), "other filter"),)
    )
    tasks = (
        task("select", "j9l960010"),
        task("report", "j9l960010"),
        task("calibrate", "j8bt05010", "j8bt05njq"),
        task("select", "j8bt05010"),
        task("report", "j8bt05010"),
    )
    choice = {"pixfrac": 0.7, "passed": True, "why": "pixfrac 0.7 is the smallest"}
    mosaic, page = (
        Product(kind, name, 1, "0" * 64)
        for kind, name in (("chosen", "j9l960010_drz.fits"), ("report", "j9l960010.html"))
    )
    failure = Failure("InputError", f"j8bt05njq_raw.fits[SCI,1]: broken {EVIL}")
    log = "failures/calibrate/j8bt05010/j8bt05njq/attempt-2/task.log"
    entries = {
        "select/j9l960010": Entry(
            State.DONE, Record("select", "j9l960010", "f", Status.DONE, products=(mosaic,), results=choice)
        ),
        "report/j9l960010": Entry(
            State.DONE, Record("report", "j9l960010", "f", Status.DONE, products=(page,))
        ),
        "calibrate/j8bt05010/j8bt05njq": Entry(
            State.FAILED, Record("calibrate", "j8bt05010/j8bt05njq", "f", Status.FAILED, failure=failure), log
        ),
        "select/j8bt05010": Entry(State.BLOCKED),
    }
    return Plan((good, bad), tasks, {}), entries


def test_index(run: tuple[Plan, dict[str, Entry]]) -> None:
    text = index(*run)
    assert '<a href="../products/report/j9l960010/j9l960010.html">j9l960010</a>' in text
    assert 'href="../products/select/j9l960010/j9l960010_drz.fits"' in text
    assert ">0.7<" in text.replace("\n", "").replace(" ", "")
    assert 'href="../failures/calibrate/j8bt05010/j8bt05njq/attempt-2/task.log"' in text
    for count, state in ((2, "done"), (1, "failed"), (1, "blocked"), (1, "to do")):
        assert f"<b>{count}</b>{state}" in text
    assert "+ 1 set aside" in text


def test_index_of_nothing() -> None:
    assert "0 associations" in index(Plan((), (), {}), {})


def test_products_of_failed_tasks_are_not_linked(run: tuple[Plan, dict[str, Entry]]) -> None:
    plan, entries = run
    stale = {k: Entry(State.FAILED, e.record) for k, e in entries.items()}
    text = index(plan, stale)
    assert "j9l960010.html" not in text
    assert "drz.fits" not in text


def test_everything_is_escaped(run: tuple[Plan, dict[str, Entry]]) -> None:
    assert "<script" not in index(*run)
    association = Association("a", (exposure("j9l960a7q"),), (SetAside(exposure("j9l960a9q"), EVIL),))
    records = [
        Record("fetch", "a", "f", Status.SKIPPED, reason=EVIL, notes=(EVIL,), versions={EVIL: EVIL}),
        Record(
            "references",
            "a/x",
            "f",
            Status.DONE,
            results={"keywords": {EVIL: EVIL}, "context": EVIL, "omitted": [EVIL]},
        ),
        Record("align", "a", "f", Status.DONE, results={"reference": EVIL, "reason": EVIL}),
    ]
    page = association_page(association, records)
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 8
