"""A fork of a nursery that has imported more, for those of its children that need it.

So they do not import it one after the other, and the others do not carry it: a child's memory begins with
that of the process from which it was forked.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from batch.isolation.supervisor import collect, go_first


class Branch:
    """The side of the nursery.

    Parameters
    ----------
    modules : sequence of str
        What it imports. A module that cannot be imported is left to the children, in whose log that belongs.
    log : str
        Of the child that it is made for: takes what the modules say.
    serve : callable
        What it does then: read questions from standard input and answer them on standard output, as the
        nursery itself does, until the nursery closes the one or has ended.
    """

    def __init__(self, modules: Sequence[str], log: str, serve: Callable[[], object]) -> None:
        self._modules = tuple(modules)
        asked, questions = os.pipe()
        answers, told = os.pipe()
        self._process = os.fork()
        if self._process == 0:
            # nothing of the nursery's own pipes is left, so that both of its sides see each other's end
            os.close(questions)
            os.close(answers)
            os.dup2(asked, 0)
            _live(modules, log, told, serve)
        os.close(asked)
        os.close(told)
        self._questions, self._answers = os.fdopen(questions, "wb"), os.fdopen(answers, "rb")

    def stays(self, modules: Sequence[str], room: int) -> bool:
        """Whether it is of use to the next child, or does no harm: that needs none, and leaves room for it.

        What it shares with the nursery counts as its own.
        """
        if select.select([self._answers], [], [], 0)[0]:  # it was killed while it waited
            return False
        if modules:
            return self._modules == tuple(modules)
        pages = Path(f"/proc/{self._process}/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE") <= room

    def run(self, asked: Mapping[str, Any]) -> dict[str, Any] | None:
        """Have a child do something, to its end.

        Parameters
        ----------
        asked : mapping
            The question, as a nursery reads it.

        Returns
        -------
        dict or None
            The answer, or None if the branch was killed. When standard input is closed, this process ends,
            and with it the branch and its child.
        """
        with contextlib.suppress(BrokenPipeError):
            self._questions.write(json.dumps({**asked, "modules": []}).encode() + b"\n")
            self._questions.flush()
        ready, _, _ = select.select([self._answers.fileno(), 0], [], [])
        if self._answers.fileno() not in ready:
            os._exit(1)
        answer = self._answers.readline()
        return json.loads(answer) if answer else None

    def close(self) -> dict[str, object]:
        """End it; how it ended, as a nursery tells it of a child."""
        with contextlib.suppress(BrokenPipeError):
            self._questions.close()
        self._answers.close()
        return collect(self._process)


def _live(modules: Sequence[str], log: str, told: int, serve: Callable[[], object]) -> NoReturn:
    """The side of the branch, whose standard output becomes `told` when it has imported everything."""
    try:
        go_first()
        with _output_into(log):
            for module in modules:
                with contextlib.suppress(Exception):
                    importlib.import_module(module)
        os.dup2(told, 1)
        serve()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


@contextlib.contextmanager
def _output_into(log: str) -> Iterator[None]:
    """Append standard output and error to a file for a while."""
    kept = os.dup(1), os.dup(2)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)
    yield
    sys.stdout.flush()
    sys.stderr.flush()
    for number, was in enumerate(kept, 1):
        os.dup2(was, number)
        os.close(was)
