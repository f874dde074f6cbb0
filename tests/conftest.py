"""Fixtures that every test may use."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # a shell starts what it puts into the background so, and some tests are about Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)


# tests go beside one another, and threads of a library would only wait for one another
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# to get the pages of every large array anew takes up to a quarter of a test's time; what tests start does not
# inherit it
_ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**30)}

_KERNELS = "from batch.calibration import cte_kernels, kernels, rejection_kernels, sm4_kernels"


def pytest_configure(config: pytest.Config) -> None:
    """With several processes: how these allocate, and what they wait for.

    Another compiles the calibration's kernels while they wait for the drizzle's.
    """
    if hasattr(config, "workerinput"):
        for name in _ALLOCATOR:
            os.environ.pop(name, None)
    elif config.getoption("numprocesses", None):
        os.environ.update(_ALLOCATOR)
        compiling = subprocess.Popen([sys.executable, "-c", _KERNELS])
        config.add_cleanup(compiling.wait)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With several processes (``-n 4``) a folder's tests stay together, and what they share is made once."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFolder(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            path = nodeid.partition("::")[0]
            # they look at one demo
            if path.endswith(("/test_demo.py", "object_store/test_pipeline.py")):
                return "demo"
            # long, and with nothing in common
            if path.endswith("/test_fuzz.py"):
                return nodeid
            folder = str(Path(path).parent)
            # with little in common
            return path if folder.endswith("integration/pipeline") else folder

    # in the order of their collection
    config.option.loadscopereorder = False
    return ByFolder(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With several processes folders with slow tests come first, and quick ones fill up the end."""
    if hasattr(config, "workerinput"):
        slow = {item.path.parent for item in items if item.get_closest_marker("slow")}
        items.sort(key=lambda item: item.path.parent not in slow)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of specifications, golden data and real exposures beside the checkout."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("the shared data folder is not beside this checkout")
    return folder


@pytest.fixture(scope="session")
def golden(shared: Path) -> Path:
    """Inputs and outputs of calacs.e 10.5.0."""
    return shared / "golden"
