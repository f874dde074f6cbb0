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
    child = _start(specification)
    ended = os.pidfd_open(child)
    deadline = time.monotonic() + specification["timeout"]
    timed_out = False
    watch = [ended, 0]
    while True:
        ready, _, _ = select.select(watch, [], [], max(0.0, deadline - time.monotonic()))
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
            watch = [ended]
            deadline = time.monotonic() + 3600
    _, status, usage = os.wait4(child, 0)
    # what the child may have left running shares its group
    _kill_group(child, signal.SIGKILL)
    answer = {
        "status": status,
        "maxrss": usage.ru_maxrss * 1024,
        "cpu": usage.ru_utime + usage.ru_stime,
        "timed_out": timed_out,
    }
    sys.stdout.write(json.dumps(answer))
    sys.stdout.flush()


def _start(specification: dict) -> int:  # type: ignore[type-arg]
    """Fork the child into a process group of its own; safe here, where no other thread exists."""
    own_pid = os.getpid()
    child = os.fork()
    if child:
        return child
    try:
        os.setpgid(0, 0)
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != own_pid:
            os._exit(1)
        # where memory runs out, the kernel is to take the task, never the worker that tells of it
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
            score.write("1000")
        log = os.open(specification["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(source, target)
        os.chdir(specification["cwd"])
        os.execv(specification["argv"][0], specification["argv"])
    except BaseException as error:
        os.write(2, f"cannot start {specification['argv'][0]}: {error}\n".encode())
    os._exit(127)


def _kill_group(leader: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, number)


if __name__ == "__main__":
    main()
