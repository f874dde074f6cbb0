"""Private working folders on this machine, and how those of the dead are found."""

from __future__ import annotations

import contextlib
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from batch.storage.files import remove_folder, storage_errors

_OWNER = ".owner"
_MAKING = ".making"


@contextlib.contextmanager
def workspace(scratch: Path, task_id: str) -> Iterator[Path]:
    """A private folder in `scratch` for one attempt, removed afterwards.

    The folder holds ``area/`` (the task's current folder) and a lock that tells `sweep` that its owner is
    alive.
    """
    folder = scratch / f"{task_id.replace('/', '__')}-{uuid.uuid4().hex[:12]}"
    owner = FileLock(folder / _OWNER, timeout=0)
    with storage_errors(folder):
        scratch.mkdir(parents=True, exist_ok=True)
        with _gate(scratch):
            folder.mkdir()
            owner.acquire()
    try:
        (folder / "area").mkdir()
        yield folder
    finally:
        owner.release()
        shutil.rmtree(folder, ignore_errors=True)


def sweep(scratch: Path) -> int:
    """Remove the folders of attempts whose process is gone; returns bytes given back."""
    if not scratch.is_dir():
        return 0
    with _gate(scratch):
        dead = [folder for folder in scratch.iterdir() if not _owned(folder)]
    return sum(remove_folder(folder) for folder in dead)


def _gate(scratch: Path) -> FileLock:
    """Held while a folder has no owner yet, so that nobody takes it for one of the dead."""
    return FileLock(scratch.parent / _MAKING)


def _owned(folder: Path) -> bool:
    if not (folder / _OWNER).exists():
        return False
    try:
        with FileLock(folder / _OWNER, timeout=0):
            return False
    except (Timeout, FileNotFoundError):  # alive, or its owner is removing it
        return True
