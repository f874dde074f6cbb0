"""Removing objects: those below a name, and those that no record names."""

from __future__ import annotations

import datetime

from batch.storage.objects.records import PRODUCTS, Records
from batch.storage.objects.store import Listed, Store
from batch.storage.work import RECORD

_GRACE = datetime.timedelta(hours=1)
"""A worker that no run knows of any more may still be uploading: what is younger stays."""


def remove(store: Store, start: str) -> int:
    """Remove the objects whose names begin with `start`; returns their bytes.

    Records go first, so that none is ever left without its products.
    """
    found = list(store.listing(start))
    store.remove(o.name for o in found if o.name.endswith(f"/{RECORD}"))
    store.remove(o.name for o in found if not o.name.endswith(f"/{RECORD}"))
    return sum(o.size for o in found)


def unnamed(store: Store, records: Records, grace: datetime.timedelta = _GRACE) -> int:
    """Remove files of attempts that no record names, and uploads that were never ended.

    Parameters
    ----------
    store : Store
        Held by the caller's lease.
    records : Records
    grace : timedelta
        What was uploaded less long ago stays, and with it the rest of its attempt.

    Returns
    -------
    int
        Bytes given back.
    """
    before = store.clock() - grace
    store.abort_uploads(before)
    attempts: dict[str, list[Listed]] = {}
    tasks = []
    for found in store.listing(PRODUCTS):
        folder, _, last = found.name.removeprefix(PRODUCTS).rpartition("/")
        if last == RECORD:
            tasks.append(folder)
        else:
            attempts.setdefault(folder, []).append(found)
    named = {record.place for record in records.named(tasks)}
    garbage = [
        found
        for place, files in attempts.items()
        if place not in named and max(o.modified for o in files) < before
        for found in files
    ]
    store.remove(o.name for o in garbage)
    return sum(o.size for o in garbage)
