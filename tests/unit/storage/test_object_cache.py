"""Products of an object store on this machine: fetched once, whole, within bounds."""

from __future__ import annotations

import hashlib
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from batch.errors import StorageError
from batch.model.observation import Product
from batch.storage.objects.cache import Cache


def item(text: str) -> Product:
    return Product("text", "a.txt", len(text), hashlib.sha256(text.encode()).hexdigest())


class Source:
    """Where files come from; slowly, as a network does."""

    def __init__(self, text: str) -> None:
        self.text, self.calls = text, 0

    def __call__(self, path: Path) -> None:
        self.calls += 1
        with path.open("w") as stream:
            for letter in self.text:
                stream.write(letter)
                stream.flush()
                time.sleep(0.002)


def test_many_ask_at_once_and_it_comes_once(tmp_path: Path) -> None:
    source, texts = Source("pixels" * 10), []

    def ask(number: int) -> None:
        target = tmp_path / f"task{number}" / "a.txt"
        Cache(tmp_path / "cache", 10**6).provide(item(source.text), target, source)
        texts.append(target.read_text())

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(ask, range(16)))
    assert source.calls == 1
    assert texts == [source.text] * 16


def test_what_was_used_last_stays(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", 25)
    sources = {name: Source(name * 10) for name in "abc"}

    def use(name: str) -> None:
        target = tmp_path / "task" / f"{name}{time.monotonic_ns()}"
        cache.provide(item(sources[name].text), target, sources[name])
        target.unlink()
        time.sleep(0.01)
        cache.trim()

    for name in "abac":
        use(name)
    assert {n: s.calls for n, s in sources.items()} == {"a": 1, "b": 1, "c": 1}
    use("a")
    use("b")
    assert {n: s.calls for n, s in sources.items()} == {"a": 1, "b": 2, "c": 1}


def test_what_a_task_uses_is_whole_for_it_whatever_is_evicted(tmp_path: Path) -> None:
    cache, source = Cache(tmp_path / "cache", 0), Source("pixels")
    target = tmp_path / "task" / "a.txt"
    cache.provide(item("pixels"), target, source)
    cache.trim()
    assert cache.clear() == 6
    assert target.read_text() == "pixels"
    assert target.stat().st_mode & 0o222 == 0


def test_a_file_that_a_crash_cut_short_is_fetched_again(tmp_path: Path) -> None:
    cache, source = Cache(tmp_path / "cache", 100), Source("pixels")
    cache.provide(item("pixels"), tmp_path / "one" / "a.txt", source)
    (tmp_path / "one" / "a.txt").unlink()
    (kept,) = [p for p in (tmp_path / "cache" / "files").rglob("*") if p.is_file()]
    kept.chmod(0o644)
    os.truncate(kept, 3)
    cache.provide(item("pixels"), tmp_path / "two" / "a.txt", source)
    assert (tmp_path / "two" / "a.txt").read_text() == "pixels"
    assert source.calls == 2


def test_what_could_not_be_fetched_is_not_kept(tmp_path: Path) -> None:
    def broken(path: Path) -> None:
        path.write_text("pix")
        raise StorageError("the connection broke")

    cache = Cache(tmp_path / "cache", 100)
    with pytest.raises(StorageError):
        cache.provide(item("pixels"), tmp_path / "one" / "a.txt", broken)
    assert not (tmp_path / "one" / "a.txt").exists()
    source = Source("pixels")
    cache.provide(item("pixels"), tmp_path / "one" / "a.txt", source)
    assert source.calls == 1
