"""Searches at MAST, by astroquery: which observations there are, and which files belong to them."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from urllib.parse import urlsplit

from batch.archive.conditions import mjd, position
from batch.archive.items import Item, wanted_name
from batch.archive.retry import Patience
from batch.archive.transport import TransientError
from batch.config.archive import SearchSettings
from batch.errors import LibraryError, NetworkError, UsageError

T = TypeVar("T")

_INSTRUMENTS = ("ACS/WFC", "ACS/HRC", "ACS/SBC")
_NAMES_AT_A_TIME = 500
_OBSERVATIONS_AT_A_TIME = 250
_URLS = ("MAST_REQUEST_URL", "COLUMNS_CONFIG_URL", "MAST_DOWNLOAD_URL", "MAST_BUNDLE_URL")
_LAST_DAY = 200000.0


class Mast:
    """The searches that discovery makes.

    Parameters
    ----------
    server : str
        ``https://host``; empty takes astroquery's setting (``astroquery.mast.conf.server``).
    patience : Patience
        How long each query is tried.
    limit : float
        Seconds after which a query that has not been answered is tried again: astroquery sets no time limit
        on its connections.
    connections : int
        Queries at a time.
    """

    def __init__(self, server: str, patience: Patience, limit: float, connections: int) -> None:
        self.server = server or default_server()
        self._patience, self._limit, self._connections = patience, limit, connections

    def items(self, search: SearchSettings, names: Sequence[str]) -> list[Item]:
        """Files of the observations that are searched for.

        Parameters
        ----------
        search : SearchSettings
            Conditions; those that single exposures must meet are looked at again in their headers.
        names : sequence of str
            Associations and exposures; empty takes whatever meets the conditions.

        Raises
        ------
        UsageError
            For a query that MAST does not understand, or a target it does not know.
        NetworkError
            If MAST does not answer.
        """
        criteria = _criteria(search)
        if not names:
            return self._products(self._observations("search", **criteria).values())
        found: dict[str, str] = {}
        for start in range(0, len(names), _NAMES_AT_A_TIME):
            some = names[start : start + _NAMES_AT_A_TIME]
            # MAST has had names in either case
            both = [*some, *(n.upper() for n in some)]
            found |= self._observations(f"search for {some[0]}, ...", obs_id=both, **criteria)
        # what is no observation of its own is the exposure of an association: one of the same visit
        visits = sorted({n[:6] for n in names if n not in found})
        for visit in visits:
            found |= self._observations(f"search for visit {visit}", obs_id=f"{visit}*", **criteria)
        return self._products(found.values())

    def _observations(self, what: str, **criteria: Any) -> dict[str, str]:
        """MAST's own number of each observation, by name."""
        table = self._ask(what, lambda client: client.query_criteria(**criteria))
        if len(table) == 0:
            return {}
        return {
            str(name).strip().lower(): str(number).strip()
            for name, number in zip(table["obs_id"], table["obsid"], strict=True)
        }

    def _products(self, numbers: Iterable[str]) -> list[Item]:
        unique = sorted(set(numbers))
        parts = [
            unique[i : i + _OBSERVATIONS_AT_A_TIME] for i in range(0, len(unique), _OBSERVATIONS_AT_A_TIME)
        ]
        with ThreadPoolExecutor(self._connections) as pool:
            found = pool.map(self._products_of, parts)
            return list({item.name: item for items in found for item in items}.values())

    def _products_of(self, numbers: Sequence[str]) -> list[Item]:
        table = self._ask("list of files", lambda client: client.get_product_list(list(numbers)))
        if len(table) == 0:
            return []
        rights = table["dataRights"] if "dataRights" in table.colnames else [""] * len(table)
        rows = zip(table["productFilename"], table["dataURI"], table["size"], rights, strict=True)
        return [
            Item(
                name,
                str(uri),
                int(size) if isinstance(size, int) or str(size).isdigit() else None,
                restricted=str(right).upper() not in ("", "PUBLIC", "--"),
            )
            for file, uri, size, right in rows
            if (name := wanted_name(str(file))) is not None
        ]

    def _ask(self, what: str, query: Callable[[Any], T]) -> T:
        """One query, tried until it is answered."""
        from astroquery.exceptions import InvalidQueryError, RemoteServiceError, ResolverError, TimeoutError
        from requests import HTTPError, RequestException

        where = f"MAST at {self.server}: {what}"

        def attempt() -> T:
            try:
                return within(self._limit, lambda: query(connect(self.server)))
            except HTTPError as error:
                status = 500 if error.response is None else error.response.status_code
                if status < 500 and status not in (408, 425, 429):
                    raise NetworkError(f"{where}: status {status}; check fetch.server") from None
                raise TransientError(f"status {status}") from None
            except (RequestException, TimeoutError, OSError) as error:
                raise TransientError(_words(error)) from None
            except RemoteServiceError as error:
                raise TransientError(f"MAST says: {' '.join(str(error).split())}") from None
            except (InvalidQueryError, ResolverError) as error:
                raise UsageError(f"{where}: {' '.join(str(error).split())}") from None
            except (KeyError, ValueError, TypeError) as error:
                # half an answer, or a page for people where the service is down
                raise TransientError(f"an answer that makes no sense ({type(error).__name__})") from None

        return self._patience.insist(where, attempt)


