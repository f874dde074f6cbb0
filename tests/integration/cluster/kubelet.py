"""Stands in for the controllers and the node of Kubernetes: Deployments and Jobs become pods, pods run.

`Node` makes pods and whatever is mounted into them; `Processes` runs them as processes of this machine.
Arguments and environment are the manifest's own. Secrets are files, as on a node.
"""

from __future__ import annotations

import base64
import contextlib
import os
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

from apiobjects import Object, Store  # type: ignore[import-not-found]

NAMES = re.compile(r"(t\w+)://([\w-]+-scheduler)\.[\w-]+\.svc:(\d+)")


class Node:
    """One machine for all pods.

    Parameters
    ----------
    root : Path
        For what is mounted, and for logs.
    server : Store
        Where Deployments and Jobs come from.
    """

    runs = ("deployments",)
    """Of what pods are made."""

    def __init__(self, root: Path, server: Store) -> None:
        self.root, self.server = root, server
        server.changed.append(self._changed)

    def run(self, pod: Object) -> None:
        """Start a pod; called in the server's thread, which must not wait."""
        raise NotImplementedError

    def end(self, pod: Object) -> None:
        """End a pod that is gone; called in the server's thread."""
        raise NotImplementedError

    def _changed(self, what: str, plural: str, changed: Object) -> None:
        if plural in self.runs and what == "ADDED":
            meta, template = changed["metadata"], changed["spec"]["template"]
            owner = {"kind": changed["kind"], "name": meta["name"], "uid": meta["uid"]}
            about = {**template.get("metadata", {}), "name": meta["name"], "ownerReferences": [owner]}
            pod = {"metadata": about, "spec": template["spec"]}
            self.server.create("v1", "pods", meta["namespace"], {**pod, "status": {"phase": "Pending"}})
        elif plural == "pods" and what == "ADDED":
            self.run(changed)
        elif plural == "pods" and what == "DELETED":
            self.end(changed)

    def tell(self, pod: Object, phase: str, *, ready: bool = False) -> None:
        """Let everybody know how a pod is."""
        meta, state = pod["metadata"], str(ready)
        conditions = [{"type": kind, "status": state} for kind in ("Ready", "ContainersReady")]
        status = {"phase": phase, "conditions": conditions}
        self.server.soon(("v1", "pods", meta["namespace"], meta["name"]), {"status": status})

    def environment(self, pod: Object) -> dict[str, str]:
        """Variables of a pod's container, with what stands in secrets."""
        [container] = pod["spec"]["containers"]
        made = {}
        for variable in container.get("env", ()):
            value = self._value(variable, container, pod["metadata"]["namespace"])
            if value is not None:
                made[variable["name"]] = value
        return made

    def _value(self, variable: Object, container: Object, namespace: str) -> str | None:
        if "value" in variable:
            return str(variable["value"])
        if "resourceFieldRef" in variable["valueFrom"]:
            kind, _, what = variable["valueFrom"]["resourceFieldRef"]["resource"].partition(".")
            return str(container["resources"][kind][what])
        source = variable["valueFrom"]["secretKeyRef"]
        secret = self.server.objects.get(("v1", "secrets", namespace, source["name"]))
        if secret is None and source.get("optional"):
            return None
        return base64.b64decode(secret["data"][source["key"]]).decode()

    def folder(self, pod: Object, volume: Object) -> Path:
        """A volume's own folder with what is in it: empty, a secret, a ConfigMap."""
        meta = pod["metadata"]
        here = self.root / meta["name"] / volume["name"]
        here.mkdir(parents=True, exist_ok=True)
        if "secret" in volume:
            key = ("v1", "secrets", meta["namespace"], volume["secret"]["secretName"])
            files = {k: base64.b64decode(v) for k, v in self.server.objects[key]["data"].items()}
            mode = volume["secret"].get("defaultMode", 0o644)
        elif "configMap" in volume:
            key = ("v1", "configmaps", meta["namespace"], volume["configMap"]["name"])
            files = {k: v.encode() for k, v in self.server.objects[key]["data"].items()}
            mode = volume["configMap"].get("defaultMode", 0o644)
        else:
            files, mode = {}, 0
        for name, content in files.items():
            (here / name).write_bytes(content)
            (here / name).chmod(mode)
        return here


