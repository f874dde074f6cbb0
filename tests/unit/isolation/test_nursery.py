"""A nursery outlives its forked children, and they know nothing of one another."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import psutil
import pytest

from batch.errors import ChildKilledError
from batch.isolation.ending import end_children

if TYPE_CHECKING:
    from conftest import Forked


def test_no_child_sees_what_another_left(forked: Forked) -> None:
    forked.run("import os, sys; os.environ['LEFT'] = sys.left = 'behind'; os.chdir('/')")
    forked.run("import os, sys; print('LEFT' in os.environ, hasattr(sys, 'left'), os.getcwd())")
    assert forked.said == [f"False False {forked.folder}"]


def test_random_numbers_differ(forked: Forked) -> None:
    for _ in range(2):
        forked.run("import random; print(random.random())")
    first, second = forked.said
    assert first != second


def test_it_has_its_own_name_among_processes(forked: Forked) -> None:
    forked.run("print(open('/proc/self/cmdline').read())#mark")
    assert forked.said[0].startswith("child of a test print(")


def test_an_error_is_told_by_status_and_log(forked: Forked) -> None:
    assert forked.run("raise RuntimeError('unforeseen')").exit_status == 1
    assert forked.said[-1] == "RuntimeError: unforeseen"


def test_what_is_to_run_at_exit_runs(forked: Forked) -> None:
    forked.run("import atexit; atexit.register(print, 'bye')")
    assert forked.said == ["bye"]


@pytest.mark.parametrize(
    ("code", "timeout"),
    [
        ("raise RuntimeError('unforeseen')", 30),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 30),
        ("import time; time.sleep(600)", 1),
    ],
)
def test_it_outlives_what_happens_to_a_child(forked: Forked, code: str, timeout: float) -> None:
    forked.run(code, timeout=timeout)
    forked.run("print('another')")
    assert forked.said[-1] == "another"


def test_a_folder_that_is_gone(forked: Forked) -> None:
    folder = forked.folder
    ending = forked.nursery.run(
        ["pass"], cwd=folder / "gone", log=folder / "log", timeout=30, environment=forked.environment
    )
    assert ending.exit_status == 1
    assert "gone" in forked.said[-1]
    assert forked.run("pass").exit_status == 0


def test_children_of_a_folder_can_be_ended_from_outside(forked: Forked) -> None:
    endings = []
    thread = threading.Thread(target=lambda: endings.append(forked.run(forked.waiting)))
    thread.start()
    forked.heard()
    assert end_children(forked.folder / "other") == 0
    assert end_children(forked.folder) == 1
    thread.join(30)
    assert endings[0].signal == signal.SIGKILL
    assert end_children(forked.folder) == 0
    assert forked.run("pass").exit_status == 0


def test_one_that_was_killed_says_that_it_is_of_no_more_use(forked: Forked) -> None:
    assert forked.nursery.usable
    forked.process.kill()
    with pytest.raises(ChildKilledError):
        forked.run("pass")
    assert not forked.nursery.usable


def test_a_child_dies_when_the_nursery_is_closed(forked: Forked) -> None:
    """As a worker does that ends in order while a thread waits for its task."""
    raised = []

    def wait() -> None:
        with pytest.raises(ChildKilledError) as caught:
            forked.run(forked.waiting)
        raised.append(caught)

    thread = threading.Thread(target=wait)
    thread.start()
    children = forked.pids()
    forked.nursery.close()
    thread.join(30)
    assert raised
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive


@pytest.mark.parametrize("modules", [(), ("batch.calibration.stages",), ("drizzlepac",)])
def test_the_program_of_tasks_has_one_thread(modules: tuple[str, ...]) -> None:
    """A fork takes along no other; libraries that start some at import have no place in it or a branch."""
    code = (
        "import os, sys; sys.argv = ['x']; import batch.runtime.nursery\n"
        f"for module in {modules}: __import__(module)\n"
        "print(len(os.listdir('/proc/self/task')), 'numba' in sys.modules)"
    )
    from batch.runtime.worker import environment

    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(1), capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["1", str("batch.calibration.stages" in modules)]
