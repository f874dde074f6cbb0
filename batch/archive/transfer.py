"""Bring one file: continue what broke off, check what came, start afresh where it is damaged."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from batch.archive.part import Part
from batch.archive.retry import Patience
from batch.archive.transport import ChangedError, DamagedError, TransientError, Transport
from batch.archive.verify import damage
from batch.errors import InputError

_AFRESH = 3
"""How often a file may come damaged before its source is taken to have it no better."""


@dataclass(frozen=True)
class Order:
    """A file that is to be brought."""

    origin: str
    name: str
    size: int | None
    """Bytes that it must have, where known before."""


def bring(transport: Transport, order: Order, target: Path, patience: Patience) -> None:
    """Download a file and let it appear, whole and checked, as `target`.

    The unfinished file lies beside it (``<name>.part``) and is continued by the next call. The caller holds
    a lock on `target`.

    Raises
    ------
    NotThereError, RestrictedError
        As the transport says.
    InputError
        If it came damaged time and again.
    NetworkError
        If it could not be had before the deadline.
    """
    part = Part(target.with_name(f"{target.name}.part"))
    until = time.monotonic() + patience.deadline
    damaged = 0

    def attempt() -> None:
        nonlocal damaged
        try:
            md5 = _receive(transport, order, part, until)
            wrong = damage(part.path, order.size, md5)
            if wrong:
                raise DamagedError(f"what came {wrong}")
        except DamagedError as error:
            part.discard()
            damaged += 1
            if damaged >= _AFRESH:
                raise InputError.about(
                    order.origin,
                    f"{error}, {damaged} times",
                    "the source has no better one: report it there, or leave the exposure out with --exclude",
                ) from None
            raise
        except ChangedError:
            part.discard()
            raise
        part.publish(target)

    try:
        patience.insist(order.origin, attempt, kept=True)
    finally:
        part.close()


def _receive(transport: Transport, order: Order, part: Part, until: float) -> str:
    """Let the rest of a file come to `part`; returns the MD5 that the source announces, if any."""
    part.resume()
    with transport.open(order.origin, start=part.length, tag=part.tag) as body:
        if body.start and body.tag != part.tag:
            # a server that ignores If-Range would join two versions
            raise ChangedError("the file has changed at the source")
        total = order.size if order.size is not None else body.total
        if total is not None and body.total is not None and body.total != total:
            raise DamagedError(f"is announced with {body.total} bytes instead of {total}")
        part.begin(body.start, body.tag)
        try:
            for chunk in body.chunks:
                part.write(chunk)
                if total is not None and part.length > total:
                    raise DamagedError(f"has more than {total} bytes")
                if time.monotonic() > until:
                    raise TransientError(f"is not here yet: {part.length} of {total or 'unknown'} bytes")
            if total is not None and part.length < total:
                raise TransientError(f"ended at byte {part.length} of {total}")
        except BaseException:
            # what has come is worth keeping only if it did not all come
            part.mark()
            raise
    part.close()
    return body.md5
