"""Run one program in a process group of its own, with log, time limit and true peak memory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from batch.errors import ChildKilledError, ChildTimeoutError


@dataclass(frozen=True)
class Ending:
    """How a child ended."""

    exit_status: int | None
    """None if it was killed by a signal."""
    signal: int | None
    timed_out: bool
    wall: float
    """s"""
    cpu: float
    """User and system time of the child and what it waited for, s."""
    peak_memory: int
    """Largest resident set, bytes, as the kernel counted it."""

    def check(self, what: str, limit: float) -> None:
        """Raise if the child did not come to an end of its own.

        Raises
        ------
        ChildTimeoutError, ChildKilledError
            Both can be mended by a retry.
        """
        if self.timed_out:
            raise ChildTimeoutError(f"{what}: not done after {limit:.0f} s; the process was ended")
        if self.signal is not None:
            name = signal.Signals(self.signal).name
            memory = ", most often for want of memory" if self.signal == signal.SIGKILL else ""
            raise ChildKilledError(
                f"{what}: its process was killed by {name}{memory} "
                f"(it had used {self.peak_memory / 1e9:.2f} GB)"
            )


def run(
    argv: Sequence[str],
    *,
    cwd: Path,
    log: Path,
    timeout: float,
    environment: Mapping[str, str] | None = None,
) -> Ending:
    """Run a program to its end.

    Parameters
    ----------
    argv : sequence of str
        The program's absolute path and its arguments.
    cwd : Path
        Its current folder.
    log : Path
        Takes its standard output and error, appended.
    timeout : float
        s; then the whole process group gets SIGTERM, five seconds later SIGKILL.
    environment : mapping, optional
        The whole environment; that of this process if not given.

    Returns
    -------
    Ending
        Whatever it is; `Ending.check` raises for a violent one.

    Raises
    ------
    ChildKilledError
        If its supervisor was killed; the child went with it.

    Notes
    -----
    The child cannot outlive the calling process: see `batch.isolation.supervisor`.
    """
    supervisor = Path(__file__).with_name("supervisor.py")
    specification = json.dumps(
        {"argv": list(argv), "cwd": str(cwd), "log": str(log.absolute()), "timeout": timeout}
    )
    started = time.monotonic()
    with start_supervisor(
        ["-I", "-S", str(supervisor), specification], os.environ if environment is None else environment
    ) as process:
        assert process.stdout is not None  # PIPE was asked for
        answer = process.stdout.read()
    return ending(argv[0], answer, time.monotonic() - started)


def start_supervisor(arguments: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start a Python program that ends when its standard input is closed."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=dict(environment),
        # signals of the terminal (Ctrl-C) go to the driver, which ends its workers in order
        start_new_session=True,
    )


def ending(what: str, answer: bytes, wall: float) -> Ending:
    """What a supervisor has written of its child; nothing if it was killed.

    Raises
    ------
    ChildKilledError
        With the last part of the path `what`.
    """
    if not answer:
        raise ChildKilledError(f"{Path(what).name}: its supervisor was killed; run again")
    found = json.loads(answer)
    status = int(found["status"])
    killed = os.WIFSIGNALED(status)
    return Ending(
        exit_status=None if killed else os.WEXITSTATUS(status),
        signal=os.WTERMSIG(status) if killed else None,
        timed_out=bool(found["timed_out"]),
        wall=wall,
        cpu=float(found["cpu"]),
        peak_memory=int(found["maxrss"]),
    )
