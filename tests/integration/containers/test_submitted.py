"""`acs-batch submit`, seen through: its Job, the Dask operator's pods, the end of the cluster; in containers.

API server and controllers are stand-ins; operator, image, command, environment, mounts, security contexts and
limits are those of the manifests.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from beside import load
from cryptography import x509
from pods import ROOT, Site, podman

from batch.runtime import security

pytestmark = [pytest.mark.container, pytest.mark.slow, pytest.mark.timeout(900, func_only=True)]

CLUSTER = ROOT / "tests/integration/cluster"
NAMESPACE = "hst"


@pytest.fixture
def claims(visit: Path, tmp_path: Path) -> dict[str, Path]:
    """What is in the volumes: raw exposures in that of the work directory, the CRDS cache."""
    work = tmp_path / "claim"
    shutil.copytree(visit / "raw", work / "raw")
    shutil.copytree(visit / "truth", work / "truth")
    for path in (work, *work.rglob("*")):
        if os.geteuid() == 0:
            os.chown(path, 1000, 1000)
    return {"acs-batch-work": work, "acs-batch-crds": visit / "crds"}


@pytest.fixture
def site(image: str) -> Site:
    """Not started yet."""
    return Site(image, {})


@pytest.fixture
def node(
    site: Site, claims: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    """Kubernetes with the Dask operator; its API server is where the pods' network meets this machine."""
    monkeypatch.syspath_prepend(str(CLUSTER))
    apiserver, control = load(CLUSTER / "apiserver.py"), load(CLUSTER / "control.py")
    podnode = load(Path(__file__).parent / "podnode.py")
    with site:
        # the network's address is there with its first container
        site.start("first", "python", "-I", "-c", "import signal; signal.pause()")
        host = podnode.gateway(site.name)
        certificates = security.issue(names=[x509.IPAddress(ipaddress.ip_address(host))])
        context = podnode.context(certificates, tmp_path / "api")
        server = apiserver.Server(lambda pod, port: made.forward(pod, port), host, context)
        kubeconfig = tmp_path / "kubeconfig"
        with apiserver.serving(server):
            control.prepare(server, NAMESPACE)
            control.kubeconfig(server, NAMESPACE, kubeconfig, ca=certificates.ca)
            made = podnode.Containers(tmp_path / "node", server, site, claims, certificates.ca)
            monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
            with control.operator(NAMESPACE, kubeconfig, tmp_path / "operator.log"):
                yield made


def test_a_submitted_run_ends_with_the_mosaic_and_without_its_cluster(
    node: Any, site: Site, claims: dict[str, Path]
) -> None:
    settings = [
        f"cluster.kubernetes.namespace={NAMESPACE}",
        f"cluster.kubernetes.image={site.image}",
        'cluster.classes=[{memory="1536 MiB"},{memory="2 GiB"}]',
        "align.catalog=/work/truth/catalog.ecsv",
        "sweep.pixfrac=[0.6,0.8]",
    ]
    command = [sys.executable, "-m", "batch.cli", "submit", "--from", "/work/raw", "--crds-cache", "/crds"]
    command += ["--work", "/work/visit", *(part for value in settings for part in ("--set", value))]
    said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert said.returncode == 0, said.stdout + said.stderr
    [job] = objects(node, "jobs")
    name = job["metadata"]["name"]
    scheduler = f"{name}-scheduler"
    site.wait_until("driver and scheduler", lambda: {name, scheduler} <= set(containers(site)))
    site.wait_until("two workers", lambda: len(containers(site)) == 5)
    for container in containers(site):
        if container != "first":
            held_back(site, container)
    [secret] = [s for s in objects(node, "secrets") if s["metadata"]["name"] == f"{name}-tls"]

    assert site.wait(name, timeout=600) == 0, site.logs(name)
    select = claims["acs-batch-work"] / "visit/products/select/jsim01010"
    assert (select / "jsim01010_drz.fits").is_file()
    assert "DaskCluster" not in site.logs(name)
    # the driver's account asked for that; everything else goes by its owners
    site.wait_until("the cluster to be gone", lambda: ("gone", "daskclusters", name) in node.server.log)
    site.wait_until("scheduler and workers to be gone", lambda: set(containers(site)) == {"first", name})
    left = {(k[1], k[3]) for k in node.server.objects if k[1] not in ("namespaces", "events")}
    assert {plural for plural, _ in left} == {
        "configmaps", "jobs", "networkpolicies", "poddisruptionbudgets", "pods",
        "rolebindings", "roles", "secrets", "serviceaccounts",
    }  # fmt: skip
    key = base64.b64decode(secret["data"]["tls.key"]).decode().splitlines()[1]
    assert not [
        p for p in claims["acs-batch-work"].rglob("*") if p.is_file() and key.encode() in p.read_bytes()
    ]
    assert key not in site.logs(name)


def objects(node: Any, plural: str) -> list[Any]:
    return [o for k, o in list(node.server.objects.items()) if k[1] == plural]


def containers(site: Site) -> list[str]:
    """Names of the containers that are there, ended or not."""
    names = podman("ps", "--all", "--filter", f"label=site={site.name}", "--format", "{{.Names}}").split()
    return [name.removeprefix(f"{site.name}-") for name in names]


def held_back(site: Site, name: str) -> None:
    """A container may do what the restricted profile lets it do."""
    found = json.loads(podman("inspect", f"{site.name}-{name}"))[0]
    assert found["HostConfig"]["ReadonlyRootfs"]
    assert not found["HostConfig"]["Tmpfs"]
    assert not found["EffectiveCaps"]
    assert found["Config"]["User"] == "1000:1000"
    assert "no-new-privileges" in found["HostConfig"]["SecurityOpt"]
