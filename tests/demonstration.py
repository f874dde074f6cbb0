"""The command of the README's first lines, for tests that look at what it leaves."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def demo(work: Path) -> subprocess.CompletedProcess[str]:
    """``acs-batch demo`` with a relative work directory, as by default."""
    return subprocess.run(
        [sys.executable, "-m", "batch.cli", "demo", "--work", work.name],
        cwd=work.parent,
        env={k: v for k, v in os.environ.items() if not k.startswith("CRDS_")},
        capture_output=True,
        text=True,
        check=False,
        timeout=800,
    )
