"""Children end with all that they started; those of other folders go on."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from batch.errors import ChildKilledError
from batch.isolation.child import Ending, run
from batch.isolation.ending import end_children

_CHILD = """
import subprocess, sys, time
grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(grandchild.pid, flush=True)
time.sleep(600)
"""


def start(folder: Path, endings: dict[str, Ending]) -> tuple[threading.Thread, psutil.Process]:
    """A child in a folder, waited for by a thread, and the process that it started."""
    folder.mkdir()
    log = folder / "log"

    def wait() -> None:
        argv = [sys.executable, "-c", _CHILD]
        endings[folder.name] = run(argv, cwd=folder, log=log, timeout=600)

    thread = threading.Thread(target=wait)
    thread.start()
    deadline = time.monotonic() + 60
    while not (log.exists() and log.read_text().endswith("\n")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return thread, psutil.Process(int(log.read_text()))


def test_children_below_a_folder_end_with_what_they_started(tmp_path: Path) -> None:
    endings: dict[str, Ending] = {}
    mine, grandchild = start(tmp_path / "mine", endings)
    other, bystander = start(tmp_path / "other", endings)
    assert end_children(tmp_path / "mine") == 1
    mine.join(30)
    assert not mine.is_alive()
    with pytest.raises(ChildKilledError, match="SIGKILL"):
        endings["mine"].check("a task", 600)
    psutil.wait_procs([grandchild], timeout=10)
    assert not grandchild.is_running()
    assert bystander.is_running()
    assert end_children(tmp_path) == 1
    other.join(30)
    assert end_children(tmp_path) == 0
