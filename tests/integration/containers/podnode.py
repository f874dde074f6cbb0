"""A node of Kubernetes that runs pods as containers of podman, held back as their manifests say."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import ssl
import threading
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from apiobjects import Object  # type: ignore[import-not-found]
from apiserver import Server  # type: ignore[import-not-found]
from kubelet import Node  # type: ignore[import-not-found]
from pods import Site, podman, recipe
from rights import Rights  # type: ignore[import-not-found]

ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
BYTES = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


class Containers(Node):
    """Pods of Deployments and Jobs on the network of a site.

    Parameters
    ----------
    root : Path
        For what is mounted.
    server : Server
        The API server, which pods reach at its address.
    site : Site
        Where containers run.
    claims : mapping
        Folders of this machine by the name of a volume claim.
    ca : str
        Certificate of the server's authority, PEM.
    """

    runs = ("deployments", "jobs")

    def __init__(self, root: Path, server: Server, site: Site, claims: Mapping[str, Path], ca: str) -> None:
        super().__init__(root, server)
        self.site, self.claims, self.ca = site, claims, ca
        self.rights = Rights(server)
        server.allowed = self.rights.allowed

    def run(self, pod: Object) -> None:
        """Start a pod in a thread of its own."""
        threading.Thread(target=self._start, args=(pod,), daemon=True).start()

    def end(self, pod: Object) -> None:
        """SIGTERM, SIGKILL when the grace period is over, and nothing is left."""
        grace = pod["spec"].get("terminationGracePeriodSeconds", 30)
        threading.Thread(target=self._stop, args=(pod["metadata"]["name"], grace), daemon=True).start()

    def forward(self, pod: Object, number: int) -> tuple[str, int]:
        """Host and port of a pod's port."""
        networks = json.loads(podman("inspect", self._name(pod)))[0]["NetworkSettings"]["Networks"]
        return networks[self.site.name]["IPAddress"], number

    def _name(self, pod: Object) -> str:
        return f"{self.site.name}-{pod['metadata']['name']}"

    def _start(self, pod: Object) -> None:
        meta = pod["metadata"]
        while (made := self._command(pod)) is None:
            # a Job is there before its ConfigMap: the kubelet tries again, too
            time.sleep(0.2)
        podman(*made)
        self.tell(pod, "Running")
        [container] = pod["spec"]["containers"]
        probe = container.get("readinessProbe", container.get("livenessProbe"))
        if probe is None:
            return
        [number] = [p["containerPort"] for p in container["ports"] if p["name"] == probe["httpGet"]["port"]]
        host, port = self.forward(pod, number)
        while ("v1", "pods", meta["namespace"], meta["name"]) in self.server.objects:
            url = f"http://{host}:{port}{probe['httpGet']['path']}"
            with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2):
                self.tell(pod, "Running", ready=True)
                return
            time.sleep(0.2)

    def _stop(self, name: str, grace: int) -> None:
        podman("stop", "--ignore", "--time", str(grace), f"{self.site.name}-{name}", timeout=grace + 60)
        podman("rm", "--force", "--ignore", "--volumes", f"{self.site.name}-{name}")

    def _command(self, pod: Object) -> list[str] | None:
        """The command that starts a pod; None if something that is to be mounted is not there yet."""
        meta, spec = pod["metadata"], pod["spec"]
        [container] = spec["containers"]
        outer, inner = spec["securityContext"], container["securityContext"]
        try:
            given, mounts = self.environment(pod), self._mounts(pod, outer["fsGroup"])
        except KeyError:
            return None
        host, _, port = self.server.address.rpartition("//")[2].rpartition(":")
        given |= {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}
        limits = container["resources"]["limits"]
        memory = int(limits["memory"][:-2]) * BYTES[limits["memory"][-2:]]
        # the operator names the scheduler's service as its Deployment
        options = ["--name", self._name(pod), "--hostname", meta["name"], "--label", f"site={self.site.name}"]
        [owner] = meta["ownerReferences"]
        options += ["--restart", "always" if owner["kind"] == "Deployment" else "no"]
        options += ["--network", self.site.name]
        options += ["--network-alias", f"{meta['name']}.{meta['namespace']}.svc"]
        options += [
            "--user",
            f"{outer['runAsUser']}:{outer['runAsGroup']}",
            "--group-add",
            str(outer["fsGroup"]),
        ]
        options += [part for name in inner["capabilities"]["drop"] for part in ("--cap-drop", name)]
        options += [] if inner["allowPrivilegeEscalation"] else ["--security-opt", "no-new-privileges"]
        # a node adds no folder that can be written to a read-only root file system
        options += ["--read-only", "--read-only-tmpfs=false"] if inner["readOnlyRootFilesystem"] else []
        options += ["--memory", str(memory), "--memory-swap", str(memory), "--cpus", limits["cpu"]]
        # a first process that reaps, as the pause container does then
        options += ["--init"] if spec.get("shareProcessNamespace") else []
        options += [part for k, v in given.items() for part in ("--env", f"{k}={v}")]
        options += [part for mount in mounts for part in ("--volume", mount)]
        words = [re.sub(r"\$\((\w+)\)", lambda m: given[m[1]], word) for word in container["args"]]
        confined = recipe("build").confinement("podman")
        confined += [] if os.geteuid() == 0 else ["--userns=keep-id:uid=1000,gid=1000"]
        return ["run", "--detach", "--pull", "never", *options, *confined, container["image"], *words]

    def _mounts(self, pod: Object, group: int) -> list[str]:
        spec, name = pod["spec"], pod["metadata"]["name"]
        [container] = spec["containers"]
        sources: dict[str, Path] = {}
        for volume in spec["volumes"]:
            if "persistentVolumeClaim" in volume:
                sources[volume["name"]] = self.claims[volume["persistentVolumeClaim"]["claimName"]]
            else:
                sources[volume["name"]] = owned(self.folder(pod, volume), group)
        made = []
        for mount in container["volumeMounts"]:
            mode = "ro" if mount.get("readOnly") else "rw"
            made.append(f"{sources[mount['name']]}:{mount['mountPath']}:{mode}")
        if spec.get("automountServiceAccountToken"):
            here = self.root / name / "serviceaccount"
            here.mkdir(parents=True, exist_ok=True)
            token = secrets.token_hex()
            self.rights.accounts[token] = (pod["metadata"]["namespace"], spec["serviceAccountName"])
            (here / "token").write_text(token)
            (here / "ca.crt").write_text(self.ca)
            made.append(f"{owned(here, group)}:{ACCOUNT}:ro")
        return made


def owned(folder: Path, group: int) -> Path:
    """A volume as the kubelet hands it to a pod with an fsGroup: the group may what its owner may."""
    for path in (folder, *folder.iterdir()):
        mode = path.stat().st_mode & 0o777
        path.chmod(mode | (mode & 0o700) >> 3)
        if os.geteuid() == 0:
            os.chown(path, 0, group)
    folder.chmod(0o2775)
    return folder


def gateway(network: str) -> str:
    """Address of this machine on a network of podman's, which is there as soon as a container is."""
    found: Any = json.loads(podman("network", "inspect", network))
    address: str = found[0]["subnets"][0]["gateway"]
    return address


def context(certificates: Any, folder: Path) -> ssl.SSLContext:
    """TLS of an API server."""
    folder.mkdir(mode=0o700)
    (folder / "crt").write_text(certificates.cert)
    (folder / "key").write_text(certificates.key)
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(folder / "crt", folder / "key")
    return made
