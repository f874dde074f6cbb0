"""What goes wrong between a CRDS server and a cache ends well after a retry, or in one clear message."""

from __future__ import annotations

import copy
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from crds_server import CrdsServer

from batch.config.calibration import ReferencesSettings
from batch.errors import (
    BatchError,
    DamagedReferenceError,
    MissingReferenceError,
    NetworkError,
    StorageError,
    UsageError,
)
from batch.references import bestrefs, context, obtain
from batch.references.bestrefs import Resolution
from batch.references.catalog import FileInfo
from batch.references.checked import Index, verify
from batch.references.download import Patience
from batch.references.location import Cache
from batch.references.service import Service
from batch.references.sync import Synced, sync

A, B = "f00000000j_drk.fits", "f00000001j_drk.fits"


def begin_part(cache: Cache, name: str, content: bytes) -> None:
    """An earlier, broken download."""
    (cache.own / "partial").mkdir(parents=True)
    (cache.own / "partial" / name).write_bytes(content)


def full_disk(cache: Cache) -> None:
    (cache.own / "partial").mkdir(parents=True)
    (cache.own / "partial" / A).symlink_to("/dev/full")


def file_in_the_way(cache: Cache) -> None:
    cache.own.write_text("not a folder")


def half(server: CrdsServer, name: str = A) -> bytes:
    content = server.files[name].read_bytes()
    return content[: len(content) // 2]


@dataclass(frozen=True)
class Fault:
    """One row: what is done, how it ends, and what mends it before the second try."""

    name: str
    break_it: Callable[[CrdsServer, Cache], object]
    error: type[BatchError] | None = None
    message: str = ""
    mend: Callable[[CrdsServer, Cache], object] = lambda server, cache: None
    asks: bool = False
    """Through the crds client, whose start takes a second; the others are given the catalogue."""
    downloads: int = 1
    """Requests for the first byte of the file, over both tries."""


def catalog(server: CrdsServer, names: Sequence[str]) -> dict[str, FileInfo]:
    """What the crds client would say of files."""
    known = {n: server.info(n) for n in names if n in server.files}
    return {n: FileInfo(int(i["size"]), i["sha1sum"], f"{server.url}/{n}") for n, i in known.items()}


def _set(**faults: object) -> Callable[[CrdsServer, Cache], None]:
    def apply(server: CrdsServer, cache: Cache) -> None:
        for key, value in faults.items():
            setattr(server.faults, key, copy.deepcopy(value))

    return apply


FAULTS = (
    Fault("one 500 for a file", _set(status={A: [500]}), downloads=2),
    Fault("503 and 429", _set(status={A: [503, 429]}), downloads=3),
    Fault("500 without end", _set(status={A: [500] * 3}), NetworkError, "HTTP status 500", downloads=4),
    Fault("404 of a file in the catalogue", _set(absent={A}), mend=_set(absent=set()), downloads=2),
    Fault("one silence", _set(silent={A: 1}, silence=1.5), downloads=2),
    Fault("cut in the middle, goes on", _set(cut={A: [70_000]})),
    Fault("cut time and again", _set(cut={A: [30_000] * 5})),
    Fault("cut, and no ranges", _set(cut={A: [70_000]}, ranges=False), downloads=2),
    Fault("nothing at all, thrice", _set(cut={A: [0] * 3}), NetworkError, "0 of 200000 bytes", downloads=4),
    Fault("a wrong byte", _set(damaged={A: 1}), DamagedReferenceError, "sha1", downloads=2),
    Fault("500 to a question", _set(status={"get_file_info_map": [500]}), asks=True),
    Fault(
        "server down for questions",
        _set(status={"get_file_info_map": [502] * 2}),
        NetworkError,
        "localhost",
        asks=True,
    ),
    Fault(
        "a question unanswered",
        _set(silent={"get_file_info_map": 2}, silence=3.0),
        NetworkError,
        "timed out",
        asks=True,
    ),
    Fault(
        "a proxy's page", _set(nonsense={"get_file_info_map": 1}), NetworkError, "not as CRDS does", asks=True
    ),
    Fault("half a file from before", lambda s, c: begin_part(c, A, half(s)), downloads=0),
    Fault("half a file of another time", lambda s, c: begin_part(c, A, b"x" * 100_000), downloads=1),
    Fault("more than a file from before", lambda s, c: begin_part(c, A, b"x" * 300_000), downloads=1),
    Fault(
        "disk full",
        lambda s, c: full_disk(c),
        StorageError,
        "No space left",
        lambda s, c: (c.own / "partial" / A).unlink(),
        downloads=2,
    ),
    Fault(
        "a file where the folder should be",
        lambda s, c: file_in_the_way(c),
        StorageError,
        "cannot be put into the CRDS cache",
        lambda s, c: c.own.unlink(),
    ),
)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.name)
def test_a_fault_ends_well_or_in_one_message_and_can_be_gone_on_from(
    fault: Fault, server: CrdsServer, cache: Cache, service: Service, patience: Patience
) -> None:
    def fetch() -> Synced:
        ask = service.files if fault.asks else partial(catalog, server)
        return sync(cache, [A, B], ask, patience=patience)

    fault.break_it(server, cache)
    if fault.error is not None:
        with pytest.raises(fault.error, match=fault.message) as caught:
            fetch()
        assert "\n" not in caught.value.message
        assert cache.find(A) is None
    else:
        fetch()
    fault.mend(server, cache)
    fetch()
    for name in (A, B):
        path = cache.find(name)
        assert path is not None
        assert path.read_bytes() == server.files[name].read_bytes()
    assert server.downloads[A] == fault.downloads
    assert server.downloads[B] <= 1
    assert not list((cache.own / "partial").iterdir())


