"""A stand-in for the CRDS server: JSON-RPC for names, sums and contexts, plain HTTP for the files.

It serves a CRDS cache, speaks the protocol of the real one as far as the crds client asks (``POST
/json/<method>/<id>/``), counts what it is asked for, and misbehaves on request.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


@dataclass
class Faults:
    """What goes wrong, and how often; counters are used up by the requests that they spoil."""

    status: dict[str, list[int]] = field(default_factory=dict)
    """HTTP status codes for the next requests of a file or RPC method."""
    cut: dict[str, list[int]] = field(default_factory=dict)
    """Bytes after which the next answers for a file end."""
    silent: dict[str, int] = field(default_factory=dict)
    """How many requests of a file or method get no answer for `silence` seconds."""
    silence: float = 3.0
    damaged: dict[str, int] = field(default_factory=dict)
    """How many answers for a file have a wrong byte in their middle."""
    ranges: bool = True
    """Whether the server can go on in the middle of a file."""
    absent: set[str] = field(default_factory=set)
    """Files that the catalogue lists and the server does not have."""
    nonsense: dict[str, int] = field(default_factory=dict)
    """How many answers of a method are no JSON."""


@dataclass
class CrdsServer:
    """The server, its store and its books."""

    files: dict[str, Path]
    """Every file by name: references and mappings."""
    latest: str
    contexts: Mapping[str, tuple[str, ...]]
    """Mappings of each context, itself included."""
    bad: tuple[str, ...] = ()
    delay: float = 0.0
    """Before each piece of a file, s."""
    piece: int = 1 << 16
    faults: Faults = field(default_factory=Faults)
    downloads: Counter[str] = field(default_factory=Counter)
    """Requests that began at the first byte, by file."""
    continued: Counter[str] = field(default_factory=Counter)
    """Requests that began later."""
    calls: Counter[str] = field(default_factory=Counter)
    headers: list[dict[str, str]] = field(default_factory=list)
    url: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def info(self, name: str) -> dict[str, str]:
        """The catalogue's entry of a file."""
        content = self.files[name].read_bytes()
        return {
            "size": str(len(content)),
            "sha1sum": hashlib.sha1(content, usedforsecurity=False).hexdigest(),
        }

    def rpc(self, method: str, params: Any) -> Any:
        """Answer a call as the real server does."""
        if method == "get_default_context":
            return self.latest
        if method == "get_mapping_names":
            return list(self.contexts[params[0]])
        if method == "get_file_info_map":
            names = self.files if params[1] is None else params[1]
            return {n: self.info(n) if n in self.files else "NOT FOUND unknown file" for n in names}
        if method == "get_server_info":
            packed = gzip.compress(json.dumps({n: self.info(n) for n in self.files}).encode())
            return {
                "observatory": "hst",
                "operational_context": self.latest,
                "edit_context": self.latest,
                "bad_files_list": list(self.bad),
                "bad_files": " ".join(self.bad),
                "mappings": sorted(n for n in self.files if n.endswith("map")),
                "download_metadata": {
                    "crds_encoded": "1.0",
                    "crds_payload": base64.b64encode(packed).decode(),
                },
                "reference_url": {"hst": f"{self.url}/references"},
                "mapping_url": {"hst": f"{self.url}/mappings"},
                "config_url": {"hst": f"{self.url}/config"},
                "pickle_url": {"hst": f"{self.url}/pickles"},
                "force_remote_mode": 0,
                "last_synced": "2026-01-01 00:00:00",
                "crds_version": {"str": "12.0.0"},
                "context_history": [],
                "max_headers_per_rpc": 500,
                "max_bestrefs_per_rpc": 1000,
                "versions_context": "",
            }
        raise LookupError(f"no such method {method}")


def take(counts: dict[str, Any], name: str) -> Any:
    """The next fault for a name, None if there is none left."""
    left = counts.get(name)
    if not left:
        return None
    if isinstance(left, list):
        return left.pop(0)
    counts[name] -= 1
    return True


class _Handler(BaseHTTPRequestHandler):
    crds: CrdsServer
    protocol_version = "HTTP/1.0"

    def log_message(self, *arguments: object) -> None:
        pass

    def do_POST(self) -> None:
        crds = self.crds
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        method = body["method"]
        with crds.lock:
            crds.calls[method] += 1
            crds.headers.append(dict(self.headers))
            status, silent = take(crds.faults.status, method), take(crds.faults.silent, method)
            nonsense = take(crds.faults.nonsense, method)
        if silent:
            time.sleep(crds.faults.silence)
        if status:
            self.send_error(status)
            return
        answer: dict[str, Any] = {"jsonrpc": "1.0", "id": body["id"], "error": None, "result": None}
        try:
            answer["result"] = crds.rpc(method, body["params"])
        except LookupError as error:
            answer["error"] = {"message": f"unknown {error}"}
        content = b"<html>proxy</html>" if nonsense else json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_GET(self) -> None:
        crds = self.crds
        name = self.path.rpartition("/")[2]
        begin = 0
        asked = self.headers.get("Range", "")
        if asked and crds.faults.ranges:
            begin = int(asked.removeprefix("bytes=").partition("-")[0])
        with crds.lock:
            (crds.continued if begin else crds.downloads)[name] += 1
            crds.headers.append(dict(self.headers))
            status, cut = take(crds.faults.status, name), take(crds.faults.cut, name)
            silent, damaged = take(crds.faults.silent, name), take(crds.faults.damaged, name)
        if silent:
            time.sleep(crds.faults.silence)
        if status or name not in crds.files or name in crds.faults.absent:
            self.send_error(status or 404)
            return
        content = crds.files[name].read_bytes()
        if damaged:
            middle = len(content) // 2
            content = content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]
        rest = content[begin:]
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        for start in range(0, len(rest[:cut]), crds.piece):
            time.sleep(crds.delay)
            self.wfile.write(rest[start : min(start + crds.piece, cut or len(rest))])


@contextmanager
def serve(server: CrdsServer) -> Iterator[CrdsServer]:
    """Run the server on a free port of this machine."""
    handler: Callable[..., BaseHTTPRequestHandler] = type("Handler", (_Handler,), {"crds": server})
    with _Quiet(("127.0.0.1", 0), handler) as http:
        server.url = f"http://localhost:{http.server_address[1]}"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are part of the tests."""


def of_cache(root: Path, context: str) -> CrdsServer:
    """A server that has what a cache has, with one context that all mappings belong to."""
    mappings = {p.name: p for p in (root / "mappings" / "hst").iterdir()}
    references = {p.name: p for p in (root / "references" / "hst").rglob("*.fits")}
    return CrdsServer({**mappings, **references}, context, {context: tuple(sorted(mappings))})
