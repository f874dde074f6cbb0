"""Stands in for the API server of Kubernetes, as far as kr8s and the Dask operator need one.

Lists by label and field, watches that go on from the version of a list, and port-forwards. What is kept, and
what happens to it, is in `apiobjects`; what runs pods is told of every change (`Store.changed`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from aiohttp import WSMsgType, web
from apiobjects import KINDS, STATUS, Change, Key, Object, RefusedError, Store

BOOKMARK_S = 30.0
"""How often those who watch are told how far they are; Kubernetes does so about once a minute."""


class Server(Store):
    """Objects, over HTTP.

    Parameters
    ----------
    forward : callable
        From a pod and its port to host and port where that is for this machine.
    host : str
        Address of this machine to listen at.
    context : ssl.SSLContext, optional
        Speak TLS.
    remembered : int
        See `Store`.
    """

    def __init__(
        self,
        forward: Callable[[Object, int], tuple[str, int]],
        host: str = "127.0.0.1",
        context: ssl.SSLContext | None = None,
        remembered: int = 1000,
    ) -> None:
        super().__init__(remembered)
        self.host, self.context = host, context
        self.allowed: Callable[[str, str, Key], bool] = lambda token, verb, key: True
        """Whether whoever has a token may do something, ``"delete"``."""
        self.hold: Callable[[Key, Any], bool] = lambda key, change: False
        """A patch waits as long as this is true."""
        self._forward = forward
        self.address = ""

    # HTTP

    def application(self) -> web.Application:
        """The routes."""
        app = web.Application(middlewares=[self._answer])

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
            if plural in STATUS:
                resources.append({"name": f"{plural}/status", "singularName": "", **common})
        return await _json({"kind": "APIResourceList", "groupVersion": version, "resources": resources})

    @web.middleware
    async def _answer(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """Ask whether one may; say no in Kubernetes' words."""
        try:
            if "plural" in request.match_info:
                key, verb, part = self._key(request), _verb(request), _part(request)
                key = (key[0], f"{key[1]}/{part}" if part else key[1], *key[2:])
                token = request.headers.get("Authorization", "").removeprefix("Bearer ")
                if not self.allowed(token, verb, key):
                    raise RefusedError(403, "Forbidden", f"{key[1]} {key[3]!r} is forbidden: cannot {verb}")
            answer: web.StreamResponse = await handler(request)
            return answer
        except RefusedError as refused:
            return await _json(_status(refused), refused.args[0])

    def _key(self, request: web.Request) -> Key:
        info = request.match_info
        return info["version"], info["plural"], info.get("namespace", ""), info.get("name", "")

    async def _list(self, request: web.Request) -> web.StreamResponse:
        version, plural, _, _ = self._key(request)
        if request.query.get("watch") in ("true", "1", "True"):
            return await self._watch(request)
        wanted = self._wanted(request)
        items = [found for key, found in self.objects.items() if wanted(key, found)]
        meta = {"resourceVersion": str(self.version)}
        kind = f"{KINDS[version][plural]}List"
        return await _json({"kind": kind, "apiVersion": version, "metadata": meta, "items": items})

    def _wanted(self, request: web.Request) -> Callable[[Key, Object | None], bool]:
        """Whether a request is about an object."""
        version, plural, namespace, _ = self._key(request)
        wanted = [s.split("=") for s in request.query.get("labelSelector", "").split(",") if "=" in s]
        fields = [s.split("=") for s in request.query.get("fieldSelector", "").split(",") if "=" in s]

        def fits(key: Key, found: Object | None) -> bool:
            if found is None or key[:2] != (version, plural) or namespace not in ("", key[2]):
                return False
            labels = found["metadata"].get("labels", {})
            return all(labels.get(k.strip()) == v.strip() for k, v in wanted) and all(
                _at(found, k) == v for k, v in fields
            )

        return fits

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        """All that has changed since a version, and whatever changes from now on, for as long as is asked."""
        version, plural, _, _ = self._key(request)
        wanted, loop = self._wanted(request), asyncio.get_running_loop()
        response = web.StreamResponse(headers={"Content-Type": "application/json"})

        async def say(what: str, about: Object) -> None:
            await response.write(json.dumps({"type": what, "object": about}).encode() + b"\n")

        seen = int(request.query.get("resourceVersion") or 0)
        present = [found for key, found in self.objects.items() if wanted(key, found)]
        if not seen:
            seen = self.version
        else:
            present = []
        await response.prepare(request)
        end = loop.time() + float(request.query.get("timeoutSeconds") or 1800)
        with contextlib.suppress(ConnectionResetError):
            for found in present:
                await say("ADDED", found)
            mark = loop.time() + BOOKMARK_S
            while loop.time() < end:
                if self.changes and seen < self.changes[0].version - 1:
                    refused = RefusedError(410, "Expired", f"too old resource version: {seen}")
                    await say("ERROR", _status(refused))
                    break
                news = self.news
                for change in [c for c in self.changes if c.version > seen]:
                    for what, about in _seen(change, wanted):
                        await say(what, about)
                    seen = change.version
                if self.news is not news:
                    continue
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(news.wait(), min(mark, end) - loop.time())
                if loop.time() >= mark:
                    mark += BOOKMARK_S
                    kind, meta = KINDS[version][plural], {"resourceVersion": str(seen)}
                    if request.query.get("allowWatchBookmarks") == "true":
                        await say("BOOKMARK", {"kind": kind, "apiVersion": version, "metadata": meta})
        return response

    def _found(self, request: web.Request) -> Object:
        key = self._key(request)
        if key not in self.objects:
            raise RefusedError(404, "NotFound", f'{key[1]} "{key[3]}" not found')
        return self.objects[key]

    async def _get(self, request: web.Request) -> web.Response:
        return await _json(self._found(request))

    async def _create(self, request: web.Request) -> web.Response:
        version, plural, namespace, _ = self._key(request)
        made = await request.json()
        if plural in STATUS:
            made.pop("status", None)
        return await _json(self.create(version, plural, namespace, made), 201)

    async def _patch(self, request: web.Request) -> web.Response:
        change, key, part = await request.json(), self._key(request), request.match_info.get("part", "")
        while self.hold(key, change):
            await asyncio.sleep(0.02)
        self._found(request)
        if part == "scale":
            # DaskCluster and DaskWorkerGroup: spec.worker.replicas
            change = {"spec": {"worker": change["spec"]}}
        return await _json(self.patch(key, change, part))

    async def _delete(self, request: web.Request) -> web.Response:
        found = self._found(request)
        self.delete(self._key(request))
        return await _json(found)

    async def _port_forward(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(protocols=("v4.channel.k8s.io", "portforward.k8s.io"))
        await socket.prepare(request)
        remote = int(request.query["ports"])
        reader, writer = await asyncio.open_connection(*self._forward(self._found(request), remote))

        async def back() -> None:
            while data := await reader.read(1 << 16):
                await socket.send_bytes(b"\x00" + data)
            await socket.close()

        # whoever only looked whether the port is open has gone
        with contextlib.suppress(ConnectionResetError):
            for channel in (0, 1):
                await socket.send_bytes(bytes([channel]) + remote.to_bytes(2, "little"))
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
    site = web.TCPSite(runner, server.host, 0, ssl_context=server.context)
    await site.start()
    protocol = "http" if server.context is None else "https"
    server.address = f"{protocol}://{server.host}:{runner.addresses[0][1]}"
    try:
        yield
    finally:
        await runner.cleanup()


async def _json(content: Object, status: int = 200) -> web.Response:
    return web.json_response(content, status=status)


def _status(refused: RefusedError) -> Object:
    code, reason, message = refused.args
    about = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    return {**about, "message": message, "reason": reason, "code": code}


def _verb(request: web.Request) -> str:
    """The verb of RBAC; a port-forward over a WebSocket begins with a GET."""
    if request.method != "GET":
        return {"POST": "create", "PATCH": "patch", "DELETE": "delete"}[request.method]
    if "name" in request.match_info:
        return "get"
    return "watch" if "watch" in request.query else "list"


def _part(request: web.Request) -> str:
    return "portforward" if request.path.endswith("/portforward") else request.match_info.get("part", "")


def _seen(change: Change, wanted: Callable[[Key, Object | None], bool]) -> Iterator[tuple[str, Object]]:
    """A change as one sees it who looks at some objects only."""
    was, now = wanted(change.key, change.before), wanted(change.key, change.after)
    if now and change.after is not None:
        yield ("MODIFIED" if was else "ADDED"), change.after
    elif was and change.before is not None:
        meta = {**change.before["metadata"], "resourceVersion": str(change.version)}
        yield "DELETED", {**change.before, "metadata": meta}


def _at(found: Object, path: str) -> str:
    value: Any = found
    for key in path.split("."):
        value = value.get(key, {})
    return str(value)
