"""Files by HTTP: MAST's download service."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Iterator
from urllib.parse import quote

import requests

from batch.archive.transport import Body, ChangedError, NotThereError, RestrictedError, TransientError
from batch.errors import InputError

# what has come of a chunk is lost where the connection breaks off
_CHUNK = 1 << 16
_CONNECT = 20.0
_AGAIN_LATER = {408, 425, 429, 500, 502, 503, 504}


class Http:
    """Downloads of one MAST server.

    Parameters
    ----------
    server : str
        ``https://mast.stsci.edu``.
    silence : float
        Seconds without a byte after which a connection is given up.
    token : callable
        Gives the MAST token, or None; asked only once a file is refused without one.
    """

    def __init__(self, server: str, silence: float, token: Callable[[], str | None]) -> None:
        self._server = server
        self._timeout = (min(_CONNECT, silence), silence)
        self._token = token
        # a session may not be shared by threads
        self._local = threading.local()

    @contextlib.contextmanager
    def open(self, origin: str, *, start: int = 0, tag: str = "", stop: int | None = None) -> Iterator[Body]:
        """See `batch.archive.transport.Transport`."""
        headers = {"Accept-Encoding": "identity"}
        if start:
            headers |= {"Range": f"bytes={start}-", "If-Range": tag}
        elif stop is not None:
            headers["Range"] = f"bytes=0-{stop - 1}"
        with _transient(), self._get(origin, headers) as response:
            first, total = _range(response)
            if first not in (0, start):
                raise TransientError(f"bytes from {first} on came instead of {start}")
            yield Body(first, total, _tag(response), response.iter_content(_CHUNK))

    def _get(self, origin: str, headers: dict[str, str]) -> requests.Response:
        """The answer, if it is one; a file that is refused is asked for once more with the token."""
        url = f"{self._server}/api/v0.1/Download/file?uri={quote(origin, safe=':/')}"
        session = self._session()
        response = session.get(url, headers=headers, stream=True, timeout=self._timeout)
        token = None
        if response.status_code in (401, 403) and (token := self._token()):
            response.close()
            headers = {**headers, "Authorization": f"token {token}"}
            response = session.get(url, headers=headers, stream=True, timeout=self._timeout)
        if response.status_code in (200, 206):
            return response
        response.close()
        raise _refusal(response, origin, with_token=token is not None)

    def _session(self) -> requests.Session:
        if not hasattr(self._local, "session"):
            made = requests.Session()
            # proxies and certificates of the environment, looked up once instead of for every request;
            # credentials come from nowhere else: no .netrc
            environment = made.merge_environment_settings(self._server, {}, None, None, None)
            made.proxies, made.verify = environment["proxies"], environment["verify"]
            made.trust_env = False
            self._local.session = made
        session: requests.Session = self._local.session
        return session


def _refusal(response: requests.Response, origin: str, *, with_token: bool) -> Exception:
    """What an answer that is no file means."""
    status = response.status_code
    if status in _AGAIN_LATER:
        return TransientError(f"status {status} {response.reason}", after=_retry_after(response))
    if status == 416:
        return ChangedError("the server has no bytes there: the file has changed")
    if status in (404, 410):
        return NotThereError(
            f"{origin}: MAST has no such file; check the name, or leave it out with --exclude"
        )
    if status in (401, 403):
        remedy = (
            "the token is not valid for it or has expired: make a new one"
            if with_token
            else "set MAST_API_TOKEN to a token of its owner, or leave it out with --exclude"
        )
        return RestrictedError(
            f"{origin}: MAST gives this file to its owner alone (status {status}); {remedy}"
        )
    return InputError.about(origin, f"MAST answers with status {status} {response.reason}", "check the name")


def _retry_after(response: requests.Response) -> float:
    text = response.headers.get("Retry-After", "")
    return float(text) if re.fullmatch(r"\d{1,6}", text) else 0.0


def _range(response: requests.Response) -> tuple[int, int | None]:
    """First byte and length of the whole file."""
    if response.status_code == 206:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip())
        if found is None:
            raise TransientError("status 206 without a Content-Range that can be understood")
        return int(found[1]), None if found[2] == "*" else int(found[2])
    length = response.headers.get("Content-Length", "")
    encoded = response.headers.get("Content-Encoding", "identity") != "identity"
    return 0, int(length) if length.isdigit() and not encoded else None


def _tag(response: requests.Response) -> str:
    """A validator that If-Range takes: weak ETags are none."""
    etag = str(response.headers.get("ETag", ""))
    return etag if etag.startswith('"') else str(response.headers.get("Last-Modified", ""))


@contextlib.contextmanager
def _transient() -> Iterator[None]:
    """Connections that fail, at whatever stage, are worth another attempt."""
    try:
        yield
    except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema) as error:
        raise InputError.about("fetch.server", str(error), "give it as https://host") from None
    except requests.RequestException as error:
        raise TransientError(_words(error)) from None


def _words(error: requests.RequestException) -> str:
    if isinstance(error, requests.Timeout):
        return "the server said nothing for too long"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection broke off"
    if isinstance(error, requests.exceptions.SSLError):
        return "the server's certificate is not accepted"
    return "there is no connection to the server"
