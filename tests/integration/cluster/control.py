"""How people and the Dask operator get to the stand-in of Kubernetes."""

from __future__ import annotations

import base64
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml
from apiserver import Server  # type: ignore[import-not-found]

ADMIN = "toy"
"""Token of whoever may do everything."""


def prepare(server: Server, namespace: str) -> None:
    """Make a namespace."""
    server.objects["v1", "namespaces", "", namespace] = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": namespace, "uid": "1", "resourceVersion": "1"},
    }


def kubeconfig(server: Server, namespace: str, path: Path, token: str = ADMIN, ca: str | None = None) -> None:
    """Write the file that leads to a server; `ca` is the certificate of its authority, PEM."""
    cluster = {"server": server.address}
    if ca is not None:
        cluster["certificate-authority-data"] = base64.b64encode(ca.encode()).decode()
    context = {"cluster": "here", "user": "me", "namespace": namespace}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [{"name": "here", "context": context}],
        "clusters": [{"name": "here", "cluster": cluster}],
        "users": [{"name": "me", "user": {"token": token}}],
    }
    path.write_text(yaml.safe_dump(config))


@contextlib.contextmanager
def operator(namespace: str, config: Path, log: Path) -> Iterator[None]:
    """dask-kubernetes' operator as its image runs it."""
    command = [sys.executable, "-m", "kopf", "run", "-m", "dask_kubernetes.operator.controller"]
    with log.open("wb") as said:
        running = subprocess.Popen(
            [*command, "--namespace", namespace, "--standalone"],
            stdout=said,
            stderr=subprocess.STDOUT,
            env={**os.environ, "KUBECONFIG": str(config)},
        )
        try:
            yield
        finally:
            running.terminate()
            running.wait(60)
