"""Logging: the driver's goes to the terminal, each task's to a file of its own."""

from __future__ import annotations

import logging
import sys

FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


def set_up(level: int = logging.INFO) -> None:
    """Send records to standard error; in a task that is its log file."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(FORMAT, datefmt="%Y-%m-%dT%H:%M:%S"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # their debug chatter says nothing about the data
    for noisy in ("distributed", "asyncio", "matplotlib", "numba", "PIL", "h5py"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.captureWarnings(True)
