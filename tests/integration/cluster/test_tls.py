"""TLS with a real scheduler and real workers, started by hand as the manual says."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, Security

from batch.config.cluster import ClusterSettings, KubernetesSettings, TlsFiles, WorkerClass
from batch.errors import UsageError
from batch.runtime import kubernetes, manifests, security
from batch.runtime.classes import KEPT
from batch.runtime.cluster import connect


@dataclass
class Started:
    """A scheduler and a worker that speak TLS."""

    address: str
    tls: TlsFiles
    logs: Path


@pytest.fixture(scope="module")
def started(toy_control: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    folder = tmp_path_factory.mktemp("tls")
    tls = security.write(security.issue(), folder / "keys")
    keys = ["--tls-ca-file", tls.ca, "--tls-cert", tls.cert, "--tls-key", tls.key]
    file = folder / "scheduler.json"
    at = ["--host", "127.0.0.1", "--protocol", "tls"]
    with contextlib.ExitStack() as stack:

        def start(name: str, *words: object) -> None:
            stack.enter_context(process(folder / f"{name}.log", name, *words))

        dashboard = ["--dashboard-address", "127.0.0.1:0"]
        start("scheduler", *at, *keys, *dashboard, "--port", "0", "--scheduler-file", file)
        end = time.monotonic() + 60
        while not (file.exists() and file.read_text()):
            assert time.monotonic() < end
            time.sleep(0.1)
        address = json.loads(file.read_text())["address"]
        start("worker", address, *at, *keys, "--nthreads", "1", "--resources", "memory=1e9", "--no-nanny")
        yield Started(address, tls, folder)


@contextlib.contextmanager
def process(log: Path, name: str, *words: object) -> Iterator[None]:
    with log.open("w") as out:
        running = subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.dask_{name}", *map(str, words)],
            stdout=out,
            stderr=subprocess.STDOUT,
            env=os.environ,
        )
        try:
            yield
        finally:
            running.terminate()
            running.wait(30)


def test_the_address_is_an_encrypted_one(started: Started) -> None:
    assert started.address.startswith("tls://")


def test_a_client_without_a_certificate_cannot_connect(started: Started, tmp_path: Path) -> None:
    stranger = security.write(security.issue(), tmp_path / "stranger")
    ca_only = Security(
        require_encryption=True, tls_ca_file=str(started.tls.ca), tls_client_cert=str(stranger.cert),
        tls_client_key=str(stranger.key),
    )  # fmt: skip
    plain = started.address.replace("tls://", "tcp://")
    for address, keys in (
        (plain, None),
        (started.address, security.security(stranger)),
        # knows the run's authority, which is no secret, but has nothing that it signed
        (started.address, ca_only),
    ):
        with pytest.raises(OSError, match=r"closed|imed out|certificate does not match"):
            Client(address, security=keys, timeout=2)
    with pytest.raises(TypeError, match="ssl_context"):
        Client(started.address, timeout=2)
    # those that could not start wait for a lock when they are collected: not in the middle of another start
    gc.collect()


def test_with_it_a_whole_run_goes_through(toys: Any, started: Started, no_secrets: Any) -> None:
    settings = ClusterSettings(scheduler=started.address, tls=started.tls)
    with work_of(toys) as work, connect(settings, toys.plan.tasks, work) as client:
        assert client.scheduler.address.startswith("tls://")
        assert all(a.startswith("tls://") for a in client.scheduler_info()["workers"])
        records = toys.run(client)
    assert {r.status.value for r in records.values()} == {"done"}
    key = started.tls.key.read_text()
    assert no_secrets(toys.work.root, key) > 14
    for path in started.logs.glob("*.log"):
        assert key.splitlines()[1] not in path.read_text()


def test_the_command_line_says_what_is_missing(started: Started, tmp_path: Path) -> None:
    with (
        pytest.raises(UsageError, match="no certificates for it"),
        connect(
            ClusterSettings(scheduler=started.address),
            (),
            tmp_path,  # type: ignore[arg-type]
        ),
    ):
        pass


def test_a_submitted_driver_finds_its_cluster_and_ends_it(
    toys: Any, started: Started, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As in the pod of the driver's Job, but for the name of the service, which means nothing here."""
    monkeypatch.setattr(manifests, "scheduler_address", lambda settings: started.address)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    settings = ClusterSettings(
        kind="kubernetes",
        tls=started.tls,
        kubernetes=KubernetesSettings(name="visit-abcde", existing=True, timeout=20),
        # the one worker that there is
        classes=(WorkerClass.model_validate({"memory": KEPT + 10**9}),),
    )
    with work_of(toys) as work:
        # a driver that is told to go leaves the cluster to its next attempt
        with (
            pytest.raises(KeyboardInterrupt),
            kubernetes.ending(settings),
            connect(settings, toys.plan.tasks, work),
        ):
            raise KeyboardInterrupt
        assert "visit-abcde" not in caplog.text
        with kubernetes.ending(settings), connect(settings, toys.plan.tasks, work) as client:
            assert client.scheduler.address == started.address
    assert "DaskCluster visit-abcde stays" in caplog.text, "outside Kubernetes there is nobody to ask"


@contextlib.contextmanager
def work_of(toys: Any) -> Iterator[Any]:
    with toys.work.writer():
        pass
    yield toys.work
