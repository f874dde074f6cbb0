"""A stand-in for MAST on this machine: what astroquery and the downloads ask of it, and faults on request.

It speaks the protocol of ``mast.stsci.edu`` as astroquery's client does: column configuration, ``invoke``
with ``Mast.Caom.Filtered`` (criteria, wildcards, positions) and ``Mast.Caom.Products``, and the download of
files with ranges, validators and tokens. The observations are those of a folder of raw files, association
tables and support files, with headers as the archive writes them.
"""

from __future__ import annotations

import collections
import contextlib
import email.utils
import fnmatch
import hashlib
import json
import math
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from astropy.io import fits

_COLUMNS = {
    "obs_collection": "string",
    "project": "string",
    "instrument_name": "string",
    "filters": "string",
    "target_name": "string",
    "obs_id": "string",
    "proposal_id": "string",
    "t_min": "float",
    "t_max": "float",
    "t_exptime": "float",
    "s_ra": "float",
    "s_dec": "float",
    "dataRights": "string",
    "obsid": "string",
}
_PRODUCT_COLUMNS = {
    "obsID": "string",
    "obs_id": "string",
    "dataURI": "string",
    "productFilename": "string",
    "productSubGroupDescription": "string",
    "size": "int",
    "dataRights": "string",
    "project": "string",
}


@dataclass
class Fault:
    """What goes wrong, how often, and with which requests."""

    kind: str
    """``500``, ``404`` (any status), ``silence``, ``drop`` (before an answer), ``cut`` (in the middle),
    ``long``, ``short`` (wrong announcement), ``bits`` (changed bytes), ``html``, ``half`` (JSON cut off),
    ``error`` (status ERROR), ``executing``, ``no ranges``, ``ignored validator``, ``no validator``,
    ``no length``, ``retry after``."""
    where: str
    """A pattern of paths with query, and the range where there is one: ``*invoke*``, ``*_raw.fits`` (whole),
    ``*_raw.fits bytes=0-*`` (head), ``*_raw.fits bytes=[1-9]*`` (the rest)."""
    times: int = 1
    """How often; a large number is for ever."""
    skip: int = 0
    """Requests that go well before."""


@dataclass
class Server:
    """A MAST server and what it has been asked."""

    folder: Path
    token: str = ""
    restricted: tuple[str, ...] = ()
    """Patterns of file names that need the token."""
    faults: list[Fault] = field(default_factory=list)
    log: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    """Method, path with query, headers of every request."""
    url: str = ""
    silence: float = 3.0
    together: int = 0
    """Largest number of downloads at the same time."""
    slow: float = 0.0
    """Seconds that every download takes at least."""
    observations: list[dict[str, Any]] = field(default_factory=list)
    products: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    _now: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def scan(self) -> None:
        """Read the folder anew."""
        self.observations, self.products = catalogue(self.folder, self.restricted)

    def asked(self, pattern: str) -> list[tuple[str, str, dict[str, str]]]:
        """Requests whose path matches."""
        return [entry for entry in self.log if fnmatch.fnmatch(entry[1], pattern)]

    def fault(self, path: str) -> Fault | None:
        """The fault that a request meets."""
        with self._lock:
            for fault in self.faults:
                if fault.times > 0 and fnmatch.fnmatch(path, fault.where):
                    if fault.skip > 0:
                        fault.skip -= 1
                        return None
                    fault.times -= 1
                    return fault
        return None

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        """Count downloads at the same time."""
        with self._lock:
            self._now += 1
            self.together = max(self.together, self._now)
        try:
            if self.slow:
                time.sleep(self.slow)
            yield
        finally:
            with self._lock:
                self._now -= 1


