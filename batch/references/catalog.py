"""What CRDS knows of its files: size, sha1, and which of them are scientifically bad."""

from __future__ import annotations

import ast
import base64
import gzip
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from batch.references.location import Cache


@dataclass(frozen=True)
class FileInfo:
    """CRDS's entry for a reference file or mapping."""

    size: int
    """Bytes."""
    sha1: str
    """Hexadecimal; empty where CRDS does not know it."""
    url: str = ""
    """Where the server has it; empty in a catalogue that was read offline."""


@dataclass(frozen=True)
class Catalog:
    """What the server last told this cache; empty where it never did."""

    files: Mapping[str, FileInfo]
    bad: frozenset[str]
    """Names of files that are designated as scientifically invalid."""

    def bad_among(self, names: Iterable[str]) -> tuple[str, ...]:
        """Those of the names that are bad."""
        return tuple(sorted(self.bad & set(names)))


def read_catalog(cache: Cache) -> Catalog:
    """Read ``server_config`` and ``bad_files.txt``, which every CRDS client leaves in its cache.

    A file that cannot be read is as good as none: the files of the cache are then not verified, which is
    recorded.
    """
    config = _server_config(cache)
    listed = config.get("bad_files_list", ())
    bad = {str(name) for name in listed} if isinstance(listed, (list, tuple)) else set()
    return Catalog(_files(config.get("download_metadata")), frozenset(bad | _bad_files(cache)))


def file_info(entry: Any, url: str = "") -> FileInfo | None:
    """An entry of the server's, None if it is not one."""
    try:
        sha1 = str(entry.get("sha1sum", "")).strip().lower()
        return FileInfo(int(entry["size"]), "" if sha1 == "none" else sha1, url)
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def _server_config(cache: Cache) -> dict[str, Any]:
    try:
        content = ast.literal_eval((cache.config / "server_config").read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError, MemoryError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _bad_files(cache: Cache) -> set[str]:
    try:
        lines = (cache.config / "bad_files.txt").read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError):
        return set()
    return set(lines)


def _files(metadata: Any) -> dict[str, FileInfo]:
    """Entries by name; the server packs them as gzip of JSON in base64."""
    if isinstance(metadata, dict) and "crds_payload" in metadata:
        try:
            metadata = json.loads(gzip.decompress(base64.b64decode(metadata["crds_payload"])))
        except (OSError, EOFError, ValueError, TypeError):
            return {}
    if not isinstance(metadata, dict):
        return {}
    return {str(n): info for n, entry in metadata.items() if (info := file_info(entry)) is not None}
