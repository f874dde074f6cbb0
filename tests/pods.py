"""Containers for tests: on a network of their own, hardened, and nothing left afterwards."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Self, TypeVar

import psutil
from beside import load

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[1]
HARDENED = ("--read-only", "--cap-drop", "ALL", "--user", "1000", "--security-opt", "no-new-privileges")
"""How the image promises to run."""
SHELLS = ("/usr/bin/dash", "/usr/bin/bash")
TLS = "/tls"
_ROLES = ("scheduler", "worker", "client")
ENVIRONMENT = {
    "DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION": "true",
    "DASK_DISTRIBUTED__COMM__TLS__CA_FILE": f"{TLS}/ca.crt",
    **{f"DASK_DISTRIBUTED__COMM__TLS__{role.upper()}__CERT": f"{TLS}/tls.crt" for role in _ROLES},
    **{f"DASK_DISTRIBUTED__COMM__TLS__{role.upper()}__KEY": f"{TLS}/tls.key" for role in _ROLES},
}
"""As in ``compose.yaml``."""
SCHEDULER = "tls://scheduler:8786"


def podman(*arguments: str, check: bool = True, timeout: float = 120, **options: Any) -> str:
    """What a podman command prints; what it complains about in an `AssertionError`."""
    # its monitor leaves a file in the current folder when the kernel kills a container for memory
    options.setdefault("cwd", tempfile.gettempdir())
    done = subprocess.run(
        ["podman", *arguments], capture_output=True, text=True, check=False, timeout=timeout, **options
    )
    assert done.returncode == 0 or not check, f"podman {' '.join(arguments)}: {done.stdout}{done.stderr}"
    return done.stdout


def recipe(name: str) -> ModuleType:
    """A script of the folder ``containers`` as a module."""
    return load(ROOT / f"containers/{name}.py")


def hardened() -> list[str]:
    """Options of every container: the promised ones, what this machine asks for, and no shell to be found."""
    options = ["--pull", "never", *HARDENED, *recipe("build").confinement("podman")]
    # an empty file in the place of each shell
    options += [part for shell in SHELLS for part in ("--volume", f"{os.devnull}:{shell}:ro")]
    # the user inside is the user of this test where that is not root
    return options if os.geteuid() == 0 else [*options, "--userns=keep-id:uid=1000,gid=1000"]


@dataclass
class Site:
    """A network and the containers on it; both go with the block, whatever happened."""

    image: str
    mounts: Mapping[Path, str]
    """Folders of this machine, and where containers see them: ``/work`` or ``/visit:ro``."""
    token: str = "none"
    """A secret in the environment of every container, MAST_API_TOKEN."""
    name: str = field(default_factory=lambda: f"acs-batch-test-{uuid.uuid4().hex[:8]}")
    said: dict[str, str] = field(default_factory=dict)
    """What each container had printed at the end."""

    def __enter__(self) -> Self:
        podman("network", "create", "--internal", "--label", f"site={self.name}", self.name)
        podman("secret", "create", self.name, "-", input=self.token)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        names = podman("ps", "--all", "--filter", f"label=site={self.name}", "--format", "{{.Names}}").split()
        for name in names:
            if error is not None:
                print(f"--- {name}\n{logs(name)[-3000:]}")
            self.said[name.removeprefix(f"{self.name}-")] = logs(name)
        if names:
            podman("rm", "--force", "--volumes", "--time", "0", *names)
        podman("secret", "rm", self.name)
        podman("network", "rm", "--force", self.name)

    def start(self, name: str, *command: str, options: tuple[str, ...] = ()) -> None:
        """Start a container in the background."""
        mounts = [f"--volume={folder}:{target}" for folder, target in self.mounts.items()]
        variables = [f"--env={k}={v}" for k, v in ENVIRONMENT.items() if f"{TLS}:ro" in self.mounts.values()]
        podman(
            "run", "--detach", "--name", f"{self.name}-{name}", "--hostname", name,
            "--label", f"site={self.name}", "--network", self.name, "--network-alias", name,
            "--secret", f"{self.name},type=env,target=MAST_API_TOKEN",
            *hardened(), *mounts, *variables, *options, self.image, *command,
        )  # fmt: skip

    def scheduler(self) -> None:
        """Start the scheduler."""
        self.start("scheduler", "dask", "scheduler", "--protocol", "tls", options=_checked(8787))
        self.wait_until("the scheduler to be well", lambda: self.healthy("scheduler"))

    def worker(self, name: str, *, memory: int, planned: int) -> None:
        """Start a worker in `memory` bytes, swap included, that offers `planned` bytes to tasks."""
        command = ["dask", "worker", SCHEDULER, "--protocol", "tls", "--name", name, "--nthreads", "1"]
        command += ["--no-nanny", "--memory-limit", "0", "--resources", f"memory={planned}"]
        command += ["--dashboard-address", ":8788"]
        limits = (f"--memory={memory}", f"--memory-swap={memory}")
        self.start(name, *command, options=(*limits, *_checked(8788)))

    def drive(self, *options: str) -> None:
        """Start the driver: ``acs-batch run`` on the mounted visit."""
        self.start(
            "driver", "acs-batch", "run", "--scheduler", SCHEDULER, "--from", "/visit/raw",
            "--crds-cache", "/visit/crds", "--work", "/work", *options,
        )  # fmt: skip

    def wait(self, name: str, timeout: float = 900) -> int:
        """Exit code of a container, once it has ended."""
        return int(podman("wait", f"{self.name}-{name}", timeout=timeout))

    def logs(self, name: str) -> str:
        """What a container has printed so far."""
        return logs(f"{self.name}-{name}")

    def healthy(self, name: str) -> bool:
        """What the container's own health check says."""
        command = ["podman", "healthcheck", "run", f"{self.name}-{name}"]
        return subprocess.run(command, capture_output=True, check=False, timeout=60).returncode == 0

    def inside(self, name: str, code: str) -> str:
        """What a Python program prints in a running container."""
        return podman("exec", f"{self.name}-{name}", "python", "-I", "-c", code)

    def kill(self, name: str) -> None:
        """Kill everything in a container at once."""
        podman("kill", "--signal", "KILL", f"{self.name}-{name}")

    def task_of(self, name: str) -> str:
        """The workspace of the task that a worker's container runs now; empty if there is none."""
        for process in self.processes(name):
            try:
                line = process.cmdline()
            except psutil.Error:
                continue
            if "batch.runtime.task" in line:
                return Path(line[-1]).name
        return ""

    def processes(self, name: str) -> list[psutil.Process]:
        """Every process of a container, as this machine sees it."""
        first = int(podman("inspect", "--format", "{{.State.Pid}}", f"{self.name}-{name}"))
        try:
            main = psutil.Process(first)
            return [main, *main.children(recursive=True)]
        except psutil.Error:
            return []

    def wait_until(self, what: str, happened: Callable[[], T], seconds: float = 120) -> T:
        """What has happened, as soon as it has."""
        end = time.monotonic() + seconds
        while not (found := happened()):
            assert time.monotonic() < end, f"waited {seconds:.0f} s for {what}"
            time.sleep(0.1)
        return found


def logs(name: str) -> str:
    """What a container has printed to either stream."""
    command = ["podman", "logs", name]
    return subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=60
    ).stdout


def _checked(port: int) -> tuple[str, ...]:
    """A health check that is made when asked for."""
    check = f"CMD python -I /opt/acs-batch/health.py {port}"
    return ("--health-cmd", check, "--health-interval", "disable", "--health-timeout", "20s")
