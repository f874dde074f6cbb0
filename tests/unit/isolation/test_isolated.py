"""Started or forked: a process that ends with its task, leaves no orphan, and whose memory is its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from batch.errors import ChildKilledError, ChildTimeoutError

if TYPE_CHECKING:
    from conftest import Isolated

SLEEP = "[sys.executable, '-c', 'import time; time.sleep(600)']"


def gone(*processes: psutil.Process) -> bool:
    """Whether they end within ten seconds; whoever adopts them may not have collected them yet."""
    _, alive = psutil.wait_procs(processes, timeout=10)
    return all(p.status() == psutil.STATUS_ZOMBIE for p in alive)


def test_status_folder_and_log(isolated: Isolated) -> None:
    ending = isolated.run(
        "import os, sys; print(os.getcwd()); print('trouble', file=sys.stderr); sys.exit(3)"
    )
    assert (ending.exit_status, ending.signal, ending.timed_out) == (3, None, False)
    assert isolated.said == [str(isolated.folder), "trouble"]


def test_the_whole_environment_is_given(isolated: Isolated) -> None:
    code = (
        "import os, subprocess; print(sorted(k for k in os.environ if not k.startswith('LC_')))\n"
        "print(subprocess.run(['/usr/bin/env'], capture_output=True, text=True).stdout)"
    )
    isolated.run(code, environment={"ONLY": "this"})
    assert isolated.said[0] == "['ONLY']"
    assert "ONLY=this" in isolated.said[1:]


def test_the_kernel_takes_the_child_first_when_memory_runs_out(isolated: Isolated) -> None:
    """And not the worker, however large that is, nor what forks the others."""
    isolated.run(
        "import os\n"
        f"for process in ('self', {isolated.outlives}):\n"
        "    print(open(f'/proc/{process}/oom_score_adj').read(), end='')"
    )
    assert isolated.said == ["1000", Path("/proc/self/oom_score_adj").read_text().strip()]


@pytest.mark.parametrize("megabytes", [60, 300])
def test_peak_memory_is_the_childs_own(isolated: Isolated, megabytes: int) -> None:
    """Under a parent that holds more than the child ever does, and after a child that held more."""
    ballast = bytearray(os.urandom(1024)) * (400 * 1024)
    isolated.run("x = b'x'; x = x * 350_000_000")
    ending = isolated.run(f"x = b'x'; x = x * {megabytes}_000_000")
    assert len(ballast) > 4e8
    assert megabytes * 1e6 < ending.peak_memory < megabytes * 1e6 * 1.2 + 40e6


def test_peak_memory_covers_grandchildren(isolated: Isolated) -> None:
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'bytearray(b\"x\" * 200_000_000)'])"
    assert isolated.run(code).peak_memory > 200e6


def test_cpu_time_is_that_of_each_child(isolated: Isolated) -> None:
    burn = "import time\nend = time.process_time() + 0.5\nwhile time.process_time() < end: pass"
    assert 0.5 <= isolated.run(burn).cpu < 5
    assert isolated.run("pass").cpu < 0.4


def test_a_time_limit_ends_the_whole_group(isolated: Isolated) -> None:
    code = (
        "import subprocess, sys, time\n"
        f"p = subprocess.Popen({SLEEP}); print(p.pid, flush=True); time.sleep(600)"
    )
    ending = isolated.run(code, timeout=1.5)
    assert ending.timed_out
    with pytest.raises(ChildTimeoutError, match="x: not done after 2 s"):
        ending.check("x", 2)
    grandchild = int(isolated.said[0])
    assert not psutil.pid_exists(grandchild) or gone(psutil.Process(grandchild))


def test_a_deaf_child_is_killed(isolated: Isolated) -> None:
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    ending = isolated.run(code, timeout=1)
    assert ending.timed_out
    assert ending.signal == signal.SIGKILL


def test_a_killed_child_says_so(isolated: Isolated) -> None:
    ending = isolated.run("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(ChildKilledError, match="killed by SIGKILL, most often for want of memory"):
        ending.check("x", 1)


def test_what_a_child_leaves_running_is_ended(isolated: Isolated) -> None:
    assert isolated.run(f"import subprocess, sys; print(subprocess.Popen({SLEEP}).pid)").exit_status == 0
    left = int(isolated.said[0])
    assert not psutil.pid_exists(left) or gone(psutil.Process(left))


def test_a_child_dies_with_its_worker(isolated: Isolated) -> None:
    """kill -9 of the calling process takes along what is between, the child and its own children."""
    code = (
        "import os, subprocess, sys, time\n"
        f"p = subprocess.Popen({SLEEP}); print(os.getppid(), os.getpid(), p.pid, flush=True); time.sleep(600)"
    )
    worker = subprocess.Popen([sys.executable, "-c", isolated.text(code)], env=isolated.environment)
    processes = isolated.pids()
    worker.kill()
    worker.wait()
    assert gone(*processes)


@pytest.mark.parametrize("isolated", ["started", "forked"], indirect=True)
def test_a_child_dies_with_what_watches_it(isolated: Isolated) -> None:
    watched: list[psutil.Process] = []

    def kill() -> None:
        watched.extend(isolated.pids())
        watched[0].parent().kill()

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(ChildKilledError, match="supervisor was killed; run again"):
        isolated.run(isolated.waiting, timeout=60)
    killer.join()
    assert gone(*watched)
