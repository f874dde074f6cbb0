"""Compiled kernels: built once per environment under a lock, afterwards only read.

Numba's own disk cache is safe for one writer at a time only: two processes that save different entries
of one function may give them the same file name, and code for another processor then crashes the reader.
Here every (source text, Numba version, processor) has a folder of its own, in which one process at a time
works; so whatever a process finds there is complete and meant for it.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import numba
from filelock import FileLock
from numba.core.registry import cpu_target

F = TypeVar("F", bound=Callable[..., Any])

_WAIT = 120.0  # s; far above the few seconds that a module of kernels takes to compile
_one_at_a_time = threading.RLock()  # numba.config.CACHE_DIR belongs to the whole process


# nobody calls them from C: without that wrapper they compile sooner
_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True}


def kernel(signature: str, *, uses: tuple[ModuleType, ...] = ()) -> Callable[[F], F]:
    """Compile a function ahead of its first call, or load what was compiled before.

    A kernel releases the GIL and follows IEEE division (no ``ZeroDivisionError``).

    Parameters
    ----------
    signature : str
        Numba types of result and arguments, ``"void(float32[:, ::1], float64)"``. Other arguments are
        refused by a ``TypeError``; nothing is compiled in a task.
    uses : tuple of modules
        Where else than in its own module the `inner` functions and constants stand that it needs: only
        changes of these files make the compiled code obsolete.
    """

    def decorate(function: F) -> F:
        sources = [Path(function.__code__.co_filename), *(Path(str(m.__file__)) for m in uses)]
        with _one_at_a_time, _cache_for(sources) as cached:
            compiled: F = numba.njit(signature, cache=cached, **_OPTIONS)(function)
        return compiled

    return decorate


def inner(function: F) -> F:
    """Mark a function that only kernels call: it is compiled as a part of those."""
    compiled: F = numba.njit(no_cpython_wrapper=True, **_OPTIONS)(function)
    return compiled


def cache_folder(source: Path, *others: Path) -> Path:
    """Where the compiled kernels of a module lie.

    Below ``NUMBA_CACHE_DIR`` where that is set, else in the ``__pycache__`` beside the module, else
    (an installation that cannot be written and holds none yet) in the user's cache folder.

    Parameters
    ----------
    source, *others : Path
        The module's source file, and those of the modules it uses.
    """
    processor = cpu_target.target_context.codegen().magic_tuple()
    made_for = f"{sys.implementation.cache_tag} {numba.__version__} {processor}"
    texts = b"".join(path.read_bytes() for path in (source, *others))
    digest = hashlib.sha256(made_for.encode() + texts).hexdigest()
    name = f"{source.stem}.{sys.implementation.cache_tag}.{digest[:16]}"
    if numba.config.CACHE_DIR:
        return Path(numba.config.CACHE_DIR) / name
    beside = source.parent / "__pycache__"
    if (beside / name).is_dir() or os.access(beside if beside.is_dir() else source.parent, os.W_OK):
        return beside / name
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "acs-batch" / name


@contextmanager
def _cache_for(sources: list[Path]) -> Iterator[bool]:
    """Point Numba to the cache folder of a module; False: there is none that can be used."""
    folder = cache_folder(*sources)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        lock.acquire(timeout=_WAIT)
    except (OSError, NotImplementedError) as error:
        # Numba insists on a folder that it can write, so a read-only one is read through a copy.
        if not folder.is_dir():
            what = "%s cannot be used (%s): every process compiles the kernels; set NUMBA_CACHE_DIR"
            logging.getLogger(__name__).warning(what, folder, error)
            yield False
            return
        with tempfile.TemporaryDirectory() as private:
            shutil.copytree(folder, private, dirs_exist_ok=True)
            with _numba_cache_dir(private):
                yield True
        return
    try:
        with _numba_cache_dir(str(folder)):
            yield True
    finally:
        lock.release()


@contextmanager
def _numba_cache_dir(folder: str) -> Iterator[None]:
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = folder
    try:
        yield
    finally:
        numba.config.CACHE_DIR = before
