"""What only a program that is started anew can do (see `test_isolated` for the rest)."""

from __future__ import annotations

from pathlib import Path

from batch.isolation import child


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    ending = child.run(["/nowhere/calacs.e"], cwd=tmp_path, log=tmp_path / "log", timeout=5)
    assert ending.exit_status == 127
    assert "cannot start /nowhere/calacs.e" in (tmp_path / "log").read_text()


def test_without_an_environment_it_has_ours(tmp_path: Path) -> None:
    child.run(["/usr/bin/env"], cwd=tmp_path, log=tmp_path / "log", timeout=5)
    assert "PYTEST_CURRENT_TEST=" in (tmp_path / "log").read_text()
