"""How a scheduler is set up that serves runs of acs-batch and nothing else."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

log = logging.getLogger(__name__)

SETTINGS = {
    # Dask keeps the last thousand messages to each worker, for its own debugging, and with them every task
    # and what it was given: 2 kB a task, for ever as far as a run is concerned
    "distributed.admin.low-level-log-length": 20,
    # a task whose worker went twice asks for more memory; Dask itself would try four times with the same
    "distributed.scheduler.allowed-failures": 1,
}


def environment() -> dict[str, str]:
    """The settings as Dask reads them from the environment of a scheduler's process."""
    return {
        "DASK_" + name.upper().replace(".", "__").replace("-", "_"): str(value)
        for name, value in SETTINGS.items()
    }


@contextlib.contextmanager
def configured() -> Iterator[None]:
    """Set up schedulers so that start in this process while the block lasts."""
    import dask
    import distributed  # what is set before it has filled in its defaults takes them all along when it goes

    log.debug("distributed %s", distributed.__version__)
    with dask.config.set(SETTINGS):
        yield
