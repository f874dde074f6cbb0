"""End the children of this process, and what they started, while other threads wait for them."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil


def end_children(below: Path) -> int:
    """Kill the process groups of all children that run in folders under `below`.

    The calls that wait for them return as after any other SIGKILL.

    Parameters
    ----------
    below : Path
        Absolute.

    Returns
    -------
    int
        How many there were.
    """
    ended = 0
    for supervisor in _supervisors():
        with contextlib.suppress(psutil.Error):
            # its own folder is that of its child while it has one
            if not Path(supervisor.cwd()).is_relative_to(below):
                continue
            for child in supervisor.children():
                # the leader of the group is the child itself; a branch leads none
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(child.pid, signal.SIGKILL)
                    ended += 1
    return ended


def _supervisors() -> Iterator[psutil.Process]:
    for own in psutil.Process().children():
        yield own
        # the branches of a nursery are of its group, while children lead their own
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            yield from (p for p in own.children() if os.getpgid(p.pid) == own.pid)
