"""Missing files into a CRDS cache: under one lock, each once, published whole.

Any number of processes, on any number of machines that share the cache, may ask for the same files at once:
the first one takes the lock and downloads, the others wait and find them there. A file is written beside the
cache's folders, compared with CRDS's size and sha1, made read-only and only then renamed to its place.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from batch.errors import BatchError, DamagedReferenceError, NetworkError, StorageError
from batch.references.catalog import FileInfo
from batch.references.checked import Index, compare
from batch.references.download import NotThereError, Patience, download
from batch.references.location import Cache

log = logging.getLogger(__name__)

Ask = Callable[[Sequence[str]], Mapping[str, FileInfo]]
"""From names to CRDS's entries; names that it does not know are left out."""


@dataclass(frozen=True)
class Synced:
    """What one call did."""

    fetched: tuple[str, ...] = ()
    """Names of the files that it downloaded."""
    unknown: Mapping[str, str] = field(default_factory=dict)
    """Files that could not be had because the server does not have them, with its words."""


def sync(
    cache: Cache,
    names: Iterable[str],
    ask: Ask,
    *,
    patience: Patience | None = None,
    wait: float = 4 * 3600.0,
    at_a_time: int = 4,
) -> Synced:
    """See that files are in the cache, downloading those that are not.

    Parameters
    ----------
    cache : Cache
    names : iterable of str
        References or mappings.
    ask : callable
        Gives CRDS's entries; called only with the lock held, and only for what is missing.
    patience : Patience, optional
        With the server, for each file.
    wait : float
        The longest time to wait for others that download, s.
    at_a_time : int
        How many files are downloaded side by side.

    Raises
    ------
    NetworkError
        If files could not be had. The others are there; to go on is to call again.
    DamagedReferenceError
        If the server gives something else than its own catalogue promises.
    StorageError
        If the cache cannot be written to.
    """
    wanted = list(dict.fromkeys(names))
    if not _missing(cache, wanted):
        return Synced()
    with _lock(cache, wait, _missing(cache, wanted)):
        missing = _missing(cache, wanted)
        if not missing:
            return Synced()
        infos = ask(missing)
        unknown = {n: "CRDS does not know it" for n in missing if n not in infos}
        # a context comes last: where it is there, all that it is made of is there
        todo = sorted((n for n in missing if n in infos), key=lambda n: n.endswith(".pmap"))
        total = sum(infos[n].size for n in todo)
        log.info("fetching %d files, %.1f MB, into %s", len(todo), total / 1e6, cache.root)
        with ThreadPoolExecutor(at_a_time) as pool:
            first = [n for n in todo if not n.endswith(".pmap")]
            problems = _fetch_all(pool, cache, {n: infos[n] for n in first}, patience or Patience())
            if not problems:
                rest = {n: infos[n] for n in todo[len(first) :]}
                problems = _fetch_all(pool, cache, rest, patience or Patience())
    unknown |= {n: e.message for n, e in problems.items() if isinstance(e, NotThereError)}
    worse = {n: e for n, e in problems.items() if n not in unknown}
    if worse:
        raise _together(worse, len(missing))
    return Synced(tuple(n for n in todo if n not in unknown), unknown)


def _missing(cache: Cache, names: Iterable[str]) -> list[str]:
    return [n for n in names if cache.find(n) is None]


@contextlib.contextmanager
def _lock(cache: Cache, wait: float, missing: Sequence[str]) -> Iterator[None]:
    listed = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
    try:
        cache.own.mkdir(parents=True, exist_ok=True)
        with FileLock(cache.own / "sync.lock", timeout=wait):
            yield
    except Timeout:
        raise NetworkError(
            f"{cache.own / 'sync.lock'}: another process has been filling this CRDS cache for {wait:.0f} s; "
            "run again when it is done"
        ) from None
    except OSError as error:
        raise StorageError(
            f"{error.filename or cache.root}: {error.strerror or error}: {listed} cannot be put into the "
            "CRDS cache; free space, sync as a user who may write there, or take another --crds-cache"
        ) from None


def _fetch_all(
    pool: ThreadPoolExecutor, cache: Cache, infos: Mapping[str, FileInfo], patience: Patience
) -> dict[str, BatchError]:
    """Fetch files side by side; what went wrong, by name. What the disk refuses is raised at once."""
    futures = {n: pool.submit(_fetch, cache, n, info, patience) for n, info in infos.items()}
    problems: dict[str, BatchError] = {}
    for name, future in futures.items():
        try:
            future.result()
        except BatchError as error:
            problems[name] = error
    return problems


def _fetch(cache: Cache, name: str, info: FileInfo, patience: Patience) -> None:
    """Download one file aside, look whether it is whole, and put it in its place in one step."""
    place = cache.place(name)
    place.parent.mkdir(parents=True, exist_ok=True)
    part = cache.own / "partial" / name
    part.parent.mkdir(exist_ok=True)
    for begun in (part.exists(), False):
        download(info.url, part, info.size, patience)
        difference = compare(part, info)
        if not difference:
            break
        # the beginning may be from another time: once more, from nothing
        part.unlink()
        if not begun:
            raise DamagedReferenceError(
                f"{name}: what the CRDS server sent differs from its catalogue ({difference}); try again "
                "later, or name a file of your own with --reference KEYWORD=PATH"
            )
    with part.open("rb") as stream:
        os.fsync(stream.fileno())
    part.chmod(stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH)
    part.rename(place)
    _sync_folder(place.parent)
    if info.sha1:
        Index.of(cache, cache.own).add(place.absolute(), info.sha1)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _together(problems: Mapping[str, BatchError], asked: int) -> BatchError:
    """One error for several files: of the kind that no retry mends, if there is one."""
    errors = sorted(problems.values(), key=lambda e: e.retryable)
    more = f" ({len(problems)} of {asked} files failed)" if asked > 1 else ""
    return type(errors[0])(errors[0].message + more)
