"""What several folders of tests look at."""

from __future__ import annotations

from pathlib import Path

import pytest
from demonstration import demo


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A finished demo on this machine, work directory and output; only to be looked at."""
    work = tmp_path_factory.mktemp("demo")
    done = demo(work)
    assert done.returncode == 0, done.stdout + done.stderr
    return work, done.stdout
