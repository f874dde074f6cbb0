"""Objects in Kubernetes: made, and taken away again however a run ends."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import time
from collections.abc import Iterator, Sequence
from typing import Any

from batch.errors import UsageError
from batch.runtime.manifests import Manifest

log = logging.getLogger(__name__)

_NEEDS = "--cluster kubernetes needs dask-kubernetes; pip install 'acs-batch[kubernetes]'"


class Api:
    """The API server, through kr8s and the user's own kubeconfig or service account.

    Raises
    ------
    UsageError
        If dask-kubernetes, of which kr8s is a part, is not installed.
    """

    def __init__(self) -> None:
        if importlib.util.find_spec("dask_kubernetes") is None:
            raise UsageError(_NEEDS)

    def create(self, manifest: Manifest) -> Manifest:
        """Create an object; returns it as the API server keeps it.

        Raises
        ------
        UsageError
            If Kubernetes cannot be reached or refuses.
        """
        with refusals(manifest):
            made = self._object(manifest)
            made.create()
            return dict(made.raw)

    def delete(self, manifest: Manifest, late: float = 0) -> None:
        """Delete an object, if it is there, or if it comes within `late` seconds."""
        import kr8s

        end = time.monotonic() + late
        while True:
            with refusals(manifest), contextlib.suppress(kr8s.NotFoundError):
                self._object(manifest).delete()
                return
            if time.monotonic() > end:
                return
            time.sleep(0.2)

    @contextlib.contextmanager
    def kept(self, wanted: Sequence[Manifest]) -> Iterator[None]:
        """Objects that are there as long as the block lasts."""
        with contextlib.ExitStack() as stack:
            for manifest in wanted:
                # before it is made: an interrupt between the two would leave it behind
                stack.enter_context(self.gone_at_last(manifest))
                self.create(manifest)
            yield

    @contextlib.contextmanager
    def gone_at_last(self, manifest: Manifest) -> Iterator[None]:
        """Delete an object at the end of the block, if it is there; what goes wrong then is logged."""
        try:
            yield
        finally:
            try:
                self.delete(manifest)
            except UsageError as error:
                log.warning("%s", error.message)

    def _object(self, manifest: Manifest) -> Any:
        from kr8s.objects import object_from_spec

        return object_from_spec(manifest, allow_unknown_type=True)


@contextlib.contextmanager
def refusals(manifest: Manifest) -> Iterator[None]:
    """What the API server or the way to it says, as one of our errors."""
    import httpx
    import kr8s

    what = f"{manifest['kind']} {manifest['metadata']['name']}"
    try:
        yield
    except (kr8s.NotFoundError, TimeoutError):
        raise
    except (kr8s.ServerError, kr8s.APITimeoutError, httpx.HTTPError, OSError, ValueError) as error:
        words = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(f"Kubernetes, {what}: {words}") from None