class Processes(Node):
    """Pods as processes of this machine, which start again when they end, as a Deployment's do.

    Only paths that are mounted and ports, of which there is one set on this machine, become others.
    """

    def __init__(self, root: Path, server: Store) -> None:
        super().__init__(root, server)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._ports: dict[tuple[str, int], int] = {}
        self._ending: set[str] = set()
        self._lock = threading.Lock()

    def port(self, name: str, number: int) -> int:
        """Where a pod's port is on this machine."""
        if (name, number) not in self._ports:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                self._ports[name, number] = free.getsockname()[1]
        return self._ports[name, number]

    def forward(self, pod: Object, number: int) -> tuple[str, int]:
        """Host and port of a pod's port."""
        return "127.0.0.1", self.port(pod["metadata"]["name"], number)

    def close(self) -> None:
        """End what still runs."""
        for name in list(self.processes):
            self._stop(name, 0)

    def run(self, pod: Object) -> None:
        """Start a pod in a thread of its own."""
        threading.Thread(target=self._keep_running, args=(pod, *self._command(pod)), daemon=True).start()

    def end(self, pod: Object) -> None:
        """SIGTERM, and SIGKILL when the grace period is over."""
        grace = pod["spec"].get("terminationGracePeriodSeconds", 30)
        threading.Thread(target=self._stop, args=(pod["metadata"]["name"], grace), daemon=True).start()

    def _command(self, pod: Object) -> tuple[list[str], dict[str, str], str]:
        """Words, environment and folder."""
        name = pod["metadata"]["name"]
        [container] = pod["spec"]["containers"]
        volumes = {v["name"]: v for v in pod["spec"]["volumes"]}
        # claims are where they say
        paths = {
            mount["mountPath"]: str(self.folder(pod, volumes[mount["name"]]))
            for mount in container["volumeMounts"]
            if "persistentVolumeClaim" not in volumes[mount["name"]]
        }
        given = {k: NAMES.sub(self._local, v) for k, v in self.environment(pod).items()}
        words = []
        for word in container["args"]:
            word = re.sub(r"\$\((\w+)\)", lambda m: given[m[1]], word)
            words.append(self._here(name, word, paths, container["ports"]))
        environment = {**os.environ, **given, **dict.fromkeys(("HOME", "TMPDIR"), paths["/scratch"])}
        environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
        return words, environment, paths["/scratch"]

    def _keep_running(self, pod: Object, words: list[str], environment: dict[str, str], folder: str) -> None:
        name = pod["metadata"]["name"]
        with (self.root / f"{name}.log").open("wb") as log:
            while True:
                log.write(" ".join(words).encode() + b"\n")
                log.flush()
                with self._lock:
                    if name in self._ending:
                        return
                    process = self.processes[name] = subprocess.Popen(
                        words, env=environment, stdout=log, stderr=subprocess.STDOUT, cwd=folder
                    )
                self.tell(pod, "Running")
                self._probe(pod, process)
                process.wait()
                self.tell(pod, "Running")
                time.sleep(0.2)

    def _stop(self, name: str, grace: float) -> None:
        with self._lock:
            self._ending.add(name)
            process = self.processes.get(name)
        if process is None:
            return
        process.terminate()
        try:
            process.wait(grace)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _local(self, found: re.Match[str]) -> str:
        return f"{found[1]}://127.0.0.1:{self.port(found[2], int(found[3]))}"

    def _here(self, name: str, word: str, paths: dict[str, str], ports: list[Any]) -> str:
        for path, here in paths.items():
            if word == path or word.startswith(f"{path}/"):
                return here + word.removeprefix(path)
        for port in ports:
            number = port["containerPort"]
            if word in (str(number), f":{number}"):
                return word.replace(str(number), str(self.port(name, number)))
        return word

    def _probe(self, pod: Object, process: subprocess.Popen[bytes]) -> None:
        """Say that a pod is ready when its own probe succeeds."""
        [container] = pod["spec"]["containers"]
        probe = container.get("readinessProbe", container["livenessProbe"])["httpGet"]
        [number] = [p["containerPort"] for p in container["ports"] if p["name"] == probe["port"]]
        url = f"http://127.0.0.1:{self.port(pod['metadata']['name'], number)}{probe['path']}"
        while process.poll() is None:
            with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=1):
                self.tell(pod, "Running", ready=True)
                return
            time.sleep(0.1)
