"""Workers as jobs of SLURM, through dask-jobqueue; the scheduler runs beside the driver."""

from __future__ import annotations

import contextlib
import importlib.util
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batch.config.cluster import ClusterSettings, SlurmSettings, TlsFiles, WorkerClass
from batch.errors import UsageError
from batch.runtime import scheduling, security
from batch.runtime.classes import THREADS, promised

if TYPE_CHECKING:
    from dask_jobqueue import SLURMCluster
    from distributed import Client

_MIB = 2**20
_LOOK_S = 30.0


@contextlib.contextmanager
def start(
    settings: ClusterSettings, classes: Sequence[WorkerClass], work: Path, look: float = _LOOK_S
) -> Iterator[Client]:
    """A client of a cluster whose workers are jobs; they are cancelled at the end of the block.

    Parameters
    ----------
    settings : ClusterSettings
        `slurm` and `tls`.
    classes : sequence of WorkerClass
        One job for every worker of each.
    work : Path
        Where job logs and certificates go if `slurm.shared` names no other place.
    look : float
        Seconds between looks for jobs that are over: others take their places.

    Raises
    ------
    UsageError
        If dask-jobqueue or SLURM is not there, or SLURM would not take the jobs.
    """
    if importlib.util.find_spec("dask_jobqueue") is None:
        raise UsageError("--cluster slurm needs dask-jobqueue; pip install 'acs-batch[slurm]'")
    if shutil.which("sbatch") is None:
        raise UsageError("--cluster slurm: there is no sbatch here; run on a node that submits jobs")
    from distributed import Client

    slurm, shared = settings.slurm, (settings.slurm.shared or work) / "slurm"
    if len(str(shared).split()) > 1:
        raise UsageError(f"{shared}: job scripts take no blanks in names; set cluster.slurm.shared")
    with certificates(settings, shared) as tls:
        sizes = {size: job_options(slurm, size, tls, shared) for size in classes}
        for options in sizes.values():
            _try(job_script(options))
        with _jobqueue().SLURMCluster(
            **sizes[classes[0]],
            shared_temp_directory=str(shared),
            scheduler_options={"dashboard_address": ":0"},
        ) as jobs:
            for number, size in enumerate(s for s in classes for _ in range(s.workers)):
                options = {**jobs.new_spec["options"], **sizes[size]}
                jobs.worker_spec[f"{jobs.name}-{number}"] = {"cls": jobs.job_cls, "options": options}
            with _replaced(jobs, look), Client(jobs) as client:
                yield client


@contextlib.contextmanager
def certificates(settings: ClusterSettings, shared: Path) -> Iterator[TlsFiles | None]:
    """The user's certificates, or some of this run's own for as long as the block lasts; None if off."""
    if settings.tls == "off":
        yield None
    elif isinstance(settings.tls, TlsFiles):
        security.read(settings.tls)
        yield settings.tls
    else:
        folder = shared / f"tls-{uuid.uuid4().hex[:12]}"
        try:
            yield security.write(security.issue(), folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def job_options(
    slurm: SlurmSettings, size: WorkerClass, tls: TlsFiles | None, shared: Path
) -> dict[str, Any]:
    """What dask-jobqueue makes the job of one worker from.

    Parameters
    ----------
    slurm : SlurmSettings
        Partition, account and the like.
    size : WorkerClass
        How large the worker is.
    tls : TlsFiles or None
        On a file system that the nodes see; None for plain connections.
    shared : Path
        Folder for the jobs' logs.
    """
    end = lifetime(slurm.walltime)
    return {
        "queue": slurm.partition,
        "account": slurm.account,
        "walltime": slurm.walltime,
        # one worker with one thread: cores are for the threads inside its task
        "cores": 1,
        "processes": 1,
        "job_cpu": slurm.cores,
        "memory": str(int(size.memory)),
        "job_mem": f"{-(-size.memory // _MIB)}M",
        # hands tasks back when the job has to go
        "nanny": True,
        "python": slurm.python or shlex.quote(sys.executable),
        "local_directory": slurm.scratch or "/tmp",
        "interface": slurm.interface,
        "log_directory": str(shared / "log"),
        "job_name": "acs-batch",
        "job_script_prologue": [
            *slurm.prologue,
            *(f"export {name}={slurm.cores}" for name in THREADS),
            *(f"export {name}={shlex.quote(value)}" for name, value in scheduling.environment().items()),
        ],
        "job_extra_directives": list(slurm.directives),
        "protocol": "tcp://" if tls is None else "tls://",
        "security": None if tls is None else security.security(tls),
        "worker_extra_args": [
            "--resources",
            f"memory={promised(size.memory)}",
            # hands its task back in order before SLURM ends the job
            "--lifetime",
            f"{end}s",
            "--lifetime-stagger",
            f"{end // 20}s",
        ],
    }


def job_script(options: Mapping[str, Any]) -> str:
    """What is handed to sbatch, but for the scheduler's address and the worker's name."""
    script: str = _jobqueue().slurm.SLURMJob("tls://scheduler:8786", name="worker", **options).job_script()
    return script


def lifetime(walltime: str) -> int:
    """Seconds after which a worker of a job with this walltime, ``[days-]hours:minutes:seconds``, ends.

    A tenth of the walltime is kept back: half for the spread of the workers' ends, half for the end itself.
    """
    days, _, clock = walltime.rpartition("-")
    hours, minutes, seconds = map(int, clock.split(":"))
    return ((int(days or 0) * 24 + hours) * 3600 + minutes * 60 + seconds) * 9 // 10


def _jobqueue() -> Any:
    """dask_jobqueue, which takes Ctrl-C for itself where it is imported: it is given back."""
    before = signal.getsignal(signal.SIGINT)
    try:
        import dask_jobqueue.slurm
    finally:
        if signal.getsignal(signal.SIGINT) is not before:
            signal.signal(signal.SIGINT, before)
    return dask_jobqueue


def _try(script: str) -> None:
    """Have SLURM look at a job without running it: a wrong partition or account shows here."""
    with tempfile.NamedTemporaryFile("w", suffix=".sh") as file:
        file.write(script)
        file.flush()
        done = subprocess.run(
            ["sbatch", "--test-only", file.name], capture_output=True, text=True, check=False, timeout=60
        )
    if done.returncode:
        raise UsageError(f"SLURM takes no such job: {' '.join((done.stderr or done.stdout).split())}")


@contextlib.contextmanager
def _replaced(jobs: SLURMCluster, look: float) -> Iterator[None]:
    """Submit the jobs, and again each that has come to its end, as long as the block lasts."""
    over = threading.Event()

    def keep() -> None:
        while not over.wait(look):
            jobs.scale(len(jobs.worker_spec))

    jobs.scale(len(jobs.worker_spec))
    thread = threading.Thread(target=keep, name="slurm-jobs", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
