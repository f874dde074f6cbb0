"""A supervisor that stays, with libraries imported: each of its children is forked instead of started anew.

Importing what every task needs takes longer than many a task. Like `batch.isolation.supervisor` it has one
child at a time and no other thread, and neither side outlives the other. What only some need is imported by a
fork of it (`batch.isolation.branch`), from which theirs are forked.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from batch.isolation import supervisor
from batch.isolation.branch import Branch
from batch.isolation.child import Ending, ending, start_supervisor


class Nursery:
    """The side of the worker.

    Parameters
    ----------
    module : str
        The program, which imports what its children need and calls `serve`.
    environment : mapping
        What it is started with.
    """

    def __init__(self, module: str, environment: Mapping[str, str]) -> None:
        self._process = start_supervisor(["-P", "-m", module], environment)
        assert self._process.stdin is not None  # PIPE was asked for
        assert self._process.stdout is not None
        self._questions, self._answers = self._process.stdin, self._process.stdout

    @property
    def usable(self) -> bool:
        """Whether it is there, as far as one knows."""
        return self._process.poll() is None

    def run(
        self,
        arguments: Sequence[str],
        *,
        cwd: Path,
        log: Path,
        timeout: float,
        environment: Mapping[str, str],
        modules: Sequence[str] = (),
        room: int = 0,
    ) -> Ending:
        """Run its program with some arguments in a child, to the end.

        Parameters
        ----------
        arguments : sequence of str
        cwd, log, timeout, environment
            As for `batch.isolation.child.run`.
        modules : sequence of str
            What the child needs to have imported, besides what the program imports: it is kept imported for
            the next one, in a `batch.isolation.branch`, of which there is one at most.
        room : int
            Bytes that such a branch may keep while a child runs that does not need it.

        Raises
        ------
        ChildKilledError
            If the nursery was killed; the child went with it.
        """
        asked = {
            "arguments": list(arguments),
            "cwd": str(cwd),
            "log": str(log.absolute()),
            "timeout": timeout,
            "environment": dict(environment),
            "modules": list(modules),
            "room": room,
        }
        started = time.monotonic()
        answer = b""
        with contextlib.suppress(BrokenPipeError):
            self._questions.write(json.dumps(asked).encode() + b"\n")
            self._questions.flush()
            answer = self._answers.readline()
        wall = time.monotonic() - started
        if not answer:
            self.close()
        return ending(arguments[0], answer, wall)

    def close(self) -> None:
        """End it, and the child that it may have; whoever waits for that hears that it was killed."""
        with contextlib.suppress(BrokenPipeError):
            self._questions.close()
        self._process.wait()
        # whoever reads from it has come to its end now
        self._answers.close()


def serve(program: Callable[[Sequence[str]], int], title: str) -> int:
    """The side of the nursery: read from standard input what to run, and tell how it ended.

    Parameters
    ----------
    program : callable
        Given the arguments; returns the exit status.
    title : str
        How lists of processes are to call a child, before its arguments.

    Returns
    -------
    int
        The exit status, when the worker is done with it.
    """
    # what is there now is never looked at again, so that children share its memory
    gc.collect()
    gc.freeze()
    branch: Branch | None = None
    while line := sys.stdin.buffer.readline():
        asked = json.loads(line)
        modules = asked["modules"]
        if branch is not None and not branch.stays(modules, asked["room"]):
            branch.close()
            branch = None
        if modules:
            branch = branch or Branch(modules, asked["log"], lambda: serve(program, title))
            answer = branch.run(asked)
            if answer is None:
                # what has killed it was meant for the child
                answer = branch.close()
                branch = None
        else:
            answer = _fork(program, title, asked)
        sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
        sys.stdout.buffer.flush()
    return 0


def _fork(program: Callable[[Sequence[str]], int], title: str, asked: Mapping[str, Any]) -> dict[str, object]:
    """Run the program in a child, to the end."""
    from setproctitle import setproctitle

    child = supervisor.fork(asked["cwd"], asked["log"])
    if child == 0:
        # needs the environment where it was at the start
        setproctitle(" ".join((title, *asked["arguments"])))
        os.environ.clear()
        os.environ.update(asked["environment"])
        _end(_status(program, asked["arguments"]))
    answer = supervisor.watch(child, asked["timeout"])
    os.chdir("/")
    return answer


def _status(program: Callable[[Sequence[str]], int], arguments: Sequence[str]) -> int:
    """The exit status of a child's program; what it raises is told in the log."""
    try:
        return program(arguments)
    except SystemExit as error:
        if error.code is None or isinstance(error.code, int):
            return error.code or 0
        print(error.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    return 1


def _end(status: int) -> NoReturn:
    """End a child in order, but without taking its modules apart, as multiprocessing ends those it forks.

    That would touch, and so copy, all the memory that it shares with the nursery.
    """
    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)
