"""MAST's public bucket in the cloud, by astroquery's `enable_cloud_dataset`; the rest by HTTP."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator

from batch.archive.bucket import Bucket
from batch.archive.http import Http
from batch.archive.mast import within
from batch.archive.transport import Body, NotThereError

log = logging.getLogger(__name__)


class Cloud:
    """Looks a file up in the bucket, and takes it from there if it is there.

    Proprietary and very new files are not; neither is anything while the look-up is down.

    Parameters
    ----------
    http : Http
        MAST itself.
    bucket : Bucket
        Anonymous.
    limit : float
        Seconds that a look-up may take.
    """

    def __init__(self, http: Http, bucket: Bucket, limit: float) -> None:
        self._http, self._bucket, self._limit = http, bucket, limit
        self._known: dict[str, str | None] = {}

    @contextlib.contextmanager
    def open(self, origin: str, *, start: int = 0, tag: str = "", stop: int | None = None) -> Iterator[Body]:
        """See `batch.archive.transport.Transport`."""
        place = self._find(origin)
        if place is not None:
            try:
                with self._bucket.open(place, start=start, tag=tag, stop=stop) as body:
                    yield body
                return
            except NotThereError:
                self._known[origin] = None
        with self._http.open(origin, start=start, tag=tag, stop=stop) as body:
            yield body

    def _find(self, origin: str) -> str | None:
        if origin not in self._known:
            self._known[origin] = self._look_up(origin)
        return self._known[origin]

    def _look_up(self, origin: str) -> str | None:
        from astroquery.mast import ObservationsClass

        def ask() -> list[str]:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                client = ObservationsClass()
                client.enable_cloud_dataset(verbose=False)
                return list(client.get_cloud_uris([origin], verbose=False) or ())

        try:
            found = within(self._limit, ask)
        except Exception as error:  # whatever goes wrong there, MAST itself has the file
            log.warning(
                "%s: cannot be looked up in the cloud (%s); taken from MAST", origin, type(error).__name__
            )
            return None
        return found[0] if found else None
