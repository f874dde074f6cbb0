"""A child process ends with its task, leaves no orphan, and its memory is its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from batch.errors import ChildKilledError, ChildTimeoutError
from batch.isolation import child
from batch.isolation.child import Ending


def python(code: str, tmp_path: Path, timeout: float = 30) -> Ending:
    argv = [sys.executable, "-c", code]
    return child.run(argv, cwd=tmp_path, log=tmp_path / "log", timeout=timeout)


def gone(pid: int) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


def wait_for(path: Path) -> str:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if path.exists() and path.read_text().endswith("\n"):
            return path.read_text().strip()
        time.sleep(0.02)
    raise AssertionError(f"{path} did not appear")


def test_status_folder_and_log(tmp_path: Path) -> None:
    code = "import os, sys; print(os.getcwd()); print('trouble', file=sys.stderr); sys.exit(3)"
    ending = python(code, tmp_path)
    assert (ending.exit_status, ending.signal, ending.timed_out) == (3, None, False)
    assert (tmp_path / "log").read_text().splitlines() == [str(tmp_path), "trouble"]


def test_the_kernel_takes_the_child_first_when_memory_runs_out(tmp_path: Path) -> None:
    """And not the worker, however large that is."""
    python("print(open('/proc/self/oom_score_adj').read())", tmp_path)
    assert int((tmp_path / "log").read_text()) == 1000
    assert int(Path("/proc/self/oom_score_adj").read_text()) < 1000


def test_the_whole_environment_is_given(tmp_path: Path) -> None:
    code = "import os; print(sorted(k for k in os.environ if not k.startswith('LC_')))"
    child.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        log=tmp_path / "log",
        timeout=30,
        environment={"ONLY": "this"},
    )
    assert (tmp_path / "log").read_text().strip() == "['ONLY']"


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    ending = child.run(["/nowhere/calacs.e"], cwd=tmp_path, log=tmp_path / "log", timeout=5)
    assert ending.exit_status == 127
    assert "cannot start /nowhere/calacs.e" in (tmp_path / "log").read_text()


@pytest.mark.parametrize("megabytes", [60, 300])
def test_peak_memory_is_the_childs_own(tmp_path: Path, megabytes: int) -> None:
    """Under a parent that holds more than the child ever does."""
    ballast = bytearray(os.urandom(1024)) * (400 * 1024)
    ending = python(f"x = bytearray(b'x' * {megabytes}_000_000); del x", tmp_path)
    assert len(ballast) > 4e8
    assert megabytes * 1e6 < ending.peak_memory < megabytes * 1e6 * 2.2 + 30e6


def test_peak_memory_covers_grandchildren(tmp_path: Path) -> None:
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'bytearray(b\"x\" * 200_000_000)'])"
    assert python(code, tmp_path).peak_memory > 200e6


def test_cpu_time_is_counted(tmp_path: Path) -> None:
    ending = python("import time\nwhile time.process_time() < 0.5: pass", tmp_path)
    assert 0.5 <= ending.cpu < 5


def test_a_time_limit_ends_the_whole_group(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys, time\n"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print(p.pid, flush=True); time.sleep(600)"
    )
    ending = python(code, tmp_path, timeout=1.5)
    assert ending.timed_out
    with pytest.raises(ChildTimeoutError, match="x: not done after 2 s"):
        ending.check("x", 2)
    assert gone(int((tmp_path / "log").read_text()))


def test_a_deaf_child_is_killed(tmp_path: Path) -> None:
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    ending = python(code, tmp_path, timeout=1)
    assert ending.timed_out
    assert ending.signal == signal.SIGKILL


def test_a_killed_child_says_so(tmp_path: Path) -> None:
    ending = python("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", tmp_path)
    with pytest.raises(ChildKilledError, match="killed by SIGKILL, most often for want of memory"):
        ending.check("x", 1)


def test_what_a_child_leaves_running_is_ended(tmp_path: Path) -> None:
    sleeper = "[sys.executable, '-c', 'import time; time.sleep(600)']"
    code = f"import subprocess, sys; print(subprocess.Popen({sleeper}).pid)"
    assert python(code, tmp_path).exit_status == 0
    assert gone(int((tmp_path / "log").read_text()))


def test_a_child_dies_with_its_worker(tmp_path: Path) -> None:
    """kill -9 of the calling process takes the child and its own children along."""
    inner = (
        "import os, subprocess, sys, time\n"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print(os.getpid(), p.pid, flush=True); time.sleep(600)"
    )
    outer = (
        "import sys; from pathlib import Path; from batch.isolation import child\n"
        f"child.run([sys.executable, '-c', {inner!r}], cwd=Path({str(tmp_path)!r}), "
        f"log=Path({str(tmp_path / 'log')!r}), timeout=600)"
    )
    worker = subprocess.Popen([sys.executable, "-c", outer])
    pids = [int(p) for p in wait_for(tmp_path / "log").split()]
    worker.kill()
    worker.wait()
    assert all(gone(p) for p in pids)


def test_a_child_dies_with_its_supervisor(tmp_path: Path) -> None:
    def kill_supervisor() -> None:
        pid = int(wait_for(tmp_path / "log"))
        psutil.Process(pid).parent().kill()

    killer = threading.Thread(target=kill_supervisor)
    killer.start()
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    with pytest.raises(ChildKilledError, match="supervisor was killed"):
        python(code, tmp_path, timeout=60)
    killer.join()
    assert gone(int((tmp_path / "log").read_text()))
