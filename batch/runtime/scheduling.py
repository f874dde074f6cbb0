"""How Dask is set up where it serves runs of acs-batch and nothing else."""

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
    # what a worker would find of itself a hundred times a second is that it waits for a task's process, and
    # to look took a twentieth of a core of each worker and of the scheduler, whether there were tasks or not
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "2s",
}


def environment() -> dict[str, str]:
    """The settings as Dask reads them from the environment of a process."""
    return {
        "DASK_" + name.upper().replace(".", "__").replace("-", "_"): str(value)
        for name, value in SETTINGS.items()
    }


@contextlib.contextmanager
def configured() -> Iterator[None]:
    """Set up schedulers and workers so that start from this process while the block lasts."""
    import dask
    import distributed  # what is set before it has filled in its defaults takes them all along when it goes

    log.debug("distributed %s", distributed.__version__)
    with dask.config.set(SETTINGS):
        yield
