"""The program from which the processes of tasks are forked: ``python -P -m batch.runtime.nursery``.

It imports what every stage that opens a file needs, and nothing that fixes a number of threads or takes much
memory: a task's peak memory begins with it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import astropy.io.fits
import astropy.table  # noqa: F401

import batch.config  # noqa: F401
from batch.isolation.nursery import serve
from batch.runtime import task


def main() -> int:
    """Serve the worker that has started this process."""
    return serve(_run, f"python -m {task.__name__}")


def _run(arguments: Sequence[str]) -> int:
    (workspace,) = arguments
    return task.main(Path(workspace))


if __name__ == "__main__":
    sys.exit(main())
