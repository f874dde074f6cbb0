"""What the CRDS server says, asked through the crds client in a process of its own.

The client reads its environment once, at import, and keeps every answer for good; a process per question has
neither trouble. Names, sizes, sums and addresses come from it; the files themselves do not (`sync`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from batch.errors import LibraryError, NetworkError, UsageError
from batch.references.catalog import FileInfo, file_info
from batch.references.location import Cache

SERVER = "https://hst-crds.stsci.edu"
NO_SERVER = "https://hst-crds-serverless.invalid"
"""Never to be reached: the cache alone decides."""
_SECRETS = ("TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL", "API_KEY", "ACCESS_KEY")


def environment(cache: Cache, server: str, context: str, *, read_only: bool = True) -> dict[str, str]:
    """The environment of a crds program: this one's without secrets, pinned to one cache and server."""
    kept = {k: v for k, v in os.environ.items() if not any(word in k.upper() for word in _SECRETS)}
    return kept | {
        "CRDS_PATH": str(cache.root),
        "CRDS_CONTEXT": context,
        "CRDS_SERVER_URL": server,
        "CRDS_READONLY_CACHE": "1" if read_only else "0",
        "CRDS_OBSERVATORY": "hst",
    }


@dataclass(frozen=True)
class Service:
    """A CRDS server."""

    cache: Cache
    server: str = SERVER
    timeout: float = 60.0
    """Of one call, s."""
    attempts: int = 3
    pause: float = 2.0
    """Between attempts, s."""

    def context(self, name: str) -> tuple[str, dict[str, FileInfo]]:
        """A context, and the mappings that it is made of.

        Parameters
        ----------
        name : str
            ``hst_0729.pmap``, or ``latest`` for the server's operational one.

        Returns
        -------
        name : str
        mappings : dict
            CRDS's entries by name.

        Raises
        ------
        UsageError
            If the server does not know the context.
        NetworkError
            If it does not answer.

        Notes
        -----
        The client also writes ``server_config`` and ``bad_files.txt`` into the cache, for use offline.
        """
        answer = self._ask({"context": name}, f"context {name}")
        return str(answer["context"]), _infos(answer["files"])

    def files(self, names: Sequence[str]) -> dict[str, FileInfo]:
        """CRDS's entries of files, with their addresses; those that it does not know are left out.

        Raises
        ------
        NetworkError
            If the server does not answer.
        """
        return _infos(self._ask({"files": sorted(names)}, f"{len(names)} files")["files"])

    def _ask(self, question: Mapping[str, Any], what: str) -> Any:
        more = {
            "CRDS_CLIENT_RETRY_COUNT": str(self.attempts),
            "CRDS_CLIENT_RETRY_DELAY_SECONDS": str(max(1, round(self.pause))) if self.pause >= 1 else "0",
            "CRDS_CLIENT_TIMEOUT_SECONDS": str(max(1, round(self.timeout))),
        }
        # a question takes a handful of calls; the crds client has no limit over all of them
        limit = 30 + 6 * self.attempts * (self.timeout + self.pause)
        try:
            done = subprocess.run(
                [sys.executable, "-P", "-m", "batch.references.client"],
                input=json.dumps(question),
                env=environment(self.cache, self.server, "", read_only=False) | more,
                capture_output=True,
                text=True,
                check=False,
                timeout=limit,
            )
        except subprocess.TimeoutExpired:
            raise self._silent(what, f"no answer in {limit:.0f} s") from None
        lines = done.stdout.splitlines()
        try:
            answer = json.loads(lines[-1])
        except (IndexError, ValueError):
            words = " ".join(done.stderr.split())[-300:] or "no message"
            raise LibraryError(
                f"the crds client, asked for {what}: {words}; look at its installation"
            ) from None
        if answer.get("unreachable"):
            raise self._silent(what, answer["unreachable"])
        if answer.get("refused"):
            raise UsageError(
                f"the CRDS server {self.host} does not know {what} ({answer['refused']}); name another"
            )
        return answer

    @property
    def host(self) -> str:
        """The server without anything that an address may carry besides."""
        return urlsplit(self.server).hostname or self.server

    def _silent(self, what: str, words: str) -> NetworkError:
        return NetworkError(
            f"the CRDS server {self.host}, asked for {what}, did not answer ({words}); run again later, or "
            "without --sync to use what the cache holds"
        )


def _infos(entries: Mapping[str, Any]) -> dict[str, FileInfo]:
    found = {name: file_info(entry, str(entry.get("url", ""))) for name, entry in entries.items()}
    return {name: info for name, info in found.items() if info is not None}
