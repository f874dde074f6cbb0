"""Faults of MAST, of mirrors, of association tables and of what lies on disk.

Each ends in success after new attempts, or in one clear message and a state from which the next run goes on:
the second run of every row meets no fault, and must end with the right files.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mast_server
import pytest
from astropy.io import fits
from beside import load
from mast_server import Fault, Server

from batch.config import Settings
from batch.errors import BatchError, InputError, NetworkError, StorageError, UnsafeNameError

stage = load(Path(__file__).with_name("stage.py"))
ROOT, NAME = "j9l960a7q", "j9l960a7q_raw.fits"
RAW, HEAD, REST = f"*{NAME}", f"*{NAME} bytes=0-*", f"*{NAME} bytes=[1-9]*"
SPT, ASN = "*a7q_spt.fits", "*_asn.fits"
ALWAYS = 1000
Make = Callable[..., Settings]


@dataclass(frozen=True)
class Row:
    """A fault and how a run must end that meets it."""

    name: str
    faults: tuple[Fault, ...]
    error: type[BatchError] | None = None
    """None: success."""
    message: str = ""
    changes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name


FOREVER = ("fetch.deadline=2",)
ROWS = [
    # the search
    Row("search: two 500", (Fault("500", "*invoke*", 2),)),
    Row("search: 503, asked to wait", (Fault("retry after", "*invoke*"),)),
    Row("search: 429", (Fault("429", "*invoke*"),)),
    Row("search: no answer", (Fault("silence", "*invoke*"),)),
    Row("search: connection closed", (Fault("drop", "*invoke*"),)),
    Row("search: a page for people", (Fault("html", "*invoke*"),)),
    Row("search: half an answer", (Fault("half", "*invoke*"),)),
    Row("search: status ERROR", (Fault("error", "*invoke*"),)),
    Row("search: still executing", (Fault("executing", "*invoke*", 2),)),
    Row("search: columns 502", (Fault("502", "*columnsconfig*"),)),
    Row("search: list of files fails", (Fault("500", "*invoke*", 1, skip=1),)),
    Row("search: 500 for ever", (Fault("500", "*invoke*", ALWAYS),), NetworkError, "status 500 (", FOREVER),
    Row(
        "search: refused", (Fault("403", "*invoke*", ALWAYS),), NetworkError, "status 403; check fetch.server"
    ),
    # headers
    Row("head: 500", (Fault("500", HEAD),)),
    Row("head: no answer", (Fault("silence", HEAD),)),
    Row("head: cut off", (Fault("cut", HEAD),)),
    Row("head: no ranges", (Fault("no ranges", HEAD),)),
    # the file
    Row("file: two 500", (Fault("500", RAW, 2),)),
    Row("file: 503, asked to wait", (Fault("retry after", RAW),)),
    Row("file: no answer", (Fault("silence", RAW),)),
    Row("file: connection closed", (Fault("drop", RAW),)),
    Row("file: cut off", (Fault("cut", RAW),)),
    Row("file: cut off, and its rest", (Fault("cut", RAW), Fault("cut", REST, 3))),
    Row("file: cut off, no ranges then", (Fault("cut", RAW), Fault("no ranges", REST))),
    Row("file: cut off, no validator", (Fault("no validator", RAW), Fault("cut", RAW), Fault("cut", RAW))),
    Row("file: cut off, rest with wrong bits", (Fault("cut", RAW), Fault("bits", REST))),
    Row("file: announced too long", (Fault("long", RAW),)),
    Row("file: announced too short", (Fault("short", RAW),)),
    Row("file: no length announced", (Fault("no length", RAW),)),
    Row("file: wrong bits", (Fault("bits", RAW),)),
    Row(
        "file: wrong bits for ever",
        (Fault("bits", RAW, ALWAYS),),
        InputError,
        "wrong DATASUM in HDU 1, 3 times",
    ),
    Row("file: gone since the plan", (Fault("404", RAW, ALWAYS),), InputError, "MAST has no such file"),
    Row("file: 500 for ever", (Fault("500", RAW, ALWAYS),), NetworkError, "run again to go on", FOREVER),
    Row("file: silence for ever", (Fault("silence", RAW, ALWAYS),), NetworkError, "said nothing", FOREVER),
    Row(
        "file: cut off for ever",
        (Fault("cut", f"*{NAME}*", ALWAYS, skip=1),),
        NetworkError,
        "broke off",
        FOREVER,
    ),
    # what comes with it
    Row("support file: 500", (Fault("500", SPT),)),
    Row("support file: wrong bits", (Fault("bits", SPT),)),
    Row("table: cut off", (Fault("cut", ASN),)),
    Row("table: wrong bits", (Fault("bits", ASN),)),
    Row("table: gone", (Fault("404", ASN, ALWAYS),), InputError, "MAST has no such file"),
]


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS, ids=str)
def test_faults_of_mast(row: Row, mast: Server, visit: Path, settings: Make, tmp_path: Path) -> None:
    from astroquery.mast.discovery_portal import PortalAPI

    # what another test has been told already would not be asked for
    PortalAPI._column_configs.clear()
    mast.faults = list(row.faults)
    chosen = settings("mast", mast, "fetch.silence=0.5", *row.changes)
    if row.error is None:
        _run(chosen, tmp_path / "first", visit)
        assert all(f.times < ALWAYS for f in mast.faults)
    else:
        with pytest.raises(row.error) as caught:
            _run(chosen, tmp_path / "first", visit)
        assert row.message in caught.value.message
        assert "\n" not in caught.value.message
    assert any(f.times == 0 for f in mast.faults) or row.error is not None, "the fault was not met"
    mast.faults = []
    _run(chosen, tmp_path / "second", visit)


def _run(settings: Settings, area: Path, visit: Path) -> None:
    """Plan and fetch; then every file must be what the archive has."""
    area.mkdir(exist_ok=True)
    (association,) = stage.search(settings, ["j9l960010"], area / "plan").associations
    for e in association.members:
        if e.rootname != ROOT:
            continue
        outcome = stage.bring(association, ROOT, settings, area / "area")
        assert [p.kind for p in outcome.products] == ["raw", "spt", "asn"]
    for name in (NAME, f"{ROOT}_spt.fits"):
        assert (area / "area" / name).read_bytes() == (visit / name).read_bytes()
    cache = settings.fetch.cache
    assert cache is not None
    assert not list(cache.rglob("*.part*"))


def test_a_broken_download_is_continued(mast: Server, visit: Path, settings: Make, tmp_path: Path) -> None:
    """By another process, later, with what came first."""
    mast.faults = [Fault("cut", RAW), Fault("500", REST, ALWAYS)]
    with pytest.raises(NetworkError):
        _run(settings("mast", mast, *FOREVER), tmp_path / "first", visit)
    mast.faults = []
    mast.log.clear()
    _run(settings("mast", mast), tmp_path / "second", visit)
    ranges = [h["Range"] for _, p, h in mast.asked("*Download*") if NAME in p and "Range" in h]
    assert "bytes=131072-" in ranges
    assert mast_server.counts(mast)[NAME] == 0


def test_a_damaged_part_is_never_continued(mast: Server, visit: Path, settings: Make, tmp_path: Path) -> None:
    mast.faults = [Fault("cut", RAW), Fault("500", REST, ALWAYS)]
    with pytest.raises(NetworkError):
        _run(settings("mast", mast, *FOREVER), tmp_path / "first", visit)
    (part,) = (tmp_path / "cache").rglob("*.part")
    content = bytearray(part.read_bytes())
    content[1000] ^= 1
    part.write_bytes(content)
    mast.faults = []
    mast.log.clear()
    _run(settings("mast", mast), tmp_path / "second", visit)
    assert mast_server.counts(mast)[NAME] == 1


def test_what_a_crash_left_behind_a_part_is_cut_off(
    mast: Server, visit: Path, settings: Make, tmp_path: Path
) -> None:
    mast.faults = [Fault("cut", RAW), Fault("500", REST, ALWAYS)]
    with pytest.raises(NetworkError):
        _run(settings("mast", mast, *FOREVER), tmp_path / "first", visit)
    (part,) = (tmp_path / "cache").rglob("*.part")
    with part.open("ab") as stream:
        stream.write(bytes(5000))
    mast.faults = []
    _run(settings("mast", mast), tmp_path / "second", visit)


@pytest.mark.parametrize("manner", ["", "ignored validator"])
def test_a_file_that_changes_half_way(
    mast: Server,
    visit: Path,
    settings: Make,
    tmp_path: Path,
    manner: str,
    write_raw: Callable[..., Path],
) -> None:
    """Two versions are never joined, even where the server would: the run stops and is planned anew."""
    mast.faults = [Fault("cut", RAW), Fault("500", REST, ALWAYS)]
    chosen = settings("mast", mast, *FOREVER)
    (before,) = stage.search(chosen, ["j9l960010"], tmp_path / "plan").associations
    with pytest.raises(NetworkError):
        stage.bring(before, ROOT, chosen, tmp_path / "area")
    write_raw(visit, ROOT, DATE="2026-01-01", EXPSTART=53900.0)
    mast.scan()
    mast.faults = [Fault(manner, REST)] if manner else []
    with pytest.raises(InputError, match="made it anew since the plan; run again"):
        stage.bring(before, ROOT, settings("mast", mast), tmp_path / "area")
    _run(settings("mast", mast), tmp_path / "second", visit)


def test_a_file_in_the_cache_that_rots(mast: Server, visit: Path, settings: Make, tmp_path: Path) -> None:
    chosen = settings("mast", mast)
    _run(chosen, tmp_path / "first", visit)
    (cached,) = (tmp_path / "cache").rglob(NAME)
    content = bytearray(cached.read_bytes())
    content[len(content) // 2] ^= 1
    cached.unlink()
    cached.write_bytes(content)
    _run(chosen, tmp_path / "second", visit)


def test_a_cache_that_cannot_be_written(mast: Server, visit: Path, settings: Make, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file in the way")
    with pytest.raises(StorageError, match=r"fetch\.cache"):
        _run(settings("mast", mast), tmp_path / "first", visit)
    (tmp_path / "cache").unlink()
    _run(settings("mast", mast), tmp_path / "second", visit)


TABLES: list[Any] = [
    pytest.param("no table", InputError, "associate.rebuild=true", id="no table in it"),
    pytest.param("text", InputError, "associate.rebuild=true", id="no FITS file"),
    pytest.param("columns", InputError, "associate.rebuild=true", id="no MEMNAME"),
    pytest.param("empty", InputError, "there is no exposure in it", id="no exposure in it"),
    pytest.param("evil", UnsafeNameError, "is not a rootname", id="a name that leads out"),
]


def _break(visit: Path, how: str, write_asn: Callable[..., Path]) -> None:
    path = visit / "j9l960010_asn.fits"
    if how == "no table":
        fits.PrimaryHDU().writeto(path, overwrite=True)
    elif how == "text":
        path.write_text("not FITS")
    elif how == "columns":
        column = fits.Column("OTHER", "J", array=[1])
        fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns([column])]).writeto(
            path, overwrite=True
        )
    elif how == "empty":
        write_asn(visit, "j9l960010", [("j9l960010", "PROD-DTH", True)])
    else:
        write_asn(visit, "j9l960010", [("../../etc/x", "EXP-DTH", True)])


@pytest.mark.parametrize(("how", "error", "message"), TABLES)
@pytest.mark.parametrize("where", ["folder", "mirror"])
def test_broken_tables(
    how: str,
    error: type[BatchError],
    message: str,
    where: str,
    visit: Path,
    settings: Make,
    tmp_path: Path,
    write_asn: Callable[..., Path],
) -> None:
    whole = (visit / "j9l960010_asn.fits").read_bytes()
    _break(visit, how, write_asn)
    source = str(visit) if where == "folder" else f"file://{visit}"
    with pytest.raises(error, match="j9l960010_asn") as caught:
        _run(settings(source), tmp_path / "first", visit)
    assert message in caught.value.message
    if error is InputError:
        chosen = settings(source, None, "associate.rebuild=true")
        _run(chosen, tmp_path / "rebuilt", visit)
        with fits.open(tmp_path / "rebuilt/area/j9l960010_asn.fits") as hdus:
            assert list(hdus[1].data["MEMTYPE"]) == ["EXP-DTH"] * 3
    (visit / "j9l960010_asn.fits").write_bytes(whole)
    _run(settings(source), tmp_path / "second", visit)


@pytest.mark.parametrize("source", ["mast", "mirror", "folder"])
def test_a_member_that_is_not_there(
    source: str, visit: Path, settings: Make, tmp_path: Path, bucket: str, objects: Any
) -> None:
    """It stays a member, and its task says why; the others are fetched."""
    (visit / "j9l960a9q_raw.fits").unlink()
    objects.delete_object(Bucket="mirror", Key="acs/j9l960a9q_raw.fits")
    with mast_server.serve(visit) as server:
        chosen = {
            "mast": settings("mast", server),
            "mirror": settings(bucket),
            "folder": settings(str(visit)),
        }
        (association,) = stage.search(chosen[source], ["j9l960010"], tmp_path / "plan").associations
        assert association.member("j9l960a9q").trouble
        with pytest.raises(InputError, match=r"j9l960a9q_raw\.fits.*no such (file|object)"):
            stage.bring(association, "j9l960a9q", chosen[source], tmp_path / "area")
        stage.bring(association, ROOT, chosen[source], tmp_path / "area")


def test_a_member_that_the_table_says_is_not_present(
    visit: Path, settings: Make, tmp_path: Path, write_asn: Callable[..., Path]
) -> None:
    rows = [("j9l960a7q", "EXP-DTH", True), ("j9l960a9q", "EXP-DTH", False), ("j9l960abq", "EXP-DTH", True)]
    write_asn(visit, "j9l960010", rows)
    (association,) = stage.search(settings(str(visit)), [], tmp_path / "plan").associations
    assert [e.rootname for e in association.members] == ["j9l960a7q", "j9l960abq"]
    ((absent),) = association.absent
    assert (absent.rootname, absent.reason) == ("j9l960a9q", "MEMPRSNT is F in j9l960010_asn.fits")


@pytest.mark.slow
def test_faults_of_a_mirror(
    bucket: str, objects: Any, visit: Path, settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=r"nowhere.*there is no such object \(NoSuchBucket\)"):
        _run(settings("s3://nowhere/acs"), tmp_path / "first", visit)
    for missing, words in {
        2880: "2 extensions instead of the 3 of NEXTEND",
        6000: "is cut short: 282000 bytes",
    }.items():
        cut = (visit / NAME).read_bytes()[:-missing]
        objects.put_object(Bucket="mirror", Key=f"acs/{NAME}", Body=cut)
        with pytest.raises(InputError, match=words):
            _run(settings(bucket), tmp_path / "first", visit)
    objects.put_object(Bucket="mirror", Key=f"acs/{NAME}", Body=(visit / NAME).read_bytes())
    (association,) = stage.search(settings(bucket), [], tmp_path / "plan").associations
    objects.delete_object(Bucket="mirror", Key=f"acs/{NAME}")
    with pytest.raises(InputError, match="there is no such object"):
        stage.bring(association, ROOT, settings(bucket), tmp_path / "area")
    objects.put_object(Bucket="mirror", Key=f"acs/{NAME}", Body=(visit / NAME).read_bytes())
    with monkeypatch.context() as away:
        away.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
        with pytest.raises(NetworkError, match=r"Could not connect.*attempts in"):
            _run(settings(bucket, None, *FOREVER), tmp_path / "first", visit)
    _run(settings(bucket), tmp_path / "second", visit)


def test_faults_of_a_folder(visit: Path, settings: Make, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    shutil.copytree(visit, whole)
    with (visit / NAME).open("r+b") as stream:
        stream.truncate(100_000)
    with pytest.raises(InputError, match=rf"{NAME}\[1\]: the file is cut short"):
        _run(settings(str(visit)), tmp_path / "first", visit)
    shutil.copyfile(whole / NAME, visit / NAME)
    _run(settings(str(visit)), tmp_path / "second", visit)
