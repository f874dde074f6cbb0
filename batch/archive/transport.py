"""What every transport does: give a file from some byte on, and say whether it still is the same file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from batch.errors import InputError


class TransientError(Exception):
    """A failure that another attempt can mend. Never leaves this package."""

    def __init__(self, what: str, after: float = 0.0) -> None:
        super().__init__(what)
        self.after = after
        """Seconds that the server asks to wait."""


class DamagedError(TransientError):
    """What came is not the file; nothing of it may be kept."""


class ChangedError(TransientError):
    """The source has another version of the file than the part that is here."""


class NotThereError(InputError):
    """The source has no such file."""


class RestrictedError(InputError):
    """The source gives this file to its owner alone."""


@dataclass(frozen=True)
class Body:
    """A file, or the rest of it, on its way."""

    start: int
    """The first byte that comes: 0 where the source sends the whole file although a part was asked for."""
    total: int | None
    """Bytes of the whole file, where the source says it."""
    tag: str
    """What tells this version of the file from others (a strong ETag, or Last-Modified); may be empty."""
    chunks: Iterator[bytes]
    md5: str = ""
    """Of the whole file, in hexadecimal digits, where the source says it."""


class Transport(Protocol):
    """Opens files of one kind of source."""

    def open(
        self, origin: str, *, start: int = 0, tag: str = "", stop: int | None = None
    ) -> AbstractContextManager[Body]:
        """Begin to send a file.

        Parameters
        ----------
        origin : str
            Where it lies.
        start : int
            The first byte that is wanted; 0 unless `tag` is given.
        tag : str
            Send the rest only if the file still has this `Body.tag`, otherwise all of it.
        stop : int, optional
            No bytes from this one on are wanted; more may come.

        Raises
        ------
        NotThereError, RestrictedError, InputError
            If another attempt would end in the same way.
        TransientError
            If it would not; also while `Body.chunks` are read.
        """
        ...


def read_head(transport: Transport, origin: str, count: int) -> bytes:
    """The first `count` bytes of a file, or all of it if it is shorter."""
    content = b""
    with transport.open(origin, stop=count) as body:
        for chunk in body.chunks:
            content += chunk
            # a little more is read to the end, so that the connection can be used again
            if len(content) > 2 * count:
                break
    whole = count if body.total is None else min(count, body.total)
    if len(content) < whole:
        raise TransientError(f"{len(content)} bytes came instead of {whole}")
    return content[:count]
