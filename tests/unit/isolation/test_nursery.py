"""Forked children are as separate as those that are started anew, and their nursery outlives them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from batch.errors import ChildKilledError
from batch.isolation.child import Ending
from batch.isolation.ending import end_children
from batch.isolation.nursery import Nursery

PROGRAMS = str(Path(__file__).parent / "programs")
ENVIRONMENT = {**os.environ, "PYTHONPATH": PROGRAMS, "PYTHONUNBUFFERED": "1"}


@pytest.fixture
def nursery() -> Iterator[Nursery]:
    made = Nursery("nursery_program", ENVIRONMENT)
    yield made
    made.close()


def run(
    nursery: Nursery, folder: Path, code: str, timeout: float = 30, environment: dict[str, str] | None = None
) -> Ending:
    given = ENVIRONMENT if environment is None else environment
    return nursery.run([code], cwd=folder, log=folder / "log", timeout=timeout, environment=given)


def said(folder: Path) -> list[str]:
    return (folder / "log").read_text().splitlines()


def process_of(nursery: Nursery) -> psutil.Process:
    return psutil.Process(nursery._process.pid)


def wait_until_said(folder: Path) -> list[str]:
    """The first lines of a child, once there are any."""
    deadline = time.monotonic() + 30
    while not ((folder / "log").exists() and said(folder)):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return said(folder)


def child_of(nursery: Nursery, folder: Path) -> psutil.Process:
    """The child, once it has said something."""
    wait_until_said(folder)
    (child,) = process_of(nursery).children()
    return child


def test_folder_log_status_and_environment(nursery: Nursery, tmp_path: Path) -> None:
    code = (
        "import os, subprocess, sys; print(os.getcwd(), sorted(os.environ)); status = 3\n"
        "print(subprocess.run(['/usr/bin/env'], capture_output=True, text=True).stdout.strip())\n"
        "print('trouble', file=sys.stderr)"
    )
    ending = run(nursery, tmp_path, code, environment={"ONLY": "this"})
    assert (ending.exit_status, ending.signal, ending.timed_out) == (3, None, False)
    assert said(tmp_path) == [f"{tmp_path} ['ONLY']", "ONLY=this", "trouble"]


def test_no_child_sees_what_another_left(nursery: Nursery, tmp_path: Path) -> None:
    run(nursery, tmp_path, "import os, sys; os.environ['LEFT'] = sys.left = 'behind'; os.chdir('/')")
    run(nursery, tmp_path, "import os, sys; print('LEFT' in os.environ, hasattr(sys, 'left'), os.getcwd())")
    assert said(tmp_path) == [f"False False {tmp_path}"]


def test_random_numbers_differ(nursery: Nursery, tmp_path: Path) -> None:
    for _ in range(2):
        run(nursery, tmp_path, "import random; print(random.random())")
    first, second = said(tmp_path)
    assert first != second


def test_it_has_its_own_name_among_processes(nursery: Nursery, tmp_path: Path) -> None:
    run(nursery, tmp_path, "print(open('/proc/self/cmdline').read())#mark")
    assert said(tmp_path)[0].startswith("child of a test print(")


def test_an_error_is_told_by_status_and_log(nursery: Nursery, tmp_path: Path) -> None:
    assert run(nursery, tmp_path, "raise RuntimeError('unforeseen')").exit_status == 1
    assert said(tmp_path)[-1] == "RuntimeError: unforeseen"
    assert run(nursery, tmp_path, "print('still there')").exit_status == 0


def test_what_is_to_run_at_exit_runs(nursery: Nursery, tmp_path: Path) -> None:
    run(nursery, tmp_path, "import atexit; atexit.register(print, 'bye')")
    assert said(tmp_path) == ["bye"]


@pytest.mark.parametrize("megabytes", [60, 300])
def test_peak_memory_is_that_of_each_child(nursery: Nursery, tmp_path: Path, megabytes: int) -> None:
    run(nursery, tmp_path, "x = b'x'; x = x * 700_000_000")
    ending = run(nursery, tmp_path, f"x = b'x'; x = x * {megabytes}_000_000")
    assert megabytes * 1e6 < ending.peak_memory < megabytes * 1e6 * 1.2 + 40e6


def test_cpu_time_is_that_of_each_child(nursery: Nursery, tmp_path: Path) -> None:
    burn = "import time\nwhile time.process_time() < 0.5: pass"
    assert 0.5 <= run(nursery, tmp_path, burn).cpu < 5
    assert run(nursery, tmp_path, "pass").cpu < 0.4


def test_a_time_limit_ends_the_whole_group(nursery: Nursery, tmp_path: Path) -> None:
    code = (
        "import subprocess, sys, time\n"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print(p.pid, flush=True); time.sleep(600)"
    )
    ending = run(nursery, tmp_path, code, timeout=1.5)
    assert ending.timed_out
    grandchild = int(said(tmp_path)[0])
    psutil.wait_procs([psutil.Process(grandchild)] if psutil.pid_exists(grandchild) else [], timeout=10)
    assert not psutil.pid_exists(grandchild)
    assert run(nursery, tmp_path, "pass").exit_status == 0


def test_a_killed_child_says_so(nursery: Nursery, tmp_path: Path) -> None:
    ending = run(nursery, tmp_path, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert ending.signal == signal.SIGKILL
    assert run(nursery, tmp_path, "pass").exit_status == 0


def test_the_kernel_takes_the_child_first_when_memory_runs_out(nursery: Nursery, tmp_path: Path) -> None:
    run(nursery, tmp_path, "print(open('/proc/self/oom_score_adj').read())")
    assert int(said(tmp_path)[0]) == 1000
    before = int(Path("/proc/self/oom_score_adj").read_text())
    adjusted = Path(f"/proc/{process_of(nursery).pid}/oom_score_adj")
    assert int(adjusted.read_text()) == before


def test_a_folder_that_is_gone(nursery: Nursery, tmp_path: Path) -> None:
    ending = nursery.run(
        ["pass"], cwd=tmp_path / "gone", log=tmp_path / "log", timeout=30, environment=ENVIRONMENT
    )
    assert ending.exit_status == 1
    assert "gone" in said(tmp_path)[-1]
    assert run(nursery, tmp_path, "pass").exit_status == 0


def test_children_of_a_folder_can_be_ended_from_outside(nursery: Nursery, tmp_path: Path) -> None:
    endings = []
    waiting = "import time; print('here', flush=True); time.sleep(600)"
    thread = threading.Thread(target=lambda: endings.append(run(nursery, tmp_path, waiting)))
    thread.start()
    child_of(nursery, tmp_path)
    assert end_children(tmp_path / "other") == 0
    assert end_children(tmp_path) == 1
    thread.join(30)
    assert endings[0].signal == signal.SIGKILL
    assert end_children(tmp_path) == 0
    assert run(nursery, tmp_path, "pass").exit_status == 0


def test_a_child_dies_with_its_nursery(nursery: Nursery, tmp_path: Path) -> None:
    pids: list[psutil.Process] = []

    def kill() -> None:
        pids.append(child_of(nursery, tmp_path))
        process_of(nursery).kill()

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(ChildKilledError, match="supervisor was killed; run again"):
        run(nursery, tmp_path, "import time; print('here', flush=True); time.sleep(600)")
    killer.join(30)
    _, alive = psutil.wait_procs(pids, timeout=10)
    assert not alive
    assert not nursery.usable


def test_a_child_dies_when_the_nursery_is_closed(nursery: Nursery, tmp_path: Path) -> None:
    """As a worker does that ends in order while a thread waits for its task."""
    raised = []

    def wait() -> None:
        with pytest.raises(ChildKilledError) as caught:
            run(nursery, tmp_path, "import time; print('here', flush=True); time.sleep(600)")
        raised.append(caught)

    thread = threading.Thread(target=wait)
    thread.start()
    child = child_of(nursery, tmp_path)
    nursery.close()
    thread.join(30)
    assert raised
    _, alive = psutil.wait_procs([child], timeout=10)
    assert not alive


def test_nursery_and_child_die_with_their_worker(tmp_path: Path) -> None:
    code = "import os, time; print(os.getppid(), os.getpid(), flush=True); time.sleep(600)"
    outer = (
        "import os; from pathlib import Path; from batch.isolation.nursery import Nursery\n"
        f"here = Path({str(tmp_path)!r})\n"
        f"Nursery('nursery_program', dict(os.environ)).run([{code!r}], cwd=here, log=here / 'log', "
        "timeout=600, environment=dict(os.environ))"
    )
    worker = subprocess.Popen([sys.executable, "-c", outer], env=ENVIRONMENT)
    processes = [psutil.Process(int(pid)) for pid in wait_until_said(tmp_path)[0].split()]
    worker.kill()
    worker.wait()
    _, alive = psutil.wait_procs(processes, timeout=10)
    assert not alive


def test_the_program_of_tasks_has_one_thread(tmp_path: Path) -> None:
    """A fork takes along no other; libraries that start some at import have no place in it."""
    code = (
        "import os, sys; sys.argv = ['x']; import batch.runtime.nursery\n"
        "print(len(os.listdir('/proc/self/task')), 'numba' in sys.modules)"
    )
    from batch.runtime.worker import environment

    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(1), capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["1", "False"]
