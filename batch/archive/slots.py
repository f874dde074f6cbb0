"""A limit on simultaneous downloads that holds over all processes of a machine: locks on files.

A lock goes with its process, however that ends, so that no slot is ever lost; and it needs no server, so that
it holds as well over several runs that share a cache.
"""

from __future__ import annotations

import contextlib
import random
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from batch.errors import NetworkError

_PAUSE = 0.1


@contextlib.contextmanager
def slot(folder: Path, count: int, patience: float) -> Iterator[None]:
    """Hold one of `count` slots of this machine while the block lasts.

    Parameters
    ----------
    folder : Path
        Holds the locks; machines that share it have slots of their own.
    count : int
        How many there are.
    patience : float
        Seconds to wait for one.

    Raises
    ------
    NetworkError
        If none became free.
    """
    own = folder / socket.gethostname()
    own.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + patience
    while True:
        # not all begin at the same one
        for number in random.sample(range(count), count):
            lock = FileLock(own / str(number), timeout=0)
            try:
                lock.acquire()
            except Timeout:
                continue
            try:
                yield
            finally:
                lock.release()
            return
        if time.monotonic() > until:
            raise NetworkError(
                f"none of {count} downloads at a time came to an end in {patience:.0f} s "
                "(fetch.connections); run again to go on"
            )
        time.sleep(_PAUSE * random.uniform(0.5, 1.5))
