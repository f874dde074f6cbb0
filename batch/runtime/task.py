"""The main program of a task's own process, which is forked from `batch.runtime.nursery`.

Reads ``request.json``, runs the stage with the current folder in ``area/``, writes ``answer.json``.
Standard output and error are the task's log. Several tasks of one stage with the same inputs may share the
process: the stage's `run_together` does them in one pass.
"""

from __future__ import annotations

import errno
import importlib
import logging
import traceback
from pathlib import Path
from typing import Any

from batch import log as log_module
from batch.config import section
from batch.errors import BatchError, StorageError
from batch.model.json import encode
from batch.model.record import Failure
from batch.runtime.request import Answer, Request, Result
from batch.stages.interface import Inputs
from batch.storage.files import read_json, write_json
from batch.storage.work import open_work

log = logging.getLogger(__name__)


def main(workspace: Path) -> int:
    """Run the tasks; the exit status is 0 when they are done, 1 when they failed with an answer."""
    log_module.set_up()
    request = read_json(Request, workspace / "request.json")
    log.info("%s begins", request.name)
    answer = run(request, workspace / "area")
    if answer.failure is not None:
        log.error("%s", answer.failure.message)
    for note in dict.fromkeys(note for result in answer.results for note in result.notes):
        log.warning("%s", note)
    write_json(workspace / "answer.json", answer)
    log.info("%s ends", request.name)
    return 0 if answer.failure is None else 1


def run(request: Request, area: Path) -> Answer:
    """Run the stage of a request in `area`; what it raises becomes a failure with one message."""
    known = open_work(request.work).url("products")
    inputs = [
        Inputs(
            task,
            request.association,
            request.upstream,
            Path(request.products),
            request.attempt,
            known,
            request.settings,
        )
        for task in request.tasks
    ]
    name = request.tasks[0].stage
    try:
        stage: Any = importlib.import_module(f"{request.stages}.{name}")
        settings = section(name, request.settings.get(name, {}))
        if len(inputs) == 1:
            outcomes = [stage.run(inputs[0], area, settings)]
        else:
            outcomes = stage.run_together(inputs, area, settings)
        return Answer(tuple(Result(o.products, encode(o.results), o.notes, o.skipped) for o in outcomes))
    except BaseException as error:
        traceback.print_exc()
        return Answer(failure=_failure(request.name, error))


def _failure(task_id: str, error: BaseException) -> Failure:
    if isinstance(error, BatchError):
        return Failure(type(error).__name__, error.message, error.retryable)
    if isinstance(error, MemoryError):
        return Failure("MemoryError", f"{task_id}: out of memory", retryable=True, out_of_memory=True)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        message = f"{error.filename or task_id}: no space left; free some, then run again"
        return Failure(StorageError.__name__, message, retryable=True)
    # not foreseen: the library's own words, and where to look
    text = " ".join(str(error).split()) or "no message"
    return Failure(type(error).__name__, f"{task_id}: {type(error).__name__}: {text}; see the task's log")
