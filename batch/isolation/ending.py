"""End the children of this process, and what they started, while other threads wait for them."""

from __future__ import annotations

import contextlib
import os
import signal
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
    for supervisor in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            # its own folder is that of its child while it has one
            if not Path(supervisor.cwd()).is_relative_to(below):
                continue
            for child in supervisor.children():
                # the leader of the group is the child itself
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(child.pid, signal.SIGKILL)
                ended += 1
    return ended
