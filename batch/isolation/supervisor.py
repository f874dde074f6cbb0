"""Stands between a worker and one child process; run as a script, standard library only.

Why a process of its own:

* The kernel's peak memory of a process (`os.wait4`) starts at that of the process it was forked from. Under
  a large worker every child would seem large; this one stays near 10 MB.
* It outlives neither side. Its standard input is a pipe that the worker holds: when the worker ends, in
  whatever way, the pipe closes and the child's whole process group is killed. When the supervisor itself is
  killed, the kernel kills the child.
* Its only thread waits, so that neither a library that holds the interpreter lock nor a hung child keeps
  it from acting.

Usage: ``supervisor.py SPECIFICATION`` with JSON ``{"argv": [...], "cwd": ..., "log": ..., "timeout": s}``;
prints JSON ``{"status": wait status, "maxrss": bytes, "cpu": s, "timed_out": bool}``.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import sys
import time

PR_SET_PDEATHSIG = 1
GRACE_S = 5.0
"""Between SIGTERM and SIGKILL at the end of the time limit."""


def main() -> None:
    """Start the child, wait for it, its time limit or the end of the worker; report."""
    specification = json.loads(sys.argv[1])
    program = specification["argv"]
    try:
        child = fork(specification["cwd"], specification["log"])
        if child == 0:
            os.execv(program[0], program)
    except BaseException as error:
        os.write(2, f"cannot start {program[0]}: {error}\n".encode())
        os._exit(127)
    answer = watch(child, specification["timeout"])
    sys.stdout.write(json.dumps(answer))
    sys.stdout.flush()


def fork(cwd: str, log: str) -> int:
    """Fork a child with a process group, folder and log of its own; safe where no other thread exists.

    Parameters
    ----------
    cwd, log : str
        Its folder, and the file that its standard output and error are appended to.

    Returns
    -------
    int
        The child's process; 0 in the child.
    """
    # whoever ends all children of a folder finds them by this process's own
    with contextlib.suppress(OSError):
        os.chdir(cwd)
    supervisor = os.getpid()
    child = os.fork()
    if child == 0:
        _enter(supervisor, cwd, log)
    return child


def watch(child: int, timeout: float) -> dict[str, object]:
    """Wait for the end of a child that this process has forked.

    Parameters
    ----------
    child : int
        Leader of a process group of its own.
    timeout : float
        s; then the group gets SIGTERM, `GRACE_S` later SIGKILL.

    Returns
    -------
    dict
        Wait status, largest resident set in bytes, user and system time in s, and whether it timed out.
        When standard input is closed the group is killed and this process ends.
    """
    ended = os.pidfd_open(child)
    deadline = time.monotonic() + timeout
    timed_out = False
    watched = [ended, 0]
    while True:
        ready, _, _ = select.select(watched, [], [], max(0.0, deadline - time.monotonic()))
        if ended in ready:
            break
        if 0 in ready:
            if os.read(0, 4096):
                continue
            _kill_group(child, signal.SIGKILL)
            os._exit(1)
        if not timed_out:
            timed_out = True
            deadline = time.monotonic() + GRACE_S
            _kill_group(child, signal.SIGTERM)
        else:
            _kill_group(child, signal.SIGKILL)
            watched = [ended]
            deadline = time.monotonic() + 3600
    os.close(ended)
    answer = collect(child, timed_out)
    # what the child may have left running shares its group
    _kill_group(child, signal.SIGKILL)
    return answer


def collect(child: int, timed_out: bool = False) -> dict[str, object]:
    """How a child of this process ended, as `watch` tells it."""
    _, status, usage = os.wait4(child, 0)
    return {
        "status": status,
        "maxrss": usage.ru_maxrss * 1024,
        "cpu": usage.ru_utime + usage.ru_stime,
        "timed_out": timed_out,
    }


def go_first() -> None:
    """Where memory runs out, the kernel is to take this process, never the worker that tells of it."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
        score.write("1000")


def _enter(supervisor: int, cwd: str, log: str) -> None:
    """In the child: the kernel kills it when its supervisor ends."""
    os.setpgid(0, 0)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != supervisor:
        os._exit(1)
    go_first()
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    os.close(output)
    os.close(nothing)
    os.chdir(cwd)


def _kill_group(leader: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, number)


if __name__ == "__main__":
    main()
