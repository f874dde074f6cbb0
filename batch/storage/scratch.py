"""Private working folders on this machine, and how those of the dead are found."""

from __future__ import annotations

import contextlib
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from batch.storage.files import storage_errors

_OWNER = ".owner"


@contextlib.contextmanager
def workspace(scratch: Path, task_id: str) -> Iterator[Path]:
    """A private folder in `scratch` for one attempt, removed afterwards.

    The folder holds ``area/`` (the task's current folder); a lock beside it tells `sweep` that its owner is
    alive.
    """
    folder = scratch / f"{task_id.replace('/', '__')}-{uuid.uuid4().hex[:12]}"
    with storage_errors(folder):
        folder.mkdir(parents=True)
    try:
        with FileLock(folder / _OWNER, timeout=0):
            (folder / "area").mkdir()
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sweep(scratch: Path) -> None:
    """Remove the folders of attempts whose process is gone."""
    for folder in scratch.iterdir():
        owner = FileLock(folder / _OWNER, timeout=0)
        try:
            if folder.is_dir() and (folder / _OWNER).exists():
                owner.acquire()
                owner.release()
        except Timeout:
            continue
        shutil.rmtree(folder, ignore_errors=True)
