"""The source that settings name: what it holds, and how its files come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from batch.archive import folder
from batch.archive.cache import Cache
from batch.archive.items import Item
from batch.archive.retry import Patience
from batch.archive.transport import Transport
from batch.config.archive import CLOUD, MAST, FetchSettings, SearchSettings
from batch.errors import UsageError

_QUERY = 300.0
"""Longest that a query is tried, and waited for in one piece, s: people sit before it."""


def located(fetch: FetchSettings, environment: Mapping[str, str], *, asked: bool) -> FetchSettings:
    """Fill in what was left open: source, cache, and the MAST server that astroquery is configured with.

    Parameters
    ----------
    fetch : FetchSettings
    environment : mapping
        Environment variables: XDG_CACHE_HOME says where the cache is, where none was given.
    asked : bool
        Whether datasets were asked for by name, programme or target: that alone may mean MAST.

    Raises
    ------
    UsageError
        If there is nothing that says what to reduce.
    """
    source = fetch.source or (MAST if asked else None)
    if source is None:
        raise UsageError(
            "no folder of raw exposures was given; use --from DIR, or name what to take from MAST: "
            "associations, exposures, --proposal or --target"
        )
    if source in (MAST, CLOUD) and not asked:
        raise UsageError(f"--from {source}: name associations or exposures, or use --proposal or --target")
    server = fetch.server
    if source in (MAST, CLOUD) and not server:
        from batch.archive.mast import default_server

        server = default_server()
    downloads = (
        fetch.cache or Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "acs-batch" / "raw"
    )
    return fetch.model_copy(update={"source": source, "server": server, "cache": downloads})


def is_remote(fetch: FetchSettings) -> bool:
    """Whether files are downloaded; those in folders are copied."""
    return fetch.source in (MAST, CLOUD) or str(fetch.source).startswith("s3://")


def knows_targets(fetch: FetchSettings) -> bool:
    """Whether the source itself looks for targets."""
    return fetch.source in (MAST, CLOUD)


def items(fetch: FetchSettings, search: SearchSettings, names: Sequence[str]) -> list[Item]:
    """What the source holds of what is searched for; folders and mirrors give everything they hold.

    Raises
    ------
    UsageError, InputError, NetworkError
        As the source says.
    """
    source = str(fetch.source)
    if source in (MAST, CLOUD):
        from batch.archive.mast import Mast
        from batch.model.names import rootname

        names = [rootname(name, "datasets") for name in names]
        limit = min(_QUERY, 5 * fetch.silence)
        return Mast(fetch.server, query_patience(fetch), limit, fetch.connections).items(search, names)
    if source.startswith("s3://"):
        from batch.archive.bucket import Bucket

        bucket = Bucket(fetch.silence)
        return query_patience(fetch).insist(source, lambda: bucket.items(source))
    return folder.items(source)


def transport(fetch: FetchSettings) -> Transport:
    """What brings files of the source."""
    if str(fetch.source).startswith("s3://"):
        from batch.archive.bucket import Bucket

        return Bucket(fetch.silence)
    from batch.archive.http import Http
    from batch.archive.token import find_token

    http = Http(fetch.server, fetch.silence, find_token)
    if fetch.source != CLOUD:
        return http
    from batch.archive.bucket import Bucket
    from batch.archive.cloud import Cloud

    return Cloud(http, Bucket(fetch.silence, anonymous=True), fetch.silence)


def cache(fetch: FetchSettings) -> Cache:
    """Where downloads are kept."""
    assert fetch.cache is not None
    return Cache(fetch.cache, fetch.connections, Patience(fetch.deadline, fetch.first_wait))


def query_patience(fetch: FetchSettings) -> Patience:
    """How long searches, and looks at headers, are tried."""
    return Patience(min(_QUERY, fetch.deadline), fetch.first_wait)
