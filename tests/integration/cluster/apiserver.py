"""Stands in for the API server of Kubernetes, as far as kr8s and the Dask operator need one.

It keeps what is created, checks nothing, answers lists by label, streams changes to those who watch, honours
finalizers, deletes dependants with their owners, and passes port-forwards on. What runs pods is told of
every change (`Server.changed`).
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import datetime
import itertools
import json
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from aiohttp import WSMsgType, web

Object = dict[str, Any]

# plural -> kind, of each group and version
KINDS = {
    "v1": {
        "namespaces": "Namespace",
        "pods": "Pod",
        "services": "Service",
        "secrets": "Secret",
        "configmaps": "ConfigMap",
        "serviceaccounts": "ServiceAccount",
        "events": "Event",
    },
    "apps/v1": {"deployments": "Deployment"},
    "batch/v1": {"jobs": "Job"},
    "policy/v1": {"poddisruptionbudgets": "PodDisruptionBudget"},
    "networking.k8s.io/v1": {"networkpolicies": "NetworkPolicy"},
    "rbac.authorization.k8s.io/v1": {"roles": "Role", "rolebindings": "RoleBinding"},
    "apiextensions.k8s.io/v1": {"customresourcedefinitions": "CustomResourceDefinition"},
    "kubernetes.dask.org/v1": {
        "daskclusters": "DaskCluster",
        "daskworkergroups": "DaskWorkerGroup",
        "daskjobs": "DaskJob",
        "daskautoscalers": "DaskAutoscaler",
    },
}


class Server:
    """Objects by (group and version, plural, namespace, name).

    Parameters
    ----------
    forward : callable
        From a pod and its port to the port on this machine where that is.
    """

    def __init__(self, forward: Callable[[Object, int], int]) -> None:
        self.objects: dict[tuple[str, str, str, str], Object] = {}
        self.log: list[tuple[str, str, str]] = []
        """(verb, plural, name) of whatever changed something."""
        self.changed: list[Callable[[str, str, Object], None]] = []
        self.refuse: set[str] = set()
        """Plurals that nobody may create."""
        self._forward = forward
        self._watchers: list[tuple[str, str, asyncio.Queue[Object]]] = []
        self._version = itertools.count(1)
        self.address = ""
        self.loop: asyncio.AbstractEventLoop | None = None

    # objects, in the thread of the server

    def put(self, verb: str, key: tuple[str, str, str, str], made: Object) -> Object:
        """Keep an object and tell everybody."""
        made["metadata"]["resourceVersion"] = str(next(self._version))
        self.objects[key] = made
        self._tell("ADDED" if verb == "create" else "MODIFIED", key, made)
        self.log.append((verb, key[1], key[3]))
        if self.loop is not None:
            self.loop.call_soon(self._collect, key)
        return made

    def _collect(self, key: tuple[str, str, str, str]) -> None:
        """As the garbage collector: what came after its owners had gone belongs to nobody."""
        owners = self.objects.get(key, {}).get("metadata", {}).get("ownerReferences", ())
        there = {o["metadata"]["uid"] for o in self.objects.values() if "uid" in o["metadata"]}
        if owners and not any(o["uid"] in there for o in owners):
            self.delete(key)

    def create(self, version: str, plural: str, namespace: str, made: Object) -> Object:
        """As a POST does."""
        made = copy.deepcopy(made)
        meta = made.setdefault("metadata", {})
        if "name" not in meta:
            meta["name"] = f"{meta['generateName']}{uuid.uuid4().hex[:8]}"
        key = (version, plural, namespace, meta["name"])
        if plural in self.refuse:
            raise _status(403, "Forbidden", f"{plural} is forbidden: you cannot create it in {namespace}")
        if key in self.objects:
            raise _status(409, "AlreadyExists", f'{plural} "{meta["name"]}" already exists')
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        meta |= {"uid": str(uuid.uuid4()), "creationTimestamp": now, "namespace": namespace, "generation": 1}
        made |= {"apiVersion": version, "kind": KINDS[version][plural]}
        if plural == "services":
            made["spec"] |= {"clusterIP": "10.0.0.1"}
            made["status"] = {"loadBalancer": {}}
        return self.put("create", key, made)

    def patch(self, key: tuple[str, str, str, str], change: Object | list[Any]) -> Object:
        """A merge patch, or the few JSON patches that kopf and kr8s make."""
        made = copy.deepcopy(self.objects[key])
        if isinstance(change, list):
            for step in change:
                _step(made, step)
        else:
            made = _merge(made, change)
        if "deletionTimestamp" in made["metadata"] and not made["metadata"].get("finalizers"):
            self._remove(key)
            return made
        return self.put("patch", key, made)

    def soon(self, key: tuple[str, str, str, str], change: Object) -> None:
        """`patch` from another thread."""

        def apply() -> None:
            if key in self.objects:
                self.patch(key, change)

        if self.loop is not None and not self.loop.is_closed():
            self.loop.call_soon_threadsafe(apply)

    def delete(self, key: tuple[str, str, str, str]) -> None:
        """At once, or when its finalizers are gone."""
        found = self.objects[key]
        if found["metadata"].get("finalizers"):
            found = copy.deepcopy(found)
            found["metadata"]["deletionTimestamp"] = "2000-01-01T00:00:00Z"
            self.put("delete", key, found)
        else:
            self._remove(key)

    def _remove(self, key: tuple[str, str, str, str]) -> None:
        gone = self.objects.pop(key)
        self.log.append(("gone", key[1], key[3]))
        self._tell("DELETED", key, gone)
        uid = gone["metadata"]["uid"]
        for other, found in list(self.objects.items()):
            owners = found["metadata"].get("ownerReferences", ())
            if other in self.objects and any(o["uid"] == uid for o in owners):
                self.delete(other)

    def _tell(self, what: str, key: tuple[str, str, str, str], changed: Object) -> None:
        for version, plural, queue in self._watchers:
            if (version, plural) == key[:2]:
                queue.put_nowait({"type": what, "object": copy.deepcopy(changed)})
        for listener in self.changed:
            listener(what, key[1], changed)

    # HTTP

    def application(self) -> web.Application:
        """The routes."""
        app = web.Application()

        async def version(request: web.Request) -> web.Response:
            return await _json({"major": "1", "minor": "32", "gitVersion": "v1.32.0"})

        async def core(request: web.Request) -> web.Response:
            return await _json({"kind": "APIVersions", "versions": ["v1"]})

        for end in ("", "/"):
            app.router.add_get(f"/version{end}", version)
            app.router.add_get(f"/api{end}", core)
            app.router.add_get(f"/apis{end}", self._groups)
        for base in ("/api/{version:v1}", "/apis/{version:[^/]+/[^/]+}"):
            app.router.add_get(base, self._kinds)
            app.router.add_get(f"{base}/", self._kinds)
            for scope in ("", "/namespaces/{namespace}"):
                plural = f"{base}{scope}/{{plural:{'|'.join(p for k in KINDS.values() for p in k)}}}"
                app.router.add_get(plural, self._list)
                app.router.add_post(plural, self._create)
                one = f"{plural}/{{name}}"
                app.router.add_get(f"{one}/portforward", self._port_forward)
                for path in (one, f"{one}/{{part:status|scale}}"):
                    app.router.add_get(path, self._get)
                    app.router.add_patch(path, self._patch)
                app.router.add_delete(one, self._delete)
        return app

    async def _groups(self, request: web.Request) -> web.Response:
        groups = []
        for name in KINDS:
            group, slash, version = name.partition("/")
            if slash:
                entry = {"groupVersion": name, "version": version}
                groups.append({"name": group, "versions": [entry], "preferredVersion": entry})
        return await _json({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})

    async def _kinds(self, request: web.Request) -> web.Response:
        version = request.match_info["version"]
        if version not in KINDS:
            return await _json({"kind": "Status", "status": "Failure", "code": 404}, 404)
        verbs = ["create", "delete", "get", "list", "patch", "watch"]
        resources = []
        for plural, kind in KINDS[version].items():
            namespaced = plural not in ("namespaces", "customresourcedefinitions")
            common = {"kind": kind, "namespaced": namespaced, "verbs": verbs}
            resources.append({"name": plural, "singularName": kind.lower(), **common})
            resources.append({"name": f"{plural}/status", "singularName": "", **common})
        return await _json({"kind": "APIResourceList", "groupVersion": version, "resources": resources})

    def _key(self, request: web.Request) -> tuple[str, str, str, str]:
        info = request.match_info
        return info["version"], info["plural"], info.get("namespace", ""), info.get("name", "")

    def _selected(self, request: web.Request) -> list[Object]:
        version, plural, namespace, _ = self._key(request)
        wanted = [s.split("=") for s in request.query.get("labelSelector", "").split(",") if "=" in s]
        fields = [s.split("=") for s in request.query.get("fieldSelector", "").split(",") if "=" in s]

        def fits(found: Object) -> bool:
            labels = found["metadata"].get("labels", {})
            return all(labels.get(k.strip()) == v.strip() for k, v in wanted) and all(
                _at(found, k) == v for k, v in fields
            )

        return [
            found
            for (v, p, ns, _), found in self.objects.items()
            if (v, p) == (version, plural) and namespace in ("", ns) and fits(found)
        ]

    async def _list(self, request: web.Request) -> web.StreamResponse:
        version, plural, _, _ = self._key(request)
        if request.query.get("watch") in ("true", "1", "True"):
            return await self._watch(request)
        kind = KINDS[version][plural]
        meta = {"resourceVersion": str(next(self._version))}
        items = self._selected(request)
        return await _json({"kind": f"{kind}List", "apiVersion": version, "metadata": meta, "items": items})

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        version, plural, namespace, _ = self._key(request)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        queue: asyncio.Queue[Object] = asyncio.Queue()
        # what happened between the list and the watch; telling twice does no harm
        for found in self._selected(request):
            queue.put_nowait({"type": "MODIFIED", "object": found})
        entry = (version, plural, queue)
        self._watchers.append(entry)
        try:
            while True:
                event = await queue.get()
                if namespace in ("", event["object"]["metadata"].get("namespace", "")):
                    await response.write(json.dumps(event).encode() + b"\n")
        except ConnectionResetError:
            return response
        finally:
            self._watchers.remove(entry)

    async def _get(self, request: web.Request) -> web.Response:
        return await _json(self._found(request))

    def _found(self, request: web.Request) -> Object:
        key = self._key(request)
        if key not in self.objects:
            raise _status(404, "NotFound", f'{key[1]} "{key[3]}" not found')
        return self.objects[key]

    async def _create(self, request: web.Request) -> web.Response:
        version, plural, namespace, _ = self._key(request)
        return await _json(self.create(version, plural, namespace, await request.json()), 201)

    async def _patch(self, request: web.Request) -> web.Response:
        self._found(request)
        change = await request.json()
        if request.match_info.get("part") == "scale":
            # DaskWorkerGroup: spec.worker.replicas
            change = {"spec": {"worker": change["spec"]}}
        return await _json(self.patch(self._key(request), change))

    async def _delete(self, request: web.Request) -> web.Response:
        found = self._found(request)
        self.delete(self._key(request))
        return await _json(found)

    async def _port_forward(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(protocols=("v4.channel.k8s.io", "portforward.k8s.io"))
        await socket.prepare(request)
        remote = int(request.query["ports"])
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self._forward(self._found(request), remote)
        )
        for channel in (0, 1):
            await socket.send_bytes(bytes([channel]) + remote.to_bytes(2, "little"))

        async def back() -> None:
            while data := await reader.read(1 << 16):
                await socket.send_bytes(b"\x00" + data)
            await socket.close()

        task = asyncio.create_task(back())
        try:
            async for message in socket:
                if message.type is WSMsgType.BINARY and message.data[:1] == b"\x00":
                    writer.write(message.data[1:])
                    await writer.drain()
        finally:
            task.cancel()
            writer.close()
        return socket


@contextlib.contextmanager
def serving(server: Server) -> Iterator[Server]:
    """The server in a thread of its own, at `Server.address`."""
    server.loop = loop = asyncio.new_event_loop()
    ready = threading.Event()

    async def main() -> None:
        async with _running(server):
            ready.set()
            await over.wait()
        # those who watch or forward would stay for ever
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    over = asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(main()), name="api-server", daemon=True)
    thread.start()
    assert ready.wait(20)
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(20)
        loop.close()


@contextlib.asynccontextmanager
async def _running(server: Server) -> AsyncIterator[None]:
    runner = web.AppRunner(server.application(), shutdown_timeout=0.5)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.address = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield
    finally:
        await runner.cleanup()


async def _json(content: Object, status: int = 200) -> web.Response:
    return web.json_response(content, status=status)


def _status(code: int, reason: str, message: str) -> web.HTTPException:
    content = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }
    kinds = {403: web.HTTPForbidden, 404: web.HTTPNotFound, 409: web.HTTPConflict}
    return kinds[code](text=json.dumps(content), content_type="application/json")


def _merge(old: Any, change: Any) -> Any:
    if not isinstance(change, dict):
        return change
    made = dict(old) if isinstance(old, dict) else {}
    for key, value in change.items():
        if value is None:
            made.pop(key, None)
        else:
            made[key] = _merge(made.get(key), value)
    return made


def _step(document: Any, step: Object) -> None:
    *parents, last = (p.replace("~1", "/").replace("~0", "~") for p in step["path"].split("/")[1:])
    for parent in parents:
        document = document[int(parent)] if isinstance(document, list) else document.setdefault(parent, {})
    if step["op"] == "test":
        return
    if step["op"] == "remove":
        del document[int(last) if isinstance(document, list) else last]
    elif isinstance(document, list):
        document.append(step["value"])
    else:
        document[last] = step["value"]


def _at(found: Object, path: str) -> str:
    value: Any = found
    for key in path.split("."):
        value = value.get(key, {})
    return str(value)
