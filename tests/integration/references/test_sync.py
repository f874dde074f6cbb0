"""Files into the cache: each once, whole, whoever asks."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from crds_server import CrdsServer

from batch.references.checked import Index
from batch.references.download import Patience
from batch.references.location import Cache
from batch.references.service import Service
from batch.references.sync import sync

ASK = """
import hashlib, json, sys
from pathlib import Path
from batch.references.location import Cache
from batch.references.service import Service
from batch.references.sync import sync
cache, names = Cache(Path(sys.argv[1])), sys.argv[3:]
done = sync(cache, names, Service(cache, sys.argv[2]).files)
sums = {n: hashlib.sha1(cache.find(n).read_bytes()).hexdigest() for n in names}
print(json.dumps([sums, done.fetched]))
"""


def sha1(path: Path) -> str:
    return hashlib.sha1(path.read_bytes(), usedforsecurity=False).hexdigest()


@pytest.mark.slow
def test_sixty_four_processes_download_each_file_once_and_see_none_half_written(
    server: CrdsServer, cache: Cache
) -> None:
    """The server is slow, so that all of them are there before the first file is."""
    server.delay, server.piece = 0.15, 50_000
    names = sorted(server.files)
    truth = {name: sha1(path) for name, path in server.files.items()}
    half_written: set[str] = set()
    over = threading.Event()

    def watch() -> None:
        seen: set[Path] = set()
        while not over.is_set():
            for path in set((cache.root / "references").rglob("*.fits")) - seen:
                if sha1(path) != truth[path.name]:
                    half_written.add(path.name)
                seen.add(path)
            time.sleep(0.002)

    watcher = threading.Thread(target=watch)
    watcher.start()
    argv = [sys.executable, "-P", "-c", ASK, str(cache.root), server.url, *names]
    running = [
        subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(64)
    ]
    answers = [process.communicate(timeout=100) for process in running]
    over.set()
    watcher.join()
    assert [p.returncode for p in running] == [0] * 64, [e for _, e in answers if e][:1]
    assert server.downloads == dict.fromkeys(names, 1)
    assert not server.continued
    assert not half_written
    results = [json.loads(out) for out, _ in answers]
    assert all(sums == truth for sums, _ in results)
    assert sorted(len(fetched) for _, fetched in results) == [0] * 63 + [20]


def test_files_come_read_only_and_are_known_as_checked(
    server: CrdsServer, cache: Cache, service: Service, patience: Patience
) -> None:
    names = sorted(server.files)[:3]
    assert sync(cache, names, service.files, patience=patience).fetched == tuple(names)
    paths = [cache.find(name) for name in names]
    assert [path and path.stat().st_mode & 0o777 for path in paths] == [0o444] * 3
    assert set(Index.of(cache, cache.own).read()) == {str(path) for path in paths}
    assert not list((cache.own / "partial").iterdir())


def test_what_is_there_is_not_asked_for(server: CrdsServer, cache: Cache, service: Service) -> None:
    sync(cache, sorted(server.files)[:1], service.files)
    server.calls.clear()
    assert sync(cache, sorted(server.files)[:1], service.files).fetched == ()
    assert not server.calls


def test_a_new_cache_is_laid_out_as_crds_does(server: CrdsServer, cache: Cache, service: Service) -> None:
    name = sorted(server.files)[0]
    sync(cache, [name], service.files)
    assert cache.find(name) == cache.root / "references" / "hst" / "acs" / name


def test_a_flat_cache_stays_flat(server: CrdsServer, cache: Cache, service: Service) -> None:
    cache.config.mkdir(parents=True)
    (cache.config / "ref_cache_subdir_mode").write_text("flat\n")
    name = sorted(server.files)[0]
    sync(cache, [name], service.files)
    assert cache.find(name) == cache.root / "references" / "hst" / name
