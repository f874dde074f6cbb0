"""Is a file what CRDS says it is? Asked once per file: the answer is kept beside the cache.

The index is a text file of one JSON line per check, appended to in one write, so that any number of processes
may share it without a lock; of several lines for a file the last one counts. A file that has changed since
(another size or modification time) is checked again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batch.errors import DamagedReferenceError
from batch.references.catalog import FileInfo
from batch.references.location import Cache


@dataclass(frozen=True)
class Index:
    """The files that were checked already."""

    path: Path

    @classmethod
    def of(cls, cache: Cache, otherwise: Path) -> Index:
        """The index of a cache: in it, or in the folder `otherwise` where the cache cannot be written to."""
        folder = (
            cache.own if os.access(cache.own if cache.own.is_dir() else cache.root, os.W_OK) else otherwise
        )
        return cls(folder / "checked.jsonl")

    def read(self) -> dict[str, tuple[int, int, str]]:
        """Size, modification time (ns) and sha1 of the files that agreed with CRDS, by absolute path."""
        found: dict[str, tuple[int, int, str]] = {}
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            return found
        for line in lines:
            # a line that a full disk cut short only means that a file is checked again
            with contextlib.suppress(ValueError, KeyError, TypeError):
                entry: dict[str, Any] = json.loads(line)
                found[entry["path"]] = (entry["size"], entry["mtime"], entry["sha1"])
        return found

    def add(self, path: Path, sha1: str) -> None:
        """Remember that a file agrees with CRDS. What cannot be written is only checked again next time."""
        status = path.stat()
        entry = {"path": str(path), "size": status.st_size, "mtime": status.st_mtime_ns, "sha1": sha1}
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            try:
                os.write(descriptor, (json.dumps(entry) + "\n").encode())
            finally:
                os.close(descriptor)


def verify(
    files: Mapping[str, Path], infos: Mapping[str, FileInfo], index: Index
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Compare files with CRDS's catalogue.

    Parameters
    ----------
    files : mapping
        Paths by name.
    infos : mapping
        What CRDS says of them; those that it does not know stay unverified.
    index : Index
        What was checked before.

    Returns
    -------
    verified, unverified : tuple of str
        Names.

    Raises
    ------
    DamagedReferenceError
        For files that differ; one message names them all.
    """
    known = index.read()
    verified, unverified, wrong = [], [], []
    for name, path in files.items():
        info = infos.get(name)
        status = path.stat()
        if (entry := known.get(str(path))) and entry[:2] == (status.st_size, status.st_mtime_ns):
            verified.append(name)
        elif info is None:
            unverified.append(name)
        elif difference := compare(path, info):
            wrong.append(f"{path}: {difference}")
        else:
            if info.sha1:
                index.add(path, info.sha1)
            (verified if info.sha1 else unverified).append(name)
    if wrong:
        raise DamagedReferenceError(
            "\n".join(wrong)
            + "\nThese are not the files that CRDS delivered: delete them and sync them again "
            "(acs-batch run --sync), or name files of your own with --reference KEYWORD=PATH"
        )
    return tuple(verified), tuple(unverified)


def compare(path: Path, info: FileInfo) -> str:
    """In what a file differs from CRDS's entry; empty if in nothing."""
    size = path.stat().st_size
    if size != info.size:
        return f"{size} bytes, {info.size} in CRDS"
    if info.sha1:
        with path.open("rb") as stream:
            sha1 = hashlib.file_digest(stream, lambda: hashlib.sha1(usedforsecurity=False)).hexdigest()
        if sha1 != info.sha1:
            return f"sha1 {sha1}, {info.sha1} in CRDS"
    return ""