def test_a_server_that_is_not_there(server: CrdsServer, cache: Cache) -> None:
    nowhere = Service(cache, "http://localhost:1", timeout=2, attempts=2, pause=0)
    with pytest.raises(NetworkError, match=r"refused.*without --sync"):
        sync(cache, [A], nowhere.files)


def test_what_the_server_does_not_have_is_missing_with_the_reason(
    server: CrdsServer, cache: Cache, service: Service, patience: Patience
) -> None:
    server.faults.absent = {A}
    done = sync(cache, [A, B, "unknown_drk.fits"], service.files, patience=patience)
    assert done.fetched == (B,)
    assert done.unknown["unknown_drk.fits"] == "CRDS does not know it"
    assert "HTTP status 404 from localhost" in done.unknown[A]
    found = Resolution({}, {}, {"DARKFILE": A})
    error = bestrefs.missing_error({"j00000000": found}, done.unknown)
    assert isinstance(error, MissingReferenceError)
    assert f"{A} (DARKFILE; j00000000): {A}: HTTP status 404 from localhost" in error.message


def test_an_unknown_context(server: CrdsServer, cache: Cache) -> None:
    settings = ReferencesSettings(
        cache=cache.root, sync="missing", server=server.url, context="hst_9999.pmap"
    )
    with pytest.raises(UsageError, match=r"does not know context hst_9999\.pmap"):
        context.pin(settings, {})


def test_an_address_with_a_password_is_refused_without_showing_it(cache: Cache) -> None:
    settings = ReferencesSettings(cache=cache.root, sync="missing")
    with pytest.raises(UsageError, match=r"CRDS_SERVER_URL: .*password") as caught:
        context.pin(settings, {"CRDS_SERVER_URL": "https://me:hidden@crds.org"})
    assert "hidden" not in caught.value.message


def test_a_name_from_the_server_cannot_lead_out_of_the_cache(cache: Cache, patience: Patience) -> None:
    with pytest.raises(BatchError, match="cannot be a file name"):
        sync(cache, ["../../x.fits"], lambda n: {"../../x.fits": FileInfo(1, "")}, patience=patience)
    assert not (cache.root.parent.parent / "x.fits").exists()