def catalogue(
    folder: Path, restricted: tuple[str, ...] = ()
) -> tuple[list[dict[str, Any]], dict[str, list[dict[str, Any]]]]:
    """Observations (associations, and exposures in none) and their products, as CAOM has them."""
    headers = {p.name[:9]: fits.getheader(p, 0) for p in sorted(folder.glob("*_raw.fits"))}
    groups: dict[str, list[str]] = {}
    for root, header in headers.items():
        table = str(header.get("ASN_ID", "NONE")).strip().lower()
        groups.setdefault(root if table in ("", "none") else table, []).append(root)
    for path in folder.glob("*_asn.fits"):
        groups.setdefault(path.name[:9], [])
    observations, products = [], {}
    for number, (name, roots) in enumerate(sorted(groups.items()), 24000001):
        first = headers[roots[0]] if roots else {}
        rights = [_rights(f"{r}_raw.fits", restricted) for r in roots]
        names = [first.get("FILTER1", ""), first.get("FILTER2", "")]
        observations.append(
            {
                "obs_collection": "HST",
                "project": "HST",
                "instrument_name": f"ACS/{first.get('DETECTOR', 'WFC')}",
                "filters": ";".join(n for n in names if n and not n.startswith("CLEAR")),
                "target_name": first.get("TARGNAME", ""),
                "obs_id": name,
                "proposal_id": str(first.get("PROPOSID", "")),
                "t_min": min((headers[r]["EXPSTART"] for r in roots), default=0.0),
                "t_max": max((headers[r]["EXPEND"] for r in roots), default=0.0),
                "t_exptime": sum(headers[r]["EXPTIME"] for r in roots),
                "s_ra": first.get("RA_TARG", 0.0),
                "s_dec": first.get("DEC_TARG", 0.0),
                "dataRights": "PUBLIC" if all(r == "PUBLIC" for r in rights) else "EXCLUSIVE_ACCESS",
                "obsid": str(number),
            }
        )
        files = [f"{stem}_{kind}.fits" for stem in (name, *roots) for kind in ("raw", "spt", "asn")]
        rows = [
            {
                "obsID": str(number),
                "obs_id": file[:9],
                "dataURI": f"mast:HST/product/{file}",
                "productFilename": file,
                "productSubGroupDescription": file[10:13].upper(),
                "size": (folder / file).stat().st_size,
                "dataRights": _rights(file, restricted),
                "project": "CALACS",
            }
            for file in dict.fromkeys(files)
            if (folder / file).is_file()
        ]
        # what else there is, and is not wanted
        rows.append(
            {**rows[0], "productFilename": f"{name}_drz.fits", "dataURI": f"mast:HST/product/{name}_drz.fits"}
        )
        products[str(number)] = rows
    return observations, products


def _rights(name: str, restricted: tuple[str, ...]) -> str:
    return "EXCLUSIVE_ACCESS" if any(fnmatch.fnmatch(name, p) for p in restricted) else "PUBLIC"


def _matches(row: dict[str, Any], condition: dict[str, Any]) -> bool:
    value = row.get(condition["paramName"])
    if "freeText" in condition:
        pattern = condition["freeText"].lower().replace("%", "*")
        return fnmatch.fnmatch(str(value).lower(), pattern)
    values = condition["values"]
    if values and isinstance(values[0], dict):
        return bool(values[0]["min"] <= value <= values[0]["max"])
    parts = str(value).split(condition["separator"]) if "separator" in condition else [str(value)]
    return any(part in values for part in parts)


