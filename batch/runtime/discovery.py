"""From a source of raw files to associations: what to reduce, and what is known of it before it is here.

Nothing but headers and association tables is downloaded. Headers rather than MAST's tables of observations
say what an exposure is: they have what those lack (subarray, amplifiers, switches), mirrors have no such
tables, and CRDS can name reference files before the run. An exposure costs one request for its first 60 kB.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from batch.archive import headers, sources
from batch.archive.conditions import meets
from batch.archive.headers import Facts
from batch.archive.items import Item, of_kind
from batch.archive.names import asked_for
from batch.archive.retry import Patience
from batch.archive.tables import Row, read_table
from batch.archive.transfer import Order, bring
from batch.archive.transport import RestrictedError, Transport, read_head
from batch.config import Settings
from batch.errors import InputError, NetworkError, UnsafeNameError, UsageError
from batch.model.names import plain_name, rootname
from batch.model.observation import Association
from batch.runtime.associating import Holdings, group
from batch.storage import raw

log = logging.getLogger(__name__)

_HEADS_PER_DOWNLOAD = 4
"""Looks at headers at a time, for each whole file that may come at a time: they are small and far between."""

Rows = tuple[Row, ...]
ReadTable = Callable[[Item], Rows | None]
S = TypeVar("S")
T = TypeVar("T")


@dataclass(frozen=True)
class Found:
    """What there is to reduce."""

    associations: tuple[Association, ...]
    headers: Mapping[str, Path] = field(default_factory=dict)
    """A file with the primary header of the raw exposure, by rootname, where it could be read: the raw file
    itself, where it is here."""


def find(settings: Settings, wanted: Sequence[str], area: Path) -> Found:
    """Look for exposures and group them.

    Parameters
    ----------
    settings : Settings
        `fetch` as `batch.archive.sources.located` fills it in; `search`; `associate`.
    wanted : sequence of str
        Names of associations or exposures, and ``@file`` for files of them; empty takes everything that meets
        the conditions of `search`.
    area : Path
        A folder for headers and tables.

    Returns
    -------
    Found
        By association table where there is one, else by visit, detector and filters; or as `associate.by`
        says. An exposure whose file is missing or cannot be read is a member all the same: its fetch task
        fails and says why.

    Raises
    ------
    UsageError
        If there is nothing to reduce, or a wanted or excluded name is not there.
    UnsafeNameError
        If a table or file names something that is no rootname.
    InputError
        If an association table cannot be read.
    NetworkError
        If a source does not answer.
    """
    search, fetch, associate = settings.search, settings.fetch, settings.associate
    names = asked_for(wanted, search.datasets_from)
    items = sources.items(fetch, search, names)
    here = str(fetch.source)
    raws = {rootname(i.name.removesuffix("_raw.fits"), i.origin): i for i in of_kind(items, "raw")}
    listed = {plain_name(i.stem, i.origin): i for i in of_kind(items, "asn")}
    if not raws and not listed:
        raise UsageError(_nothing(here, settings))
    reader = _Remote(settings, area) if sources.is_remote(fetch) else _Local()
    tables, broken = _read_tables(listed if associate.by == "association" else {}, reader, associate.rebuild)
    members = {row.rootname for rows in tables.values() for row in rows}
    excluded = _known(associate.exclude, raws.keys() | members, here, "--exclude")
    facts, troubles = reader.look({name: raws[name] for name in sorted(raws) if name not in excluded})
    target_too = not sources.knows_targets(fetch)
    passed = {n for n, f in facts.items() if not meets(f, search, target_too=target_too)}
    holdings = Holdings(
        facts={n: f for n, f in facts.items() if n not in passed},
        broken={n: raw.unreadable(n, *_mark(raws[n]), why) for n, why in troubles.items()},
        tables={
            name: [r for r in rows if r.rootname not in excluded | passed] for name, rows in tables.items()
        },
        origins={name: item.origin for name, item in listed.items()},
        rebuild=broken,
    )
    chosen = _select(group(holdings, associate), holdings, names, here)
    if not chosen:
        raise UsageError(f"{here}: nothing there meets the conditions; widen the search")
    kept = {e.rootname for a in chosen for e in a.members}
    return Found(chosen, {n: p for n, p in reader.headers.items() if n in kept})


class _Local:
    """Looks at files in folders."""

    def __init__(self) -> None:
        self.headers: dict[str, Path] = {}

    def table(self, item: Item) -> Rows:
        return read_table(Path(item.origin))

    def look(self, raws: Mapping[str, Item]) -> tuple[dict[str, Facts], dict[str, str]]:
        """Facts by rootname, and what is wrong with files that cannot be read."""
        facts, troubles = {}, {}
        for name, item in raws.items():
            path = Path(item.origin)
            try:
                facts[name] = headers.describe(path)
                self.headers[name] = path
            except UnsafeNameError:
                raise
            except InputError as error:
                troubles[name] = error.message
        return facts, troubles

    def tables(self, items: Iterable[Item], read: ReadTable) -> list[Rows | None]:
        return [read(item) for item in items]


class _Remote:
    """Looks at files that are elsewhere, several at a time."""

    def __init__(self, settings: Settings, area: Path) -> None:
        self.headers: dict[str, Path] = {}
        self._area = area
        self._transport: Transport = sources.transport(settings.fetch)
        self._patience: Patience = sources.query_patience(settings.fetch)
        self._connections = _HEADS_PER_DOWNLOAD * settings.fetch.connections
        self._over = threading.Event()

    def table(self, item: Item) -> Rows:
        path = self._area / item.name
        bring(self._transport, Order(item.origin, item.name, item.size), path, self._patience)
        return read_table(path)

    def look(self, raws: Mapping[str, Item]) -> tuple[dict[str, Facts], dict[str, str]]:
        """Facts by rootname, and what is wrong with files that cannot be read."""
        facts: dict[str, Facts] = {}
        troubles: dict[str, str] = {}
        for name, (found, trouble) in zip(raws, self._each(self._look, raws.values()), strict=True):
            if found is not None:
                facts[name] = found
                self.headers[name] = self._head(name)
            else:
                troubles[name] = trouble
        return facts, troubles

    def _look(self, item: Item) -> tuple[Facts | None, str]:
        def attempt(count: int) -> bytes:
            if self._over.is_set():
                raise NetworkError(f"{item.origin}: not looked at, because the plan was given up")
            return read_head(self._transport, item.origin, count)

        def read(count: int) -> bytes:
            return self._patience.insist(item.origin, lambda: attempt(count))

        try:
            facts, head = headers.look(read, item.origin, item.name, size=item.size or 0, origin=item.origin)
        except RestrictedError as error:
            return None, error.message
        except UnsafeNameError:
            raise
        except InputError as error:
            return None, error.message
        self._head(item.stem).write_bytes(head)
        return facts, ""

    def _head(self, name: str) -> Path:
        return self._area / f"{name}_raw.fits"

    def tables(self, items: Iterable[Item], read: ReadTable) -> list[Rows | None]:
        return self._each(read, items)

    def _each(self, call: Callable[[S], T], values: Iterable[S]) -> list[T]:
        with ThreadPoolExecutor(self._connections) as pool:
            try:
                return list(pool.map(call, values))
            except BaseException:
                # what is still waiting would only fail as well, and an interrupted user waits for nothing
                self._over.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise


def _read_tables(
    listed: Mapping[str, Item], reader: _Local | _Remote, rebuild: bool
) -> tuple[dict[str, Rows], tuple[str, ...]]:
    """Rows by table, and the names of tables that are to be made anew."""

    def read(item: Item) -> Rows | None:
        try:
            return reader.table(item)
        except UnsafeNameError:
            raise
        except InputError as error:
            if not rebuild:
                raise
            log.warning("%s; made anew from the headers of its exposures", error.message)
            return None

    names = sorted(listed)
    rows = dict(zip(names, reader.tables((listed[n] for n in names), read), strict=True))
    return {n: r for n, r in rows.items() if r is not None}, tuple(n for n, r in rows.items() if r is None)


def _mark(item: Item) -> tuple[str, str]:
    """Stamp and origin of a file whose header could not be read."""
    path = Path(item.origin)
    return (raw.stamp(path) if path.is_file() else f"unread-{item.size}"), item.origin


def _nothing(place: str, settings: Settings) -> str:
    if sources.is_remote(settings.fetch):
        return f"{place}: no ACS exposures are found there; check names and conditions"
    return f"{place}: no *_raw.fits and no *_asn.fits here; give the folder of the raw files"


def _known(names: Iterable[str], present: Iterable[str], place: str, option: str) -> set[str]:
    asked = {n.strip().lower() for n in names}
    unknown = sorted(asked - set(present))
    if unknown:
        raise UsageError(f"{option} {', '.join(unknown)}: no such exposure in {place}")
    return asked


def _select(
    found: tuple[Association, ...], holdings: Holdings, wanted: Sequence[str], place: str
) -> tuple[Association, ...]:
    """The associations that were asked for: by their name, a member's, or that of the archive's table."""
    if not wanted:
        return found
    names: dict[str, set[str]] = {a.name: {a.name} for a in found}
    for association in found:
        for member in association.members:
            names.setdefault(member.rootname, set()).add(association.name)
            facts = holdings.facts.get(member.rootname)
            if facts is not None and facts.table:
                names.setdefault(facts.table, set()).add(association.name)
    unknown = sorted(w for w in wanted if w not in names)
    if unknown:
        some = ", ".join(unknown[:10]) + (f" and {len(unknown) - 10} more" if len(unknown) > 10 else "")
        raise UsageError(f"{some}: no such association or exposure in {place}")
    chosen = {name for w in wanted for name in names[w]}
    return tuple(a for a in found if a.name in chosen)
