"""`compose.yaml` as its first lines say: scheduler, workers and a run on one machine."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from pods import ROOT, podman, recipe

pytestmark = [pytest.mark.container, pytest.mark.slow, pytest.mark.timeout(1200, func_only=True)]

COMPOSE = ROOT / "containers/compose.yaml"


@pytest.fixture
def environment(image: str, visit: Path, work: Path, certificates: Path, tmp_path: Path) -> dict[str, str]:
    """What the first lines export, and what podman has to be told on a confined machine."""
    told = recipe("build").confinement("podman")
    limits = [told[i + 1] for i, option in enumerate(told) if option == "--ulimit"]
    runtime = [f'runtime = "{told[i + 1]}"' for i, option in enumerate(told) if option == "--runtime"]
    lines = ["[containers]", f"default_ulimits = {json.dumps(limits)}", "[engine]", *runtime]
    (tmp_path / "containers.conf").write_text("\n".join(lines))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return {
        "VISIT": str(visit / "raw"),
        "CRDS": str(visit / "crds"),
        "WORK": str(work),
        "TLS": str(certificates),
        "IMAGE": image,
        "DASHBOARD": str(port),
        "CONTAINERS_CONF": str(tmp_path / "containers.conf"),
    }


@pytest.fixture
def project(environment: dict[str, str]) -> Iterator[str]:
    """Name of a project of which nothing is left afterwards."""
    name = f"acs-batch-test-{uuid.uuid4().hex[:8]}"
    yield name
    compose(name, environment, "down", "--volumes", "--timeout", "0")
    for kind in (("ps", "--all"), ("network", "ls"), ("volume", "ls")):
        assert name not in podman(*kind)


def compose(
    project: str, environment: dict[str, str], *arguments: str, timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "podman_compose", "--project-name", project, "--file", str(COMPOSE)]
    return subprocess.run(
        [*command, *arguments],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=timeout,
    )


def test_a_run_on_one_machine(project: str, environment: dict[str, str], work: Path) -> None:
    up = ("up", "--abort-on-container-exit", "--exit-code-from", "run")
    done = compose(project, environment, *up, timeout=900)
    assert done.returncode == 0, done.stdout[-5000:]
    assert (work / "products/select/jsim01010/jsim01010_drz.fits").is_file()
