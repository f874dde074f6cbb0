"""Where tasks run: a cluster on this machine, a scheduler that runs already, Kubernetes, SLURM."""

from __future__ import annotations

import contextlib
import gc
import logging
import time
import traceback
import uuid
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from batch import __version__
from batch.config.cluster import ClusterSettings, WorkerClass
from batch.errors import BatchError, InsufficientMemoryError, UsageError
from batch.model.plan import Task
from batch.runtime import security
from batch.runtime.classes import promised, worker_classes
from batch.storage.work import Location, Work, open_work

if TYPE_CHECKING:
    from distributed import Client

# what the system, the driver, the scheduler and the workers themselves keep, of the machine's memory
_SHARE = 0.9
_WAIT_S = 60


def local_size(settings: ClusterSettings, largest: int) -> tuple[int, int]:
    """Number of workers on this machine, and bytes that each may plan with.

    Parameters
    ----------
    settings : ClusterSettings
        `workers` and `memory` are taken as they are where given.
    largest : int
        Bytes that the largest task asks for: there are no more workers than machines' worth of these.
    """
    # both follow the cgroup's limits
    from dask.system import CPU_COUNT
    from distributed.system import MEMORY_LIMIT

    memory = int(MEMORY_LIMIT * _SHARE)
    fitting = max(1, memory // max(1, settings.memory or largest))
    workers = settings.workers or max(1, min(CPU_COUNT, fitting))
    return workers, settings.memory or memory // workers


@contextlib.contextmanager
def connect(settings: ClusterSettings, tasks: Iterable[Task], work: Work) -> Iterator[Client]:
    """A client of the cluster that will run `tasks`; a cluster started here ends with the block.

    Raises
    ------
    UsageError
        If the scheduler cannot be reached, has no workers, or they cannot see the work directory; if the
        connection would be a plain one to another machine.
    InsufficientMemoryError
        If no worker is large enough for one of the tasks.
    """
    # importing distributed sets its loggers to INFO; what it says of its own life helps nobody here
    import distributed

    logging.getLogger(distributed.__name__).setLevel(logging.WARNING)
    tasks = list(tasks)
    kind = settings.chosen_kind
    if kind == "local":
        with _local(settings, tasks, work) as client:
            yield client
    elif kind == "scheduler":
        with _running(settings) as client:
            preflight(client, tasks, work)
            yield client
    else:
        classes = worker_classes(settings, tasks)
        _check(tasks, [promised(c.memory) for c in classes])
        if kind == "slurm":
            from batch.runtime import slurm

            starting, patience = slurm.start(settings, classes, work.local), settings.slurm.timeout
        else:
            from batch.runtime import kubernetes

            starting, patience = kubernetes.start(settings, classes), settings.kubernetes.timeout
        with starting as client:
            await_classes(client, classes, patience)
            preflight(client, tasks, work)
            yield client


@contextlib.contextmanager
def _local(settings: ClusterSettings, tasks: list[Task], work: Work) -> Iterator[Client]:
    from distributed import Client, LocalCluster

    workers, memory = local_size(settings, max((t.needs.memory for t in tasks), default=1))
    _check(tasks, [memory])
    with (
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            resources={"memory": memory},
            # the nanny sees only the worker's own memory, never that of its children
            memory_limit=0,
            local_directory=str(work.local / "scratch" / "dask"),
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


@contextlib.contextmanager
def _running(settings: ClusterSettings) -> Iterator[Client]:
    address = settings.scheduler or ""
    keys = security.for_address(address, settings.tls)
    with _started(address, keys) as client:
        yield client


def _started(address: str, keys: Any) -> Client:
    """A client, or a UsageError."""
    from distributed import Client

    try:
        return Client(address, timeout=_WAIT_S, security=keys)
    except (OSError, TimeoutError, ValueError, RuntimeError) as error:
        reason = str(error)
        # The client that could not start ends when it is collected, and waits for the loop's lock then: now,
        # not in the middle of the start of another, which holds that lock.
        traceback.clear_frames(error.__traceback__)
    gc.collect()
    raise UsageError(f"--scheduler {address}: cannot be reached ({reason})")


def await_classes(client: Client, classes: Iterable[WorkerClass], patience: float) -> None:
    """Wait until every class that is to have workers has one: what the largest offers is known then.

    Raises
    ------
    UsageError
        If one has none after `patience` seconds.
    """
    wanted = {promised(c.memory) for c in classes if c.workers}
    end = time.monotonic() + patience
    while missing := wanted - set(_memory(client)):
        if time.monotonic() > end:
            sizes = ", ".join(f"{m / 1e9:.2f} GB" for m in sorted(missing))
            raise UsageError(
                f"no worker of {sizes} came up in {patience:.0f} s; see whether the partition or the nodes "
                "have room for it, or ask for smaller ones (cluster.classes)"
            )
        time.sleep(0.5)


def preflight(client: Client, tasks: Iterable[Task], work: Work) -> None:
    """See that a cluster of somebody else's can do the tasks, before any is submitted."""
    try:
        client.wait_for_workers(1, timeout=_WAIT_S)
    except TimeoutError:
        raise UsageError(f"the scheduler has had no worker for {_WAIT_S} s; start some") from None
    workers = client.scheduler_info(n_workers=-1)["workers"]
    without = sorted(a for a, w in workers.items() if "memory" not in w["resources"])
    if without:
        raise UsageError(
            f"{len(without)} of {len(workers)} workers offer no memory resource ({without[0]}): "
            'start each with --nthreads 1 --resources "memory=BYTES"'
        )
    _check(tasks, _memory(client))
    mark = f"scratch/visible-{uuid.uuid4().hex}"
    work.write(mark, b"")
    try:
        answers = client.run(_look, work.location, mark)
    finally:
        work.remove(mark)
    for address, (trouble, version) in sorted(answers.items()):
        if trouble:
            raise UsageError(f"worker {address} does not see {work.location.address}: {trouble}")
        if version != __version__:
            raise UsageError(
                f"worker {address} runs acs-batch {version}, this is {__version__}; install the same"
            )


def _look(where: Location, mark: str) -> tuple[str, str]:
    """Runs on a worker: what is wrong with the work directory as it sees it, and its version."""
    try:
        open_work(where).read(mark)
    except FileNotFoundError:
        return "mount it there under the same path", __version__
    except (BatchError, OSError) as error:
        return str(error), __version__
    return "", __version__


def capacity(client: Client) -> tuple[int, int]:
    """Number of workers, and bytes that the largest one offers."""
    memory = _memory(client)
    return len(memory), max(memory, default=0)


def _memory(client: Client) -> list[int]:
    """Bytes that each worker offers."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    return [int(w["resources"].get("memory", 0)) for w in workers]


def _check(tasks: Iterable[Task], memory: list[int]) -> None:
    """A resource that no worker has would be waited for without end."""
    largest = max(memory)
    too_large = sorted((t for t in tasks if t.needs.memory > largest), key=lambda t: -t.needs.memory)
    if too_large:
        worst = too_large[0]
        raise InsufficientMemoryError(
            f"{len(too_large)} tasks need more memory than any worker has: {worst.id} needs "
            f"{worst.needs.memory / 1e9:.2f} GB, the largest worker offers {largest / 1e9:.2f} GB; "
            "use fewer workers (--workers), larger ones, or a coarser scale (combine.scale, sweep.scale)"
        )
