"""Stands in for a node of Kubernetes: runs the pods of Deployments as processes of this machine.

Arguments and environment are the manifest's own; only paths that are mounted and ports, of which there is one
set on this machine, become others. Secrets are files, as on a node.
"""

from __future__ import annotations

import base64
import os
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from apiserver import Object, Server  # type: ignore[import-not-found]

NAMES = re.compile(r"(t\w+)://([\w-]+-scheduler)\.[\w-]+\.svc:(\d+)")


class Node:
    """One machine for all pods.

    Parameters
    ----------
    root : Path
        For what is mounted, and for logs.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.server = Server(self.port)
        self.server.changed.append(self._changed)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._ports: dict[tuple[str, int], int] = {}

    def port(self, pod: Object | str, number: int) -> int:
        """Where a pod's port is on this machine."""
        name = pod if isinstance(pod, str) else pod["metadata"]["name"]
        if (name, number) not in self._ports:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                self._ports[name, number] = free.getsockname()[1]
        return self._ports[name, number]

    def close(self) -> None:
        """End what still runs."""
        for process in self.processes.values():
            if process.poll() is None:
                process.kill()
                process.wait()

    def _changed(self, what: str, plural: str, changed: Object) -> None:
        if plural != "deployments":
            return
        name = changed["metadata"]["name"]
        if what == "ADDED":
            self._start(changed)
        elif what == "DELETED" and name in self.processes:
            process = self.processes[name]
            process.terminate()
            grace = changed["spec"]["template"]["spec"].get("terminationGracePeriodSeconds", 30)
            threading.Thread(target=_kill, args=(process, grace), daemon=True).start()
            self.server.delete(("v1", "pods", changed["metadata"]["namespace"], name))

    def _start(self, deployment: Object) -> None:
        """Called in the server's thread, which must not wait."""
        namespace, name = deployment["metadata"]["namespace"], deployment["metadata"]["name"]
        template = deployment["spec"]["template"]
        pod = self.server.create(
            "v1",
            "pods",
            namespace,
            {
                "metadata": {"name": name, "labels": dict(template["metadata"]["labels"])},
                "spec": template["spec"],
                "status": {"phase": "Running", "conditions": []},
            },
        )
        [container] = template["spec"]["containers"]
        paths = self._mount(name, namespace, template["spec"], container)
        environment = dict(os.environ)
        for variable in container["env"]:
            value = self._value(variable, namespace)
            if value is not None:
                environment[variable["name"]] = NAMES.sub(self._local, value)
        words = []
        for word in container["args"]:
            word = re.sub(r"\$\((\w+)\)", lambda m: environment[m[1]], word)
            words.append(self._here(name, word, paths, container["ports"]))
        environment |= dict.fromkeys(("HOME", "TMPDIR"), paths["/scratch"])
        environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
        with (self.root / f"{name}.log").open("wb") as log:
            log.write(" ".join(words).encode() + b"\n")
            log.flush()
            self.processes[name] = subprocess.Popen(
                words, env=environment, stdout=log, stderr=subprocess.STDOUT, cwd=paths["/scratch"]
            )
        probe = container.get("readinessProbe", container["livenessProbe"])["httpGet"]
        [number] = [p["containerPort"] for p in container["ports"] if p["name"] == probe["port"]]
        url = f"http://127.0.0.1:{self.port(name, number)}{probe['path']}"
        threading.Thread(target=self._probe, args=(url, pod), daemon=True).start()

    def _local(self, found: re.Match[str]) -> str:
        return f"{found[1]}://127.0.0.1:{self.port(found[2], int(found[3]))}"

    def _value(self, variable: Object, namespace: str) -> str | None:
        if "value" in variable:
            return str(variable["value"])
        if "resourceFieldRef" in variable["valueFrom"]:
            return "1"
        source = variable["valueFrom"]["secretKeyRef"]
        secret = self.server.objects.get(("v1", "secrets", namespace, source["name"]))
        if secret is None and source["optional"]:
            return None
        return base64.b64decode(secret["data"][source["key"]]).decode()  # type: ignore[index]

    def _mount(self, name: str, namespace: str, spec: Object, container: Object) -> dict[str, str]:
        """From paths in the container to paths here; claims are where they say."""
        volumes = {v["name"]: v for v in spec["volumes"]}
        paths = {}
        for mount in container["volumeMounts"]:
            volume = volumes[mount["name"]]
            if "persistentVolumeClaim" in volume:
                continue
            here = self.root / name / mount["name"]
            here.mkdir(parents=True)
            if "secret" in volume:
                secret = self.server.objects["v1", "secrets", namespace, volume["secret"]["secretName"]]
                for key, value in secret["data"].items():
                    (here / key).touch(mode=volume["secret"]["defaultMode"] | 0o200)
                    (here / key).write_bytes(base64.b64decode(value))
            paths[mount["mountPath"]] = str(here)
        return paths

    def _here(self, name: str, word: str, paths: dict[str, str], ports: list[Any]) -> str:
        for path, here in paths.items():
            if word == path or word.startswith(f"{path}/"):
                return here + word.removeprefix(path)
        for port in ports:
            number = port["containerPort"]
            if word in (str(number), f":{number}"):
                return word.replace(str(number), str(self.port(name, number)))
        return word

    def _probe(self, url: str, pod: Object) -> None:
        for _ in range(600):
            try:
                with urllib.request.urlopen(url, timeout=1):
                    break
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        key = ("v1", "pods", pod["metadata"]["namespace"], pod["metadata"]["name"])
        ready = [{"type": kind, "status": "True"} for kind in ("Ready", "ContainersReady")]
        self.server.soon(key, {"status": {"conditions": ready}})


def _kill(process: subprocess.Popen[bytes], grace: float) -> None:
    try:
        process.wait(grace)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
