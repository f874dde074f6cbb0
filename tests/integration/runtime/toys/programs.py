"""A scheduler, workers and a driver as programs of their own, as on somebody else's cluster.

They are forked from a process that has imported Dask, which takes longer than many a test.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import multiprocessing
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask
import psutil

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(
    ["distributed.cli.dask_scheduler", "distributed.cli.dask_worker", "batch.runtime.execution"]
)

_DRIVER = """
import json, sys
from batch.config.cluster import ClusterSettings
from batch.errors import BatchError
from batch.runtime import cancelling, events
from batch.runtime.execution import Listeners, carry_out
from batch.storage.files import to_json
from batch.storage.work import PLAN, open_work
from toyplan import toy_plan

if __name__ == "__main__":
    settings, work = ClusterSettings.model_validate(json.loads(sys.argv[1])), open_work(sys.argv[2])
    try:
        with work.writer():
            cancelling.clear(work)
            plan = toy_plan(*json.loads(sys.argv[3]))
            work.write(PLAN, to_json(plan))
            with events.journal(work, "test", None) as log:
                found = carry_out(settings, work, plan, Listeners(), log, stages="toystages")
            print(found.counts())
    except BatchError as error:
        print(error.message, file=sys.stderr)
        sys.exit(error.exit_code)
"""


class Program:
    """One of them, used like a `subprocess.Popen`."""

    def __init__(self, log: Path, program: str, arguments: tuple[str, ...]) -> None:
        given = (str(log), dict(os.environ), program, arguments)
        self._process = _SERVER.Process(target=_run, args=given)
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float) -> int:
        self._process.join(timeout)
        status = self.poll()
        if status is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout)
        return status

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()


def _run(log: str, environment: dict[str, str], program: str, arguments: tuple[str, ...]) -> None:
    """In the new process: a script, or the `main` of a module."""
    with open(log, "ab") as stream:
        for descriptor in (1, 2):
            os.dup2(stream.fileno(), descriptor)
    os.environ.clear()
    os.environ.update(environment)
    # both may have been read before
    dask.config.refresh()
    tempfile.tempdir = None
    os.chdir(Path(log).parent)
    sys.argv[:] = [program, *arguments]
    if program.endswith(".py"):
        runpy.run_path(program, run_name="__main__")
    else:
        importlib.import_module(program).main()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Programs:
    """Starts programs, and ends all of them with the test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[Program] = []
        self.port, self.http = free_port(), free_port()

    @property
    def address(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    def _start(self, name: str, program: str, *arguments: str) -> Program:
        log = self.folder / f"{name}-{len(self.started)}.log"
        self.started.append(Program(log, program, arguments))
        return self.started[-1]

    def log(self, process: Program) -> str:
        number = self.started.index(process)
        (path,) = self.folder.glob(f"*-{number}.log")
        return path.read_text()

    def scheduler(self) -> Program:
        ports = ("--port", str(self.port), "--dashboard-address", f"127.0.0.1:{self.http}")
        return self._start("scheduler", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", *ports)

    def worker(self, memory: float = 1e9) -> Program:
        options = ("--nthreads", "1", "--resources", f"memory={memory}", "--memory-limit", "0")
        folder = ("--local-directory", str(self.folder), "--no-dashboard", "--host", "127.0.0.1")
        return self._start("worker", "distributed.cli.dask_worker", self.address, *options, *folder)

    def driver(self, work: Path, shape: tuple[Any, ...] = (2, 3), **settings: Any) -> Program:
        """A run of the toy pipeline: associations, exposures, pixfracs."""
        script = self.folder / "driver.py"
        script.write_text(_DRIVER)
        given = (json.dumps(settings), str(work), json.dumps(shape))
        return self._start("driver", str(script), *given)

    def await_workers(self, count: int) -> None:
        """A run may start with fewer; these are all there before it does."""
        from distributed import Client

        with Client(self.address, timeout=60, set_as_default=False) as client:
            client.wait_for_workers(count, timeout=60)

    def end(self) -> None:
        for process in self.started:
            if process.poll() is None:
                # children of workers go with them
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait(30)


@contextlib.contextmanager
def programs(folder: Path) -> Iterator[Programs]:
    folder.mkdir(exist_ok=True)
    made = Programs(folder)
    try:
        yield made
    finally:
        made.end()


def until(holds: Callable[[], Any], what: str, seconds: float = 60) -> Any:
    """What `holds` returns once it is true."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := holds():
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} s: {what}")


def task_process(work: Path, task_id: str = "") -> psutil.Process | None:
    """The process of a task of this work directory: not its supervisor."""
    mark = f"{work}{os.sep}scratch{os.sep}{task_id.replace('/', '__')}"
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        if "batch.runtime.task" in line and line[-1].startswith(mark):
            return process
    return None


def events(work: Path) -> list[dict[str, Any]]:
    """All lines of all event logs."""
    paths = sorted((work / "events").glob("*.jsonl"))
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


@contextlib.contextmanager
def submissions(client: Any) -> Iterator[list[tuple[tuple[str, ...], int]]]:
    """Keys and memory of what goes to the scheduler while the block lasts."""
    made: list[tuple[tuple[str, ...], int]] = []
    real = client.get

    def get(graph: Any, keys: Any, **options: Any) -> Any:
        (layer,) = graph.layers.values()
        made.extend((key, layer.annotations["resources"](key)["memory"]) for key in layer)
        return real(graph, keys, **options)

    client.get = get
    try:
        yield made
    finally:
        client.get = real