def test_a_cache_that_may_not_be_written_to(server: CrdsServer, cache: Cache, tmp_path: Path) -> None:
    """What is in it is used; what is not is asked of someone who may write."""
    if os.getuid() == 0:
        # root may write everywhere: another user tries
        for folder in (tmp_path, *tmp_path.parents):
            if folder.stat().st_uid == 0 and folder != Path("/"):
                folder.chmod(folder.stat().st_mode | 0o055)
    cache.root.chmod(0o555)
    code = (
        "import os, sys; from pathlib import Path; from batch.references.location import Cache\n"
        "from batch.references.sync import sync\n"
        "from batch.errors import StorageError\n"
        "if os.getuid() == 0: os.setuid(65534)\n"
        "try: sync(Cache(Path(sys.argv[1])), ['a.fits'], lambda names: {})\n"
        "except StorageError as error: print(error.message)\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, str(cache.root)], capture_output=True, text=True, check=False
    )
    assert "Permission denied: a.fits cannot be put into the CRDS cache" in done.stdout, done.stderr


def write(cache: Cache, name: str, content: bytes) -> Path:
    path = cache.place(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def entry(content: bytes) -> FileInfo:
    return FileInfo(len(content), hashlib.sha1(content, usedforsecurity=False).hexdigest())


def test_a_file_in_the_cache_is_hashed_once(cache: Cache) -> None:
    path = write(cache, A, b"whole")
    index = Index.of(cache, cache.own)
    assert verify({A: path}, {A: entry(b"whole")}, index) == ((A,), ())
    # another sum in the catalogue is not even looked at: the file has not changed since
    assert verify({A: path}, {A: entry(b"other")}, index) == ((A,), ())
    path.write_bytes(b"wrong")
    with pytest.raises(DamagedReferenceError, match="sha1"):
        verify({A: path}, {A: entry(b"whole")}, index)


def test_a_short_file_in_the_cache_is_named_with_the_remedy(cache: Cache) -> None:
    path = write(cache, A, b"who")
    with pytest.raises(DamagedReferenceError, match=r"3 bytes, 5 in CRDS\nThese.*--sync") as caught:
        verify({A: path}, {A: entry(b"whole")}, Index.of(cache, cache.own))
    assert str(path) in caught.value.message


def test_offline_without_a_catalogue_files_are_unverified(cache: Cache) -> None:
    path = write(cache, A, b"whole")
    found = Resolution({"DARKFILE": f"jref${A}"}, {A: str(path)})
    state = obtain.examine([found], ReferencesSettings(cache=cache.root), {})
    assert (state.verified, state.unverified) == ((), (A,))


@pytest.mark.parametrize(
    "content", ["", "{'download_metadata': {'crds_payload': 'AAAA'}}", "[1]", "import os"]
)
def test_a_damaged_catalogue_is_as_good_as_none(cache: Cache, content: str) -> None:
    cache.config.mkdir(parents=True)
    (cache.config / "server_config").write_text(content)
    path = write(cache, A, b"whole")
    state = obtain.examine([Resolution({}, {A: str(path)})], ReferencesSettings(cache=cache.root), {})
    assert state.unverified == (A,)


def test_an_index_that_was_cut_short_is_begun_anew(cache: Cache) -> None:
    path = write(cache, A, b"whole")
    index = Index.of(cache, cache.own)
    index.path.parent.mkdir(exist_ok=True)
    index.path.write_text('{"path": "/a", "si\n[1]\n')
    assert verify({A: path}, {A: entry(b"whole")}, index) == ((A,), ())
    assert set(index.read()) == {str(path)}


def test_the_real_catalogue_knows_the_real_mappings(shared: Path, tmp_path: Path) -> None:
    """Of the cache that the public server filled: every mapping has the sum that the catalogue gives."""
    from batch.references.catalog import read_catalog

    cache = Cache(shared / "data/crds_cache")
    catalog = read_catalog(cache)
    paths = {p.name: p for p in cache.mappings.iterdir()}
    known = {n: p for n, p in paths.items() if n in catalog.files}
    verified, _ = verify(known, catalog.files, Index(tmp_path / "checked.jsonl"))
    assert "hst_0729.pmap" in verified
    assert len(verified) == len(paths)
    assert "2018_super_bia.fits" in catalog.bad
