"""Kernels are compiled once, by one process, and found by all others."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from batch import compile as kernels

ROOT = Path(__file__).resolve().parents[3]

MODULE = """
import sys
import numpy as np
from batch.compile import inner, kernel

@inner
def twice(x):
    return {factor} * x

@kernel("float64(float64[::1])")
def total(values):
    result = 0.0
    for v in values:
        result += twice(v)
    return result

@kernel("float64(float64, float64)")
def ratio(a, b):
    return a / b

if __name__ == "__main__":
    for function in (total, ratio):
        print(sum(function.stats.cache_hits.values()), sum(function.stats.cache_misses.values()))
    print(total(np.ones(4)), ratio(1.0, 0.0))
"""


def write(folder: Path, factor: float = 2.0) -> Path:
    path = folder / "made_kernels.py"
    path.write_text(MODULE.format(factor=factor))
    return path


def start(path: Path, cache: object) -> subprocess.Popen[str]:
    env = {
        "PYTHONPATH": f"{ROOT}:{path.parent}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "NUMBA_CACHE_DIR": str(cache),
        "PATH": "",
        "HOME": str(path.parent),
    }
    command = [sys.executable, str(path)]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> tuple[list[list[int]], str, str]:
    """(hits, misses) by kernel, the results, what was logged."""
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    *stats, results = out.splitlines()
    return [[int(n) for n in line.split()] for line in stats], results, err


def test_of_processes_that_start_together_one_compiles(tmp_path: Path) -> None:
    path, cache = write(tmp_path), tmp_path / "cache"
    answers = [finish(p) for p in [start(path, cache) for _ in range(4)]]
    assert {results for _, results, _ in answers} == {"8.0 inf"}
    for index in range(2):
        assert sorted(stats[index] for stats, _, _ in answers) == [[0, 1], [1, 0], [1, 0], [1, 0]]
    # nothing is left that another process could stumble over
    assert not list(cache.rglob("*.tmp.*"))


def test_a_changed_module_is_compiled_anew(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    assert finish(start(write(tmp_path), cache))[1] == "8.0 inf"
    assert finish(start(write(tmp_path, 3.0), cache))[1] == "12.0 inf"
    stats, results, _ = finish(start(write(tmp_path), cache))
    assert (stats, results) == ([[1, 0], [1, 0]], "8.0 inf")


def test_a_change_of_a_used_module_is_noticed(tmp_path: Path) -> None:
    used = tmp_path / "made_used.py"
    path = tmp_path / "made_kernels.py"
    path.write_text(
        "import made_used\nfrom batch.compile import kernel\n"
        '@kernel("float64(float64)", uses=(made_used,))\ndef double(x):\n    return made_used.twice(x)\n'
        "print(double(4.0))\n"
    )
    for factor, result in ((2.0, "8.0"), (3.0, "12.0")):
        used.write_text(f"from batch.compile import inner\n@inner\ndef twice(x):\n    return {factor} * x\n")
        assert finish(start(path, tmp_path / "cache"))[1] == result


def test_without_a_place_for_the_cache_kernels_still_work(tmp_path: Path) -> None:
    blocked = tmp_path / "a_file"
    blocked.write_text("")
    _, results, log = finish(start(write(tmp_path), blocked))
    assert results == "8.0 inf"
    assert "NUMBA_CACHE_DIR" in log


def test_a_cache_that_cannot_be_written_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container image: the folder is complete, but belongs to the image."""
    path, cache = write(tmp_path), tmp_path / "cache"
    finish(start(path, cache))
    (folder,) = cache.iterdir()
    before = {f: f.stat().st_mtime_ns for f in folder.rglob("*")}

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("read-only")

    monkeypatch.setattr(kernels.FileLock, "acquire", refuse)
    monkeypatch.setattr(kernels, "cache_folder", lambda *_: folder)
    names: dict[str, object] = {"__name__": "made_kernels"}
    exec(compile(path.read_text(), str(path), "exec"), names)  # noqa: S102
    for name in ("total", "ratio"):
        stats = names[name].stats  # type: ignore[attr-defined]
        assert sum(stats.cache_hits.values()) == 1
    assert {f: f.stat().st_mtime_ns for f in folder.rglob("*")} == before


def test_other_types_are_refused_rather_than_compiled() -> None:
    from batch.calibration.cte_smooth import smooth_step

    started = time.process_time()
    with pytest.raises(TypeError):
        smooth_step(1, 2)
    assert time.process_time() - started < 1
    assert len(smooth_step.signatures) == 1
