"""One file over HTTP: go on where an earlier attempt ended, try again with patience, know when not to."""

from __future__ import annotations

import http.client
import random
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from batch.errors import BatchError, NetworkError

_CHUNK = 1 << 20
_PASSING = frozenset([408, 425, 429, 500, 502, 503, 504])
"""Status codes that another attempt may mend."""


@dataclass(frozen=True)
class Patience:
    """How long a server is given."""

    attempts: int = 5
    """Without any progress; bytes that arrived start the count anew."""
    pause: float = 1.0
    """Before the second attempt, s; doubled each time, at most half a minute."""
    silence: float = 60.0
    """The longest time without a byte, s."""
    deadline: float = 3600.0
    """For one file, s."""


class NotThereError(BatchError):
    """The server has no such file, or does not give it."""


def download(url: str, target: Path, size: int, patience: Patience) -> None:
    """Bring a file of known size to `target`, which may hold its beginning already.

    Parameters
    ----------
    url : str
    target : Path
        A private, unfinished file: appended to, or begun anew where the server cannot go on.
    size : int
        Bytes.
    patience : Patience

    Raises
    ------
    NotThereError
        If the server says that it does not have the file.
    NetworkError
        If it cannot be had in time; what arrived stays for the next run.
    OSError
        If it cannot be written.
    """
    name = Path(urlsplit(url).path).name
    end = time.monotonic() + patience.deadline
    fruitless = 0
    while True:
        before = _size(target)
        if before == size:
            return
        try:
            _attempt(url, target, size, before, min(patience.silence, max(1.0, end - time.monotonic())), end)
            problem = "the connection ended early"
        except urllib.error.HTTPError as error:
            error.close()
            if error.code not in _PASSING:
                raise NotThereError(f"{name}: HTTP status {error.code} from {_host(url)}") from None
            problem = f"HTTP status {error.code}"
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
            problem = " ".join(str(getattr(error, "reason", error)).split()) or type(error).__name__
        fruitless = 0 if _size(target) > before else fruitless + 1
        left = end - time.monotonic()
        if _size(target) != size and (fruitless >= patience.attempts or left <= 0):
            raise NetworkError(
                f"{name} could not be had from {_host(url)} ({problem}; {_size(target)} of {size} bytes are "
                "here); run again to go on"
            )
        if fruitless:
            # not all at the same moment when many ask
            time.sleep(min(left, 30.0, patience.pause * 2 ** (fruitless - 1) * random.uniform(0.5, 1.0)))


def _attempt(url: str, target: Path, size: int, begin: int, silence: float, end: float) -> None:
    """Ask once for what is missing from byte `begin` on."""
    if begin > size:
        target.unlink()
        begin = 0
    headers = {"Range": f"bytes={begin}-"} if begin else {}
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=silence)
    except urllib.error.HTTPError as error:
        if error.code == 416:
            error.close()
            # what is here is not the beginning of what is there
            target.unlink(missing_ok=True)
            return
        raise
    with response:
        goes_on = response.status == 206 and _range_begins(response.headers["Content-Range"], begin, size)
        with target.open("ab" if goes_on else "wb") as stream:
            written = begin if goes_on else 0
            while written < size and time.monotonic() < end and (chunk := _read(response)):
                stream.write(chunk[: size - written])
                written += len(chunk)


def _read(response: http.client.HTTPResponse) -> bytes:
    """Some bytes, none at the end; what goes wrong here is the network's, not the disk's."""
    try:
        return response.read1(_CHUNK)
    except OSError as error:
        raise ConnectionError(str(error) or type(error).__name__) from error


def _range_begins(header: str | None, begin: int, size: int) -> bool:
    """Whether ``bytes 100-199/200`` goes on at `begin` in a file of `size`."""
    span, _, total = (header or "").removeprefix("bytes ").partition("/")
    return span.startswith(f"{begin}-") and total in (str(size), "*")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _host(url: str) -> str:
    return urlsplit(url).hostname or "the server"
