"""Records in a bucket: which stand, which are whole, read many at a time."""

from __future__ import annotations

import gzip
import json
import logging
import zlib
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from batch.errors import BatchError
from batch.model.record import Record
from batch.storage.files import from_json, to_json
from batch.storage.objects.store import Listed, Store
from batch.storage.objects.trouble import ConflictError
from batch.storage.work import LOG, RECORD

log = logging.getLogger(__name__)

PRODUCTS = "products/"
FAILURES = "failures/"
_COPY = "records.json.gz"
_READERS = 16
_AT_A_TIME = 1000
_FEW = 8
"""So many tasks are listed one by one, more of them by stage."""


class Records:
    """The records below a prefix, as this process knows them.

    A record is read once: as long as a listing shows its ETag, it has not changed.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, tuple[str, bytes]] = {}
        """ETag and content, compressed, by task id."""
        self._seen: dict[str, str | None] = {}
        """ETag of what stood when a task was last looked at, by task id."""
        self._changed = False
        """Whether more is known than the copy in the store says."""

    def standing(self, task_ids: Iterable[str]) -> Iterator[Record]:
        """Records whose products are there and whole, in the order of the tasks.

        One listing per stage, and one reading of the copy that the last run left, take the place of a
        request for every record.
        """
        wanted = list(dict.fromkeys(task_ids))
        listed = {o.name.removeprefix(PRODUCTS): o for o in self._list(PRODUCTS, wanted)}
        return (r for r in self._read(wanted, listed) if _whole(r, listed))

    def named(self, task_ids: Iterable[str]) -> Iterator[Record]:
        """The same, whether their products are whole or not."""
        wanted = list(task_ids)
        return self._read(wanted, {o.name.removeprefix(PRODUCTS): o for o in self._list(PRODUCTS, wanted)})

    def _read(self, wanted: list[str], listed: dict[str, Listed]) -> Iterator[Record]:
        here = {i: o for i in wanted if (o := listed.get(f"{i}/{RECORD}")) is not None}
        self._seen |= {i: here[i].etag if i in here else None for i in wanted}
        if len(here) > _FEW and not self._known:
            self._read_copy()
        for start in range(0, len(here), _AT_A_TIME):
            some = list(here)[start : start + _AT_A_TIME]
            new = [i for i in some if self._known.get(i, ("",))[0] != here[i].etag]
            for task_id, found in zip(new, self._all(self._get, [here[i] for i in new]), strict=True):
                self._seen[task_id] = found[0] if found else None
                if found is not None:
                    self._known[task_id], self._changed = found, True
            records = (_record(zlib.decompress(self._known[i][1])) for i in some if i in self._known)
            yield from (r for r in records if r is not None)

    def commit(self, record: Record) -> None:
        """Write a record in place of what stood when its task was last looked at, or `ConflictError`."""
        if record.id not in self._seen:
            next(self.standing([record.id]), None)
        try:
            name = f"{PRODUCTS}{record.id}/{RECORD}"
            etag = self._store.put_instead(name, to_json(record), self._seen[record.id])
        except FileNotFoundError:
            # what was to be replaced has been removed
            raise ConflictError(record.id) from None
        self._seen[record.id] = etag

    def attempts(self, task_id: str) -> list[int]:
        """Numbers of the failed attempts of a task."""
        return [number for _, number, _ in self._attempts([task_id])]

    def failures(self, task_ids: Iterable[str]) -> dict[str, tuple[Record, str]]:
        """Record and log of the last failed attempt of those tasks that have one."""
        last: dict[str, tuple[int, str]] = {}
        for task_id, number, name in self._attempts(list(task_ids)):
            last[task_id] = max(last.get(task_id, (0, "")), (number, name))
        names = [name for _, name in last.values()]
        return {
            task_id: (record, name.removesuffix(RECORD) + LOG)
            for task_id, name, record in zip(last, names, self._all(self._failure, names), strict=True)
            if record is not None
        }

    def remember(self) -> None:
        """Leave a copy of all records that are known, for the next run to read in one go."""
        if len(self._known) <= _FEW or not self._changed:
            return
        content = {i: [etag, zlib.decompress(text).decode()] for i, (etag, text) in self._known.items()}
        try:
            self._store.put(_COPY, gzip.compress(json.dumps(content).encode(), 6))
        except BatchError as error:
            log.warning("%s", error.message)

    def _read_copy(self) -> None:
        """What is wrong or old in it does no harm: it counts only with the ETag of the listing."""
        try:
            content: dict[str, Any] = json.loads(gzip.decompress(self._store.get(_COPY)[0]))
            self._known |= {i: (etag, _packed(text.encode())) for i, (etag, text) in content.items()}
        except (OSError, EOFError, zlib.error, ValueError, AttributeError):
            return

    def _get(self, listed: Listed) -> tuple[str, bytes] | None:
        try:
            content, found = self._store.get(listed.name, listed)
        except FileNotFoundError:
            return None
        return found.etag, _packed(content)

    def _failure(self, name: str) -> Record | None:
        try:
            return _record(self._store.get(name)[0])
        except FileNotFoundError:
            return None

    def _attempts(self, task_ids: Collection[str]) -> Iterator[tuple[str, int, str]]:
        """Task, number and name of the record of each failed attempt."""
        wanted = set(task_ids)
        for listed in self._list(FAILURES, task_ids):
            folder, _, last = listed.name.rpartition("/")
            task_id, _, attempt = folder.removeprefix(FAILURES).rpartition("/attempt-")
            if last == RECORD and task_id in wanted and attempt.isdigit():
                yield task_id, int(attempt), listed.name

    def _list(self, folder: str, task_ids: Collection[str]) -> Iterator[Listed]:
        """What lies below the folders of tasks, and perhaps more."""
        few = len(task_ids) <= _FEW
        parts = task_ids if few else dict.fromkeys(i.partition("/")[0] for i in task_ids)
        starts = [f"{folder}{part}/" for part in parts]
        for objects in self._all(lambda start: list(self._store.listing(start)), starts):
            yield from objects

    @staticmethod
    def _all(function: Any, values: Collection[Any]) -> list[Any]:
        """`function` of every value, in threads where there are several."""
        if len(values) <= 1:
            return [function(v) for v in values]
        with ThreadPoolExecutor(_READERS) as threads:
            return list(threads.map(function, values))


def _packed(content: bytes) -> bytes:
    """A hundred thousand of them may be in memory."""
    return zlib.compress(content, 1)


def _record(content: bytes) -> Record | None:
    """A record that cannot be read is no record: the task is then done again."""
    try:
        return from_json(Record, content)
    except ValueError:
        return None


def _whole(record: Record, listed: dict[str, Listed]) -> bool:
    return all(
        (found := listed.get(f"{record.place}/{p.name}")) is not None and found.size == p.size
        for p in record.products
    )