def default_server() -> str:
    """The server that astroquery is configured with."""
    from astroquery.mast import conf

    return str(conf.server).rstrip("/")


def connect(server: str) -> Any:
    """astroquery's client of a MAST server; one for each query, for it keeps the state of its last one.

    Raises
    ------
    LibraryError
        If this version of astroquery cannot be led to another server: silently asking the real one would
        be worse.
    """
    from astroquery.mast import ObservationsClass

    # requests that it tells of at this level would show headers
    logging.getLogger("astroquery").setLevel(logging.WARNING)
    client = ObservationsClass()
    try:
        # it read its addresses when it was imported
        connection = client._portal_api_connection
        for name in _URLS:
            setattr(connection, name, server + urlsplit(getattr(connection, name)).path)
    except AttributeError as error:
        raise LibraryError(f"astroquery: {error}; install a version that acs-batch was tested with") from None
    return client


def within(seconds: float, call: Callable[[], T]) -> T:
    """Call, but wait no longer than this; a call that hangs is left to itself.

    Raises
    ------
    TimeoutError
        If it did not come to an end.
    """
    ending: list[Any] = []

    def run() -> None:
        try:
            with warnings.catch_warnings():
                # "no results" is no surprise here
                warnings.simplefilter("ignore")
                ending.extend((True, call()))
        except BaseException as error:
            ending.extend((False, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if len(ending) < 2:
        raise TimeoutError(f"no answer in {seconds:.0f} s")
    done, value = ending
    if not done:
        raise value
    result: T = value
    return result


def _criteria(search: SearchSettings) -> dict[str, Any]:
    criteria: dict[str, Any] = {
        "obs_collection": ["HST"],
        # without the advanced products, which are no raw data
        "project": ["HST"],
        "instrument_name": list(_INSTRUMENTS),
    }
    if search.proposal is not None:
        criteria["proposal_id"] = [str(search.proposal)]
    if search.filters:
        criteria["filters"] = [f.upper() for f in search.filters]
    if search.after:
        # observations that were still going on then: their exposures are looked at one by one
        criteria["t_max"] = [mjd(search.after), _LAST_DAY]
    if search.before:
        criteria["t_min"] = [0.0, mjd(search.before)]
    if search.target:
        from astropy import units

        where = position(search.target)
        if where is None:
            criteria["objectname"] = search.target
        else:
            criteria["coordinates"] = f"{where[0]} {where[1]}"
        criteria["radius"] = search.radius * units.arcmin
    return criteria


def _words(error: Exception) -> str:
    from requests import ConnectionError as NoConnection

    if isinstance(error, NoConnection):
        return "there is no connection"
    return " ".join(str(error).split()) or type(error).__name__
