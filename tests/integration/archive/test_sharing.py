"""One cache and one limit for all processes of a machine; and a token that shows nowhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import mast_server
import pytest
from command import acs_batch
from mast_server import Fault, Server

from batch.config import Settings

TOKEN = "0123456789abcdef-this-is-secret"
ROOTS = ("j9l960a7q", "j9l960a9q", "j9l960abq")
Make = Callable[..., Settings]

FETCHER = """
import json, random, sys
from pathlib import Path
from batch.archive import sources
from batch.archive.transfer import Order
from batch.config.archive import FetchSettings

fetch = FetchSettings.model_validate(json.loads(sys.argv[1]))
sys.stdin.readline()
files = json.loads(sys.argv[2])
random.shuffle(files)
for name, size in files:
    order = Order(f"mast:HST/product/{name}", name, size)
    path = sources.cache(fetch).obtain(sources.transport(fetch), order, "v1")
    assert path.stat().st_size == size
"""


def _fetchers(count: int, fetch: str, files: list[tuple[str, int]]) -> list[subprocess.Popen[str]]:
    argv = [sys.executable, "-c", FETCHER, fetch, json.dumps(files)]
    return [
        subprocess.Popen(argv, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(count)
    ]


def _all_end_well(processes: list[subprocess.Popen[str]]) -> None:
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors


@pytest.mark.slow
def test_many_processes_one_download_each_and_no_more_than_the_limit(
    mast: Server, visit: Path, settings: Make
) -> None:
    """Eight processes ask for the same six files; two may download at a time."""
    mast.slow = 0.2
    names = [f"{root}_{kind}.fits" for root in ROOTS for kind in ("raw", "spt")]
    files = [(name, (visit / name).stat().st_size) for name in names]
    fetch = settings("mast", mast, "fetch.connections=2", "fetch.deadline=60").fetch
    _all_end_well(_fetchers(8, fetch.model_dump_json(), files))
    assert mast_server.counts(mast) == dict.fromkeys(names, 1)
    assert mast.together == 2


@pytest.mark.slow
def test_a_process_that_is_killed_holds_nobody_up(mast: Server, visit: Path, settings: Make) -> None:
    mast.faults = [Fault("silence", "*j9l960a7q_raw.fits")]
    name = "j9l960a7q_raw.fits"
    files = [(name, (visit / name).stat().st_size)]
    fetch = settings("mast", mast, "fetch.connections=1", "fetch.silence=60", "fetch.deadline=60").fetch
    (victim,) = _fetchers(1, fetch.model_dump_json(), files)
    assert victim.stdin is not None
    victim.stdin.write("\n")
    victim.stdin.flush()
    waiting = threading.Event()
    while not mast.asked("*Download*"):
        assert not waiting.wait(0.05)
    victim.kill()
    victim.communicate()
    _all_end_well(_fetchers(2, fetch.model_dump_json(), files))
    assert mast_server.counts(mast)[name] == 2


@pytest.mark.slow
@pytest.mark.parametrize("fails", [False, True])
def test_the_token_shows_nowhere(fails: bool, visit: Path, tmp_path: Path, shared: Path) -> None:
    """A run that uses it, to the end and to failures: output, work directory, cache, command lines."""
    restricted = ("j9l960a9q_*",)
    with mast_server.serve(visit, token=TOKEN + "x" * fails, restricted=restricted) as server:
        mine, seen = _run(server, tmp_path, shared)
        used = [headers for _, path, headers in server.log if headers.get("Authorization")]
    assert used, "the token was not used"
    assert used[0]["Authorization"] == f"token {TOKEN}"
    assert mine.returncode == (3 if fails else 0), mine.stdout + mine.stderr
    if fails:
        assert "the token is not valid for it or has expired" in mine.stdout + mine.stderr
    shown = {"output": mine.stdout + mine.stderr, "command lines": "\n".join(seen)}
    for verb in ("status", "report", "plan"):
        shown[verb] = _acs_batch(verb, server, tmp_path, shared)
    files = [p for p in tmp_path.rglob("*") if p.is_file() and visit not in p.parents]
    assert any(p.name == "plan.json" for p in files)
    assert any(p.name == "task.log" for p in files)
    assert any(p.name == "record.json" for p in files)
    assert any(p.name == "index.html" for p in files)
    assert seen
    for where, text in shown.items():
        assert TOKEN not in text, where
    for path in files:
        assert TOKEN.encode() not in path.read_bytes(), path


def _arguments(verb: str, server: Server, folder: Path, shared: Path) -> list[str]:
    arguments = [verb, "--work", str(folder / "work")]
    if verb in ("status", "report"):
        return arguments
    arguments += ["j9l960010", "--until", "fetch", "--crds-cache", str(shared / "data/crds_cache")]
    changes = ["first_wait=0.05", "silence=5", "deadline=20"]
    changes += [f"server={server.url}", f"cache={folder / 'cache'}"]
    return [*arguments, *(word for c in changes for word in ("--set", f"fetch.{c}"))]


def _environment() -> dict[str, str]:
    return {**os.environ, "MAST_API_TOKEN": TOKEN}


def _acs_batch(verb: str, server: Server, folder: Path, shared: Path) -> str:
    done = acs_batch(*_arguments(verb, server, folder, shared), environment=_environment(), timeout=120)
    return done.stdout + done.stderr


def _run(server: Server, folder: Path, shared: Path) -> tuple[subprocess.CompletedProcess[str], set[str]]:
    """A run, and the command lines of all its processes meanwhile."""
    import psutil

    argv = [sys.executable, "-m", "batch.cli", *_arguments("run", server, folder, shared), "--workers", "1"]
    seen: set[str] = set()
    over = threading.Event()

    def watch(process: psutil.Process) -> None:
        while not over.wait(0.02):
            try:
                family = [process, *process.children(recursive=True)]
            except psutil.Error:
                continue
            for member in family:
                try:
                    seen.add(" ".join(member.cmdline()))
                except psutil.Error:
                    continue

    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=_environment()
    ) as process:
        watcher = threading.Thread(target=watch, args=(psutil.Process(process.pid),), daemon=True)
        watcher.start()
        output, errors = process.communicate(timeout=180)
        over.set()
        watcher.join()
    return subprocess.CompletedProcess(argv, process.returncode, output, errors), seen