def _near(row: dict[str, Any], position: str) -> bool:
    ra, dec, radius = (float(x) for x in position.split(","))
    away = math.hypot((row["s_ra"] - ra) * math.cos(math.radians(dec)), row["s_dec"] - dec)
    return away <= radius


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    mast: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        self._answer(body)

    def do_GET(self) -> None:
        self._answer("")

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self, body: str) -> None:
        path = unquote(self.path)
        self.mast.log.append((self.command, path, dict(self.headers)))
        fault = self.mast.fault(f"{path} {self.headers.get('Range', '')}".strip())
        kind = fault.kind if fault else ""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            if kind == "silence":
                time.sleep(self.mast.silence)
                self.close_connection = True
            elif kind == "drop":
                self.close_connection = True
                self.connection.shutdown(2)
            elif kind.isdigit():
                self._send(int(kind), b"sorry")
            elif kind == "retry after":
                self._send(503, b"later", {"Retry-After": "1"})
            elif path.startswith("/api/v0.1/Download/file"):
                self._download(parse_qs(urlsplit(self.path).query)["uri"][0], kind)
            elif kind == "html":
                self._send(200, b"<html>The archive is down for maintenance.</html>")
            else:
                self._metadata(path, body, kind)

    def _metadata(self, path: str, body: str, kind: str) -> None:
        if path.endswith("columnsconfig"):
            answer: Any = {
                name: {"vot.datatype": "double" if k == "float" else "char"} for name, k in _COLUMNS.items()
            }
            answer["filters"]["separator"] = ";"
        elif path.startswith("/Santa-war/query"):
            name = parse_qs(urlsplit(self.path).query)["name"][0].lower()
            known = {"ngc 104": (6.022, -72.081), "ngc104": (6.022, -72.081)}
            found = known.get(name)
            answer = {
                "resolvedCoordinate": []
                if found is None
                else [{"searchString": name, "resolver": "SIMBAD", "ra": found[0], "decl": found[1]}]
            }
        elif path.startswith("/api/v0.1/path_lookup"):
            uris = parse_qs(urlsplit(self.path).query)["uri"]
            answer = {u: {"status_code": 200, "path": _public_path(u)} for u in uris}
        elif path == "/api/v0/invoke":
            answer = self._invoke(json.loads(parse_qs(body)["request"][0]), kind)
        else:
            self._send(404, b"no such service")
            return
        content = json.dumps(answer).encode()
        self._send(200, content[: len(content) // 2] if kind == "half" else content)

    def _invoke(self, request: dict[str, Any], kind: str) -> dict[str, Any]:
        if kind == "executing":
            return {"status": "EXECUTING", "msg": "", "data": [], "fields": []}
        if kind == "error":
            return {"status": "ERROR", "msg": "Error converting data type", "data": [], "fields": []}
        service, parameters = request["service"], request["params"]
        if service == "Mast.Caom.Products":
            columns = _PRODUCT_COLUMNS
            rows = [r for n in parameters["obsid"].split(",") for r in self.mast.products.get(n, ())]
        else:
            columns = _COLUMNS
            rows = [
                row
                for row in self.mast.observations
                if all(_matches(row, c) for c in parameters["filters"])
                and ("position" not in parameters or _near(row, parameters["position"]))
            ]
        page, size = int(request["page"]), int(request["pagesize"])
        return {
            "status": "COMPLETE",
            "msg": "",
            "fields": [{"name": n, "type": k} for n, k in columns.items()],
            "data": rows[(page - 1) * size : page * size],
            "paging": {"page": page, "pageSize": size, "pagesFiltered": max(1, -(-len(rows) // size))},
        }

    def _download(self, uri: str, kind: str) -> None:
        name = uri.rpartition("/")[2]
        path = self.mast.folder / name
        if _rights(name, self.mast.restricted) != "PUBLIC":
            given = self.headers.get("Authorization", "")
            if given != f"token {self.mast.token}":
                self._send(403 if given else 401, b"exclusive access")
                return
        if not path.is_file():
            self._send(404, b"no such file")
            return
        with self.mast.counted():
            self._file(path, kind)

    def _file(self, path: Path, kind: str) -> None:
        content = path.read_bytes()
        etag = f'"{hashlib.sha1(content).hexdigest()}"'
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        validator = self.headers.get("If-Range")
        valid = validator in (None, etag) or kind == "ignored validator"
        headers = {} if kind == "no validator" else {"ETag": etag}
        headers["Last-Modified"] = email.utils.formatdate(path.stat().st_mtime, usegmt=True)
        if kind == "no validator":
            del headers["Last-Modified"]
        status, first, last = 200, 0, len(content)
        if asked and valid and kind != "no ranges":
            first = int(asked[1])
            last = min(len(content), int(asked[2]) + 1) if asked[2] else len(content)
            if first >= len(content):
                self._send(416, b"")
                return
            status = 206
            headers["Content-Range"] = f"bytes {first}-{last - 1}/{len(content)}"
        part = content[first:last]
        if kind == "bits":
            middle = len(part) // 2
            part = part[:middle] + bytes([part[middle] ^ 0x55]) + part[middle + 1 :]
        length = len(part) + {"long": 2880, "short": -2880}.get(kind, 0)
        if kind == "no length":
            self.close_connection = True
        else:
            headers["Content-Length"] = str(length)
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
        sent = part[: len(part) // 2] if kind == "cut" else part[: max(length, 0)]
        self.wfile.write(sent)
        if len(sent) != length or kind == "cut":
            self.close_connection = True

    def _send(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(content)


def _public_path(uri: str) -> str:
    name = uri.rpartition("/")[2]
    return f"/hst/public/{name[:4]}/{name[:9]}/{name}"


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are no news."""


@contextlib.contextmanager
def serve(folder: Path, **options: Any) -> Iterator[Server]:
    """A server of the files in `folder`, on a free port of this machine, while the block lasts."""
    server = Server(folder, **options)
    server.scan()
    handler = type("Handler", (_Handler,), {"mast": server})
    http = _Quiet(("127.0.0.1", 0), handler)
    server.url = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


def counts(server: Server) -> collections.Counter[str]:
    """Whole-file downloads by file name: requests for heads and rests are not counted."""
    return collections.Counter(
        path.rpartition("/")[2]
        for _, path, headers in server.asked("*/Download/file*")
        if "Range" not in headers
    )
