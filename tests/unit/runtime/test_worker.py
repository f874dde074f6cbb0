"""What a worker gives to the processes of its tasks."""

from __future__ import annotations

import pytest

from batch.runtime.worker import environment


def test_libraries_are_held_to_the_threads_that_were_granted() -> None:
    given = environment(3)
    libraries = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
    assert {given[name] for name in libraries} == {"3"}


def test_what_dask_sets_for_its_long_lived_worker_stays_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """With it every large array of a task would be new to the kernel: half of the time of the statistics."""
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "65536")
    monkeypatch.setenv("HOME", "/home/astronomer")
    given = environment(1)
    assert "MALLOC_TRIM_THRESHOLD_" not in given
    assert given["HOME"] == "/home/astronomer"
