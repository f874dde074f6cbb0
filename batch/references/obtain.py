"""From the names that CRDS gave to files that may be used: fetched where wanted, checked, not bad."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from batch.config.calibration import ReferencesSettings
from batch.errors import InputError, UsageError
from batch.model.json import encode
from batch.references.bestrefs import Resolution, again
from batch.references.catalog import Catalog, FileInfo, read_catalog
from batch.references.checked import Index, verify
from batch.references.location import Cache
from batch.references.service import SERVER, Service
from batch.references.sync import sync


@dataclass(frozen=True)
class State:
    """What is known of a set of files."""

    verified: tuple[str, ...] = ()
    """Names of those that agree with CRDS's catalogue."""
    unverified: tuple[str, ...] = ()
    """Those for which no catalogue is at hand."""
    bad: tuple[str, ...] = ()
    """Those that CRDS calls scientifically invalid."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know."""
        text = "CRDS designates as scientifically invalid: " + ", ".join(self.bad)
        return (text,) if self.bad else ()


def fetch_missing(
    found: Sequence[Resolution], settings: ReferencesSettings
) -> tuple[list[Resolution], dict[str, str]]:
    """Fetch the union of all missing files, if the settings say so.

    Returns
    -------
    found : list of Resolution
        In the same order, with what is there now.
    unknown : dict
        Why files could not be had although the server answered, by name.

    Raises
    ------
    NetworkError, StorageError, DamagedReferenceError
        As `batch.references.sync` says.
    """
    own = {found_one.keywords[k].removeprefix("jref$") for found_one in found for k in found_one.custom}
    missing = {name for one in found for name in one.missing.values()} - own
    if settings.sync == "never" or not missing:
        return list(found), {}
    cache = _cache(settings)
    service = Service(cache, settings.server or SERVER)
    done = sync(cache, sorted(missing), service.files)
    return [again(one, cache) for one in found], dict(done.unknown)


def sizes(found: Iterable[Resolution], settings: ReferencesSettings) -> dict[str, int]:
    """Bytes of the missing files, as far as CRDS's catalogue in the cache knows them."""
    files = read_catalog(_cache(settings)).files
    missing = {name for one in found for name in one.missing.values()}
    return {name: files[name].size if name in files else 0 for name in sorted(missing)}


def examine(
    found: Sequence[Resolution], settings: ReferencesSettings, environment: Mapping[str, str]
) -> State:
    """Compare files with CRDS's catalogue, those that were not before, and look for bad ones.

    Parameters
    ----------
    found : sequence of Resolution
    settings : ReferencesSettings
    environment : mapping
        XDG_CACHE_HOME or HOME: where the index of checked files of a read-only cache is kept.

    Raises
    ------
    DamagedReferenceError
        For files that are not what CRDS delivered.
    InputError
        For bad ones, where the settings say stop.
    """
    cache = _cache(settings)
    files = {name: path for one in found for name, path in one.from_crds.items()}
    index = Index.of(cache, _own_cache(environment))
    catalog = read_catalog(cache)
    infos = _infos(catalog, files, index, settings, cache)
    verified, unverified = verify(files, infos, index)
    bad = catalog.bad_among([*files, settings.context])
    if bad and settings.bad == "stop":
        raise InputError.about(
            ", ".join(bad),
            "CRDS designates this as scientifically invalid",
            "take another context, a file of your own (--reference KEYWORD=PATH), or references.bad=note",
        )
    return State(verified, unverified, bad)


def _infos(
    catalog: Catalog, files: Mapping[str, Path], index: Index, settings: ReferencesSettings, cache: Cache
) -> dict[str, FileInfo]:
    """CRDS's entries: from the catalogue in the cache, and from the server for files newer than that."""
    infos = {name: catalog.files[name] for name in files if name in catalog.files}
    if settings.sync == "never":
        return infos
    known = index.read()
    strange = [n for n, path in files.items() if n not in infos and str(path) not in known]
    if strange:
        infos |= Service(cache, settings.server or SERVER).files(strange)
    return infos


def identity(resolution: Resolution) -> str:
    """What of a resolution shapes products, as sha256: names, switches, what is missing, custom content."""
    content = {k: v for k, v in encode(resolution).items() if k != "files"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _cache(settings: ReferencesSettings) -> Cache:
    if settings.cache is None:
        raise UsageError("references.cache: no CRDS cache was given; use --crds-cache DIR, or set CRDS_PATH")
    return Cache(settings.cache)


def _own_cache(environment: Mapping[str, str]) -> Path:
    """The user's folder for what can be made again."""
    given = environment.get("XDG_CACHE_HOME", "")
    home = Path(environment.get("HOME", "") or Path.home())
    return (Path(given) if given else home / ".cache") / "acs-batch"
