"""The image, built once for all tests, and a simulated visit that containers can read."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pods import ROOT, podman, recipe

from batch.runtime import security

REPOSITORY = "localhost/acs-batch-test"
TOKEN = "0f1e2d3c-this-is-secret-b4a59687"
KEEP = "ACS_BATCH_KEEP_IMAGE"
"""Set it to keep the image between sessions; it is built anew when anything that goes into it changes."""
BASE = "ACS_BATCH_BASE_IMAGE"
"""A base image; without it mmdebstrap makes one, or else that of the Containerfile is fetched."""


@pytest.fixture(scope="session")
def token() -> str:
    """A secret that is in the environment of the build and of every container, and nowhere else."""
    return TOKEN


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The image, as ``containers/build.py`` makes it."""
    if shutil.which("podman") is None:
        pytest.skip("podman is not installed")
    known = subprocess.run(["podman", "info"], capture_output=True, text=True, check=False)
    if known.returncode:
        pytest.skip(f"podman cannot be used here: {known.stderr.strip()[-200:]}")
    base = recipe("build").BOOTSTRAPPED
    had_base = _exists(base)
    name = f"{REPOSITORY}:{_content()}"
    if not _exists(name):
        # of other contents, and large
        for old in podman("images", "--quiet", REPOSITORY).split():
            podman("rmi", old, check=False)
        _build(name, tmp_path_factory.mktemp("wheels"), base if had_base else None)
    yield name
    if KEEP not in os.environ:
        podman("rmi", name)
        if not had_base:
            podman("rmi", base, check=False)


def _exists(name: str) -> bool:
    return subprocess.run(["podman", "image", "exists", name], check=False).returncode == 0


def _build(name: str, wheels: Path, base: str | None) -> None:
    command = [sys.executable, str(ROOT / "containers/build.py"), "--tag", name, "--wheels", str(wheels)]
    base = os.environ.get(BASE) or base
    if base:
        command += ["--base", base]
    elif os.geteuid() == 0 and shutil.which("mmdebstrap"):
        command += ["--bootstrap"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=800,
        env={**os.environ, "MAST_API_TOKEN": TOKEN},
    )
    shutil.rmtree(wheels)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    assert TOKEN not in done.stdout + done.stderr


def _content() -> str:
    """Of everything that goes into the image."""
    recipes = ("Containerfile", "build.py", "finish.py", "health.py", "requirements.txt")
    sources = [*(ROOT / "batch").rglob("*.py"), *(ROOT / "containers" / name for name in recipes)]
    digest = hashlib.sha256(os.environ.get(BASE, "").encode())
    for path in sorted([*sources, ROOT / "pyproject.toml"]):
        digest.update(str(path.relative_to(ROOT)).encode() + path.read_bytes())
    return digest.hexdigest()[:16]


@pytest.fixture(scope="session")
def visit(finished: tuple[Path, str]) -> Path:
    """The demo's simulated visit."""
    return finished[0] / "simulated"


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    """TLS certificates that the user of the containers may read."""
    folder = security.write(security.issue(), tmp_path / "tls").key.parent
    return give(folder)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A work directory that containers write."""
    folder = tmp_path / "work"
    folder.mkdir()
    return give(folder)


def give(folder: Path) -> Path:
    """Let the user of the containers own a folder; where this is not root, that is the same user."""
    if os.geteuid() == 0:
        for path in (folder, *folder.iterdir()):
            os.chown(path, 1000, 1000)
    return folder
