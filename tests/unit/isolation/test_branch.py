"""A nursery's branch imports once what its children need, and the others know nothing of it."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import psutil
import pytest

from batch.isolation.ending import end_children
from batch.isolation.nursery import Nursery

if TYPE_CHECKING:
    from conftest import Branched, Forked

WHO = "import heavy, os; print(heavy.BY, os.getppid(), os.getpid())"
MUCH = 2**40


def run(forked: Forked, code: str, *modules: str, room: int = MUCH) -> None:
    ending = forked.nursery.run(
        [code],
        cwd=forked.folder,
        log=forked.folder / "log",
        timeout=30,
        environment=forked.environment,
        modules=modules,
        room=room,
    )
    assert ending.exit_status == 0, forked.said


def while_it_waits(branched: Branched, do: Callable[[psutil.Process], None]) -> int | None:
    """The signal that ended a child with whose process something is done."""
    endings = []
    thread = threading.Thread(target=lambda: endings.append(branched.run(branched.waiting)))
    thread.start()
    (child,) = branched.pids()
    do(child)
    thread.join(30)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    return endings[0].signal


def test_its_children_find_imported_what_it_imports(forked: Forked) -> None:
    for _ in range(2):
        run(forked, WHO, "heavy")
    first, second = (line.split() for line in forked.said)
    # by the process that each was forked from, which was the same
    assert first[:2] == second[:2] == [first[0], first[0]]
    assert len({*first, *second}) == 3


def test_other_children_do_not(forked: Forked) -> None:
    run(forked, "pass", "heavy")
    run(forked, "import sys; print('heavy' in sys.modules)")
    assert forked.said == ["False"]


@pytest.mark.parametrize(("room", "kept"), [(MUCH, True), (10**6, False)])
def test_it_waits_while_others_run_where_there_is_room(forked: Forked, room: int, kept: bool) -> None:
    run(forked, WHO, "heavy")
    run(forked, "import os, psutil; print(len(psutil.Process(os.getppid()).children()))", room=room)
    run(forked, WHO, "heavy")
    (first, processes, second) = forked.said
    assert int(processes) == 1 + kept
    assert (first.split()[0] == second.split()[0]) is kept


def test_there_is_one_at_a_time(forked: Forked) -> None:
    for modules in (("heavy",), ("json.tool",), ("heavy", "json.tool")):
        run(forked, f"import sys; assert set({modules}) <= set(sys.modules)", *modules)
        assert len(forked.process.children()) == 1


def test_what_cannot_be_imported_is_told_in_the_log_of_who_needs_it(forked: Forked) -> None:
    run(forked, "print('well')", "no_such_module", "heavy")
    assert forked.said == ["well"]
    branched = forked.nursery.run(
        ["import no_such_module"],
        cwd=forked.folder,
        log=forked.folder / "log",
        timeout=30,
        environment=forked.environment,
        modules=["no_such_module"],
    )
    assert branched.exit_status == 1
    assert forked.said[-1] == "ModuleNotFoundError: No module named 'no_such_module'"


def test_what_is_said_on_import_is_in_the_log_of_who_needs_it_first(
    forked: Forked, capfd: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        run(forked, "print('well')", "talkative")
    assert forked.said == ["imported", "with a warning", "and by a program", "well", "well"]
    assert capfd.readouterr() == ("", "")


def test_one_that_was_killed_while_it_waited_is_replaced(forked: Forked) -> None:
    run(forked, WHO, "heavy")
    (branch,) = forked.process.children()
    branch.kill()
    deadline = time.monotonic() + 10
    while branch.status() != psutil.STATUS_ZOMBIE:  # until the nursery collects it
        assert time.monotonic() < deadline
        time.sleep(0.01)
    run(forked, WHO, "heavy")
    assert len(forked.process.children()) == 1


def test_a_child_dies_with_it_as_if_it_were_meant_itself(branched: Branched) -> None:
    """The kernel may take the one or the other when memory runs out."""
    assert while_it_waits(branched, lambda child: child.parent().kill()) == signal.SIGKILL
    branched.run(WHO)
    assert branched.said[-1].split()[0] == branched.said[-1].split()[1]


def test_its_child_can_be_ended_from_outside(branched: Branched) -> None:
    def end(child: psutil.Process) -> None:
        assert end_children(branched.folder / "other") == 0
        assert end_children(branched.folder) == 1

    assert while_it_waits(branched, end) == signal.SIGKILL


def test_whoever_ends_all_children_ends_no_branch(
    branched: Branched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(branched.folder)
    nursery = Nursery("nursery_program", branched.environment)
    branched = type(branched)(branched.folder, nursery)
    branched.run("pass")
    assert branched.process.cwd() == str(branched.folder)
    (branch,) = branched.process.children()
    assert end_children(branched.folder) == 0
    branched.run("pass")
    assert branched.process.children() == [branch]
    nursery.close()


def test_it_ends_with_the_nursery(branched: Branched) -> None:
    branched.run("pass")
    (branch,) = branched.process.children()
    branched.process.kill()
    branch.wait(10)
