"""Stands between a client and an S3 server, and breaks what it is told to break."""

from __future__ import annotations

import http.client
import re
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


@dataclass
class Fault:
    """What happens to requests that match.

    Kinds: ``answer`` (status and code instead of an answer of the server's), ``reset`` (the connection
    breaks before the request goes on), ``lost`` (the server does it, its answer never arrives), ``cut``
    (the body breaks off in its middle), ``short`` (it ends early and in order), ``altered`` (a bit of it is
    wrong), ``stall`` (nothing for `seconds`), ``unconditional`` (the server hears of no condition), ``do``
    (call `before`, then go on).
    """

    kind: str
    method: str = "GET|PUT|POST|DELETE|HEAD"
    path: str = ".*"
    times: int = 1
    after: int = 0
    """Requests that match and pass before."""
    status: int = 503
    code: str = "SlowDown"
    seconds: float = 0.0
    before: Callable[[], None] | None = None
    hits: int = field(default=0, init=False)

    def applies(self, method: str, path: str) -> bool:
        """Count a request; whether it is one that suffers."""
        if not (re.fullmatch(self.method, method) and re.search(self.path, path)):
            return False
        self.hits += 1
        return self.after < self.hits <= self.after + self.times


class Proxy:
    """A server on this machine; `faults` may be changed at any time."""

    def __init__(self, target: str) -> None:
        self.faults: list[Fault] = []
        self.seen: list[tuple[str, str]] = []
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self, urlsplit(target).netloc))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def count(self, method: str, path: str = ".*") -> int:
        """Requests so far."""
        with self._lock:
            return sum(m == method and re.search(path, p) is not None for m, p in self.seen)

    def fault(self, method: str, path: str) -> Fault | None:
        with self._lock:
            self.seen.append((method, path))
            return next((f for f in list(self.faults) if f.applies(method, path)), None)


def _handler(proxy: Proxy, target: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            fault = proxy.fault(self.command, self.path)
            kind = fault.kind if fault else ""
            if fault is not None:
                if fault.before is not None:
                    fault.before()
                if kind == "answer":
                    self.answer(fault.status, {"Content-Type": "application/xml"}, _error(fault))
                    return
                if kind == "stall":
                    time.sleep(fault.seconds)
                if kind in ("reset", "stall"):
                    self.break_off()
                    return
            connection = http.client.HTTPConnection(target, timeout=60)
            sent = dict(self.headers)
            if kind == "unconditional":
                sent = {k: v for k, v in sent.items() if k.lower() not in ("if-match", "if-none-match")}
            try:
                connection.request(self.command, self.path, body, sent)
                answer = connection.getresponse()
                content = answer.read()
                headers = {
                    k: v
                    for k, v in answer.getheaders()
                    if k.lower() not in ("connection", "transfer-encoding")
                }
            finally:
                connection.close()
            if kind == "lost":
                self.break_off()
                return
            if kind == "altered":
                middle = len(content) // 2
                content = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
            if kind == "short":
                content = content[: len(content) // 2]
                headers.pop("Content-Length", None)
            if kind in ("altered", "short"):
                # a proxy that alters does not keep the checksums of the store
                headers = {k: v for k, v in headers.items() if not k.lower().startswith("x-amz-checksum")}
            self.answer(answer.status, headers, content, cut=kind == "cut")

        def answer(self, status: int, headers: dict[str, str], content: bytes, cut: bool = False) -> None:
            self.send_response_only(status)
            length = str(len(content))
            for name, value in headers.items():
                if name.lower() != "content-length":
                    self.send_header(name, value)
                elif self.command == "HEAD":
                    length = value
            self.send_header("Content-Length", length)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content[: len(content) // 2] if cut else content)
            if cut:
                self.wfile.flush()
                self.break_off()

        def break_off(self) -> None:
            """With a reset, as a router does that forgot the connection."""
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()

        def log_message(self, format: str, *args: object) -> None:
            """Not on the tests' terminal."""

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any  # noqa: N815

    return Handler


def _error(fault: Fault) -> bytes:
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{fault.code}</Code>'
        f"<Message>{fault.code} was ordered</Message><RequestId>1</RequestId></Error>"
    ).encode()
