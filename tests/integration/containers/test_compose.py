"""`compose.yaml` as its first lines say: scheduler, workers and a run on one machine."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
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
    command = [*compose(name), "down", "--volumes", "--timeout", "0"]
    subprocess.run(command, env={**os.environ, **environment}, capture_output=True, check=True, timeout=120)
    for kind in (("ps", "--all"), ("network", "ls"), ("volume", "ls")):
        assert name not in podman(*kind)


def compose(project: str) -> list[str]:
    return [sys.executable, "-m", "podman_compose", "--project-name", project, "--file", str(COMPOSE)]


def test_a_run_on_one_machine(project: str, environment: dict[str, str], work: Path, tmp_path: Path) -> None:
    up = [*compose(project), "up", "--abort-on-container-exit", "--exit-code-from", "run"]
    log = tmp_path / "compose.log"
    with (
        log.open("wb") as said,
        subprocess.Popen(
            up, env={**os.environ, **environment}, stdout=said, stderr=subprocess.STDOUT
        ) as running,
    ):
        try:
            seen = dashboard(f"http://127.0.0.1:{environment['DASHBOARD']}/status", running)
            code = running.wait(900)
        finally:
            running.kill()
    assert code == 0, log.read_text(errors="replace")[-5000:]
    assert seen == 200
    assert (work / "products/select/jsim01010/jsim01010_drz.fits").is_file()
    records = [json.loads(p.read_text()) for p in (work / "products").rglob("record.json")]
    assert len({r["usage"]["host"] for r in records}) == 2, "both workers had something to do"


def dashboard(url: str, running: subprocess.Popen[bytes]) -> int | None:
    """Status of the answer, as soon as there is one."""
    while running.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
            return int(answer.status)
        time.sleep(0.2)
    return None
