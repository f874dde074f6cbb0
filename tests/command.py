"""``acs-batch`` for tests: a process for each call, forked from one that has imported what runs need.

Importing takes longer than many a run of the tests. Those about signals, kills and terminals, and the demo,
start the command anew, as a user does.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from batch.isolation.nursery import Nursery, serve

_IMPORTED = (
    "astropy.io.fits",
    "batch.archive.sources",
    "batch.references.bestrefs",
    "batch.reporting.html",
    "batch.reporting.terminal",
    "batch.runtime.driver",
    "bokeh.plotting",
    "distributed.dashboard.core",
)
_kept: list[Nursery] = []
_one_at_a_time = threading.Lock()


def acs_batch(
    *arguments: str, environment: Mapping[str, str] | None = None, timeout: float = 600
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    with tempfile.TemporaryDirectory() as folder, _one_at_a_time:
        out, err = Path(folder, "out"), Path(folder, "err")
        ending = _nursery().run(
            [str(err), *arguments],
            cwd=Path.cwd(),
            log=out,
            timeout=timeout,
            environment=os.environ if environment is None else environment,
        )
        ending.check("acs-batch", timeout)
        assert ending.exit_status is not None
        return subprocess.CompletedProcess(arguments, ending.exit_status, out.read_text(), err.read_text())


def _nursery() -> Nursery:
    if _kept and not _kept[0].usable:
        _kept.pop().close()
    if not _kept:
        # ends with this process
        _kept.append(Nursery(__name__, {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}))
    return _kept[0]


def _run(arguments: Sequence[str]) -> int:
    error, *sys.argv[1:] = arguments
    sys.argv[0] = "acs-batch"
    # standard output and error lie in one file so far
    with open(error, "ab") as stream:
        os.dup2(stream.fileno(), 2)
    main()
    return 0


if __name__ == "__main__":
    for name in _IMPORTED:
        importlib.import_module(name)
    from batch.cli import main

    sys.exit(serve(_run, "python -m batch.cli"))
