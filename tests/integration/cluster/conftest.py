"""The toy pipeline on clusters of other kinds than this machine's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from beside import load

_runtime = load(Path(__file__).parents[1] / "runtime" / "conftest.py")
toys, toy_control = _runtime.toys, _runtime.toy_control

TEXT = {".json", ".log", ".out", ".err", ".txt", ".html", ".sh", ""}


@pytest.fixture
def no_secrets() -> object:
    """Asserts that no line of a private key stands in any file of a folder."""

    def check(folder: Path, key: str) -> int:
        lines = [line for line in key.splitlines() if len(line) > 30 and "KEY" not in line]
        assert lines
        seen = 0
        for path in folder.rglob("*"):
            if path.is_file():
                content = path.read_bytes()
                seen += 1
                assert b"PRIVATE KEY" not in content, path
                assert not any(line.encode() in content for line in lines), path
        return seen

    return check


@pytest.fixture
def quiet_dask() -> Iterator[None]:
    """A lost worker is given up at once."""
    import dask

    with dask.config.set({"distributed.deploy.lost-worker-timeout": "1s"}):
        yield
