"""Files that appear whole, and what file systems refuse."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from batch.errors import StorageError
from batch.model.json import decode, encode

T = TypeVar("T")


@contextlib.contextmanager
def storage_errors(where: object) -> Iterator[None]:
    """Turn what a file system refuses into a `StorageError` that says where."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageError(f"{where}: no space left; free some, then run again") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise StorageError(f"{where}: {error.strerror}; make it writable, then run again") from error
        raise


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, so that it appears whole."""
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        with aside.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(aside, path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write a model value as JSON, so that the file appears whole."""
    write_bytes(path, to_json(value))


def read_json(kind: type[T], path: Path) -> T:
    """Read what `write_json` wrote.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it does not hold a `kind`.
    """
    return from_json(kind, path.read_bytes())


def to_json(value: Any) -> bytes:
    """A model value as the text of a JSON file."""
    return (json.dumps(encode(value), indent=1, sort_keys=True) + "\n").encode()


def from_json(kind: type[T], content: bytes) -> T:
    """What `to_json` made of a `kind`; `ValueError` if it is something else."""
    return decode(kind, json.loads(content))


def flush(path: Path) -> None:
    """See that a file, or the entries of a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_folder(folder: Path) -> int:
    """Remove what is there, as far as the file system lets; returns bytes given back.

    Others may be removing the same, or files in it.
    """
    before = _size(folder)
    shutil.rmtree(folder, ignore_errors=True)
    return before - _size(folder)


def _size(folder: Path) -> int:
    size = 0
    for path, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                size += os.lstat(os.path.join(path, name)).st_size
    return size
