"""Execute tasks on a worker: in a process and a folder of their own, each published in one step."""

from __future__ import annotations

import dataclasses
import datetime
import importlib
import os
import platform
import socket
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from batch import __version__
from batch.errors import BatchError, ChildKilledError, LibraryError, StorageError
from batch.model.plan import Task
from batch.model.record import Failure, Record, Status, Usage
from batch.runtime import announcing, cancelling, lending
from batch.runtime.request import Answer, Request
from batch.storage.files import read_json, write_json
from batch.storage.ledger import valid_record
from batch.storage.work import LOG, Work, open_work


def execute(request: Request, *upstream: Record | tuple[Record, ...]) -> tuple[Record, ...]:
    """Do the tasks of a request, unless they are done already; never raises for what a task can do wrong.

    Parameters
    ----------
    request : Request
        One task, or several that follow one another or share a process.
    *upstream : Record or tuple of Record
        Records of the tasks that they depend on; tuples are what other calls returned.

    Returns
    -------
    tuple of Record
        One for each task: DONE or SKIPPED (published), FAILED (kept under ``failures/``) or BLOCKED
        (nothing was tried).

    Raises
    ------
    distributed.Reschedule
        If the tasks' process was killed because the worker is to go or the run is to end: another worker
        does them, or none.
    """
    records = each_process(request, upstream, _unless_done)
    announcing.ended(request, records)
    return records


def each_process(
    request: Request,
    upstream: Sequence[Record | tuple[Record, ...]],
    do: Callable[[Request, tuple[Record, ...]], tuple[Record, ...]],
) -> tuple[Record, ...]:
    """Do the tasks of a request, one process after the other, except those that something blocks.

    Parameters
    ----------
    request : Request
        What to do.
    upstream : sequence of Record or tuple of Record
        Records of what it depends on.
    do : callable
        Given the request for one process and the records that its tasks read, in their order.

    Returns
    -------
    tuple of Record
        One for each task; what failed stops only what depends on it.
    """
    known = {r.id: r for part in upstream for r in (part if isinstance(part, tuple) else (part,))}
    records: tuple[Record, ...] = ()
    for process in request.processes():
        if records and announcing.told_to_go():
            from distributed import Reschedule

            # what is published already is found there by the next worker
            raise Reschedule
        needed = tuple(known[u] for u in process.tasks[0].upstream)
        made = _blocked(process, needed) or do(process, needed)
        known |= {r.id: r for r in made}
        records += made
    return records


def _blocked(request: Request, needed: Sequence[Record]) -> tuple[Record, ...]:
    """A BLOCKED record for each task, if something that it needs is not there; else nothing."""
    broken = [r for r in needed if not r.status.ok]
    if not broken:
        return ()
    # the first failure up the line is the one to look at
    origin = broken[0].reason if broken[0].status is Status.BLOCKED else broken[0].id
    return tuple(_record(t, Status.BLOCKED, reason=origin) for t in request.tasks)


def _unless_done(request: Request, needed: tuple[Record, ...]) -> tuple[Record, ...]:
    work = open_work(request.work)
    try:
        published = {t.id: r for t in request.tasks if (r := valid_record(work, t)) is not None}
    except BatchError as error:
        return _failed(request, _failure(error))
    todo = tuple(t for t in request.tasks if t.id not in published)
    if todo:
        announcing.started(request)
        made = _do(dataclasses.replace(request, tasks=todo, upstream=needed), work)
        published |= {r.id: r for r in made}
    return tuple(published[t.id] for t in request.tasks)


def _do(request: Request, work: Work) -> tuple[Record, ...]:
    try:
        with work.workspace(request.tasks[0].id) as workspace:
            return _attempt(request, work, workspace)
    except BatchError as error:
        return _failed(request, _failure(error))
    except OSError as error:
        where = work.location.address
        return _failed(request, _failure(StorageError(f"{where}: {error}; mend it, then run again")))


def _attempt(request: Request, work: Work, workspace: Path) -> tuple[Record, ...]:
    """Run the tasks' process and publish what it made, or keep why it failed."""
    needs = request.needs
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    usage = Usage(host=socket.gethostname(), started=started)
    try:
        request = dataclasses.replace(
            request,
            products=str(work.inputs(_opened(request), workspace)),
            attempt=work.attempt(workspace),
        )
        write_json(workspace / "request.json", request)
        worker = announcing.dask_worker()
        with lending.lent(worker, environment(1)) as nursery:
            ending = nursery.run(
                [str(workspace)],
                cwd=workspace / "area",
                log=workspace / LOG,
                timeout=needs.timeout,
                environment=environment(needs.threads),
                modules=needs.imports,
                room=announcing.memory(worker) - needs.memory,
            )
        # tasks that shared a process share its time; each needed all of its memory
        share = len(request.tasks)
        usage = dataclasses.replace(
            usage,
            wall=round(ending.wall / share, 3),
            cpu=round(ending.cpu / share, 3),
            peak_memory=ending.peak_memory,
        )
        ending.check(request.name, needs.timeout)
        answer = _answer(request.name, workspace, ending.exit_status)
        if answer.failure is None:
            return _publish(request, answer, usage, work, workspace)
        records = _failed(request, answer.failure, usage)
    except (BatchError, OSError) as error:
        if isinstance(error, ChildKilledError) and (announcing.told_to_go() or cancelling.asked(work)):
            from distributed import Reschedule

            # on purpose, and no failure of the task's
            raise Reschedule from None
        wrapped = (
            error if isinstance(error, BatchError) else StorageError(f"{work.location.address}: {error}")
        )
        records = _failed(request, _failure(wrapped), usage)
    for record in records:
        work.keep_failure(workspace, record)
    return records


def _opened(request: Request) -> list[Record]:
    """The records of which the stage opens files."""
    stage: Any = importlib.import_module(f"{request.stages}.{request.tasks[0].stage}")
    return [r for r in request.upstream if r.stage not in stage.STAGE.records_only]


def _publish(
    request: Request, answer: Answer, usage: Usage, work: Work, workspace: Path
) -> tuple[Record, ...]:
    records = tuple(
        _record(
            task,
            Status.SKIPPED if result.skipped else Status.DONE,
            reason=result.skipped,
            products=result.products,
            results=result.results,
            notes=result.notes,
            usage=usage,
            versions=versions(),
            attempt=request.attempt,
        )
        for task, result in zip(request.tasks, answer.results, strict=True)
    )
    return tuple(work.publish(workspace, record) for record in records)


def _record(task: Task, status: Status, **fields: Any) -> Record:
    return Record(task.stage, task.subject, task.fingerprint, status, **fields)


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


def _failed(request: Request, failure: Failure, usage: Usage | None = None) -> tuple[Record, ...]:
    return tuple(
        _record(task, Status.FAILED, usage=usage or Usage(), failure=failure, versions=versions())
        for task in request.tasks
    )


def environment(threads: int) -> dict[str, str]:
    """The environment of a task's process: this one's, with every library held to `threads`.

    Dask has its workers give memory back to the kernel at once (MALLOC_TRIM_THRESHOLD_), since they live
    long. A task's process lives no longer than its task, and would spend up to half its time on getting the
    same pages again.
    """
    held = {
        name: str(threads)
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
    }
    given = {name: value for name, value in os.environ.items() if name != "MALLOC_TRIM_THRESHOLD_"}
    return {**given, **held, "MPLBACKEND": "Agg", "PYTHONUNBUFFERED": "1"}


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
