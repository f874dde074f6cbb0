"""What is installed and what is there: the first thing to ask when a run does not start."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from batch import __version__
from batch.errors import BatchError, WorkDirectoryBusyError
from batch.storage.work import open_work

_PACKAGES = (
    "astropy",
    "numpy",
    "crds",
    "stwcs",
    "drizzlepac",
    "acstools",
    "dask",
    "distributed",
    "numba",
    "xarray",
)
# one full-frame visit of four exposures with ten mosaics and all intermediate products
_DISK_NEEDED = 20e9
_MEMORY_NEEDED = 4e9


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    what: str
    found: str
    good: bool
    advice: str = ""


def examine(work: str, cache: Path | None, environment: Mapping[str, str]) -> Iterator[Finding]:
    """Look at the installation, the machine, CRDS and calacs.e.

    Parameters
    ----------
    work : str
        Where a run would be; need not exist yet.
    cache : Path, optional
        The CRDS cache; else that of the environment.
    environment : mapping
        Environment variables.
    """
    from dask.system import CPU_COUNT
    from distributed.system import MEMORY_LIMIT

    yield Finding("acs-batch", __version__, True)
    yield Finding("Python", platform.python_version(), True)
    for name in _PACKAGES:
        yield _package(name)
    yield Finding("processors", str(CPU_COUNT), True)
    yield Finding(
        "memory",
        f"{MEMORY_LIMIT / 1e9:.1f} GB",
        MEMORY_LIMIT >= _MEMORY_NEEDED,
        f"full frames need {_MEMORY_NEEDED / 1e9:.0f} GB; subarrays do with less",
    )
    if "://" in work:
        yield _store(work)
    yield _disk(open_work(work).local)
    yield _references(cache, environment)
    yield _calacs(environment)


def _package(name: str) -> Finding:
    try:
        return Finding(name, metadata.version(name), True)
    except metadata.PackageNotFoundError:
        return Finding(name, "not installed", False, "install acs-batch again")


def _disk(work: Path) -> Finding:
    folder = work.absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    writable = os.access(folder, os.W_OK)
    return Finding(
        f"disk at {folder}",
        f"{free / 1e9:.0f} GB free" + ("" if writable else ", not writable"),
        writable and free >= _DISK_NEEDED,
        f"a full-frame visit takes about {_DISK_NEEDED / 1e9:.0f} GB; give another --work",
    )


def _store(work: str) -> Finding:
    """As a run begins: held and given back at once, so that permissions and conditional writes are tried."""
    try:
        with open_work(work).writer():
            return Finding("object store", f"{work}, takes conditional writes", True)
    except WorkDirectoryBusyError:
        return Finding("object store", f"{work}, a run is going on there", True)
    except BatchError as error:
        return Finding("object store", "not usable", False, error.message)


def _references(cache: Path | None, environment: Mapping[str, str]) -> Finding:
    from batch.config.calibration import ReferencesSettings
    from batch.references.context import locate_cache

    try:
        located = locate_cache(ReferencesSettings(cache=cache), environment)
    except BatchError as error:
        return Finding("CRDS cache", "none", False, error.message)
    folder = Path(str(located.cache)) / "references" / "hst"
    count = sum(1 for p in folder.rglob("*.fits")) if folder.is_dir() else 0
    return Finding("CRDS cache", f"{located.cache}, context {located.context}, {count} files", True)


def _calacs(environment: Mapping[str, str]) -> Finding:
    """Not needed: the engine `builtin` does without."""
    program = shutil.which("calacs.e", path=environment.get("PATH"))
    if program is None:
        return Finding("calacs.e", "not on PATH (engine calacs is not available; builtin is)", True)
    try:
        done = subprocess.run(
            [program, "--version"],
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding("calacs.e", f"{program}: {error}", False, "mend or remove it")
    return Finding("calacs.e", f"{program} {(done.stdout or done.stderr).strip()}", done.returncode == 0)
