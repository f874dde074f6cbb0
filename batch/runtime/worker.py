"""Execute one task on a worker: in a process of its own, in a folder of its own, published in one step."""

from __future__ import annotations

import dataclasses
import datetime
import os
import platform
import socket
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from batch import __version__
from batch.errors import BatchError, ChildKilledError, LibraryError, StorageError
from batch.isolation import child
from batch.model.record import Failure, Record, Status, Usage
from batch.runtime.request import Answer, Request
from batch.storage.ledger import valid_record
from batch.storage.workdir import LOG, WorkDirectory, read_json, write_json


def execute(request: Request, *upstream: Record) -> Record:
    """Do one task, unless it is done already; never raises for what a task can do wrong.

    Parameters
    ----------
    request : Request
        The task.
    *upstream : Record
        Records of the tasks that it depends on, in the order of ``Task.upstream``.

    Returns
    -------
    Record
        DONE or SKIPPED (published), FAILED (kept under ``failures/``) or BLOCKED (nothing was tried).
    """
    task = request.task
    broken = [r for r in upstream if not r.status.ok]
    if broken:
        # the first failure up the line is the one to look at
        origin = broken[0].reason if broken[0].status is Status.BLOCKED else broken[0].id
        return Record(task.stage, task.subject, task.fingerprint, Status.BLOCKED, reason=origin)
    work = WorkDirectory(Path(request.work))
    published = valid_record(work, task)
    if published is not None:
        return published
    try:
        with work.workspace(task.id) as workspace:
            return _attempt(dataclasses.replace(request, upstream=tuple(upstream)), work, workspace)
    except BatchError as error:
        return _failed(request, _failure(error))
    except OSError as error:
        return _failed(request, _failure(StorageError(f"{work.root}: {error}; mend it, then run again")))


def _attempt(request: Request, work: WorkDirectory, workspace: Path) -> Record:
    """Run the task's process and publish what it made, or keep why it failed."""
    task, needs = request.task, request.task.needs
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    usage = Usage(host=socket.gethostname(), started=started)
    try:
        write_json(workspace / "request.json", request)
        ending = child.run(
            [sys.executable, "-P", "-m", "batch.runtime.task", str(workspace)],
            cwd=workspace / "area",
            log=workspace / LOG,
            timeout=needs.timeout,
            environment=environment(needs.threads),
        )
        usage = dataclasses.replace(
            usage, wall=round(ending.wall, 3), cpu=round(ending.cpu, 3), peak_memory=ending.peak_memory
        )
        ending.check(task.id, needs.timeout)
        answer = _answer(task.id, workspace, ending.exit_status)
        if answer.failure is not None:
            record = _failed(request, answer.failure, usage)
        else:
            record = Record(
                stage=task.stage,
                subject=task.subject,
                fingerprint=task.fingerprint,
                status=Status.SKIPPED if answer.skipped else Status.DONE,
                reason=answer.skipped,
                products=answer.products,
                results=answer.results,
                notes=answer.notes,
                usage=usage,
                versions=versions(),
            )
            work.publish(workspace, record)
    except (BatchError, OSError) as error:
        wrapped = error if isinstance(error, BatchError) else StorageError(f"{work.root}: {error}")
        record = _failed(request, _failure(wrapped), usage)
    if not record.status.ok:
        work.keep_failure(workspace, record)
    return record


def _answer(task_id: str, workspace: Path, exit_status: int | None) -> Answer:
    try:
        return read_json(Answer, workspace / "answer.json")
    except FileNotFoundError:
        lines = (workspace / LOG).read_text(encoding="utf-8", errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "nothing")
        raise LibraryError(
            f"{task_id}: its process ended with status {exit_status} and no answer; its log ends: {last}"
        ) from None


def _failure(error: BatchError) -> Failure:
    return Failure(
        kind=type(error).__name__,
        message=error.message,
        retryable=error.retryable,
        out_of_memory=isinstance(error, ChildKilledError) and "SIGKILL" in error.message,
    )


def _failed(request: Request, failure: Failure, usage: Usage | None = None) -> Record:
    task = request.task
    return Record(
        stage=task.stage,
        subject=task.subject,
        fingerprint=task.fingerprint,
        status=Status.FAILED,
        usage=usage or Usage(),
        failure=failure,
        versions=versions(),
    )


def environment(threads: int) -> dict[str, str]:
    """The environment of a task's process: this one's, with every library held to `threads`."""
    held = {
        name: str(threads)
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
    }
    return {**os.environ, **held, "MPLBACKEND": "Agg", "PYTHONUNBUFFERED": "1"}


def versions() -> dict[str, str]:
    """Versions of everything that shapes a product."""
    return {"acs-batch": __version__, "python": platform.python_version(), **_libraries()}


def _libraries(names: Sequence[str] = ("astropy", "numpy", "stwcs", "drizzlepac", "crds")) -> dict[str, str]:
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
