"""Names, targets, dates and sources as users write them; attempts until a deadline; slots of a machine."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from astropy.coordinates import SkyCoord
from astropy.time import Time

from batch.archive.conditions import mjd, position, separation
from batch.archive.items import sibling, wanted_name
from batch.archive.names import asked_for
from batch.archive.retry import Patience
from batch.archive.slots import slot
from batch.archive.transport import TransientError
from batch.config import load
from batch.errors import NetworkError, UnsafeNameError, UsageError


@pytest.mark.parametrize("date", ["2006-06-20", "2006-06-20T12:30:00", "1999-12-31T23:59:59+00:00"])
def test_dates_are_those_of_astropy(date: str) -> None:
    assert mjd(date) == pytest.approx(Time(date.removesuffix("+00:00")).mjd, abs=1e-9)


@pytest.mark.parametrize(
    ("one", "other"), [((6.02, -72.08), (6.5, -72.0)), ((359.9, 89.9), (180.1, 89.9)), ((0, 0), (0, 0))]
)
def test_separations_are_those_of_astropy(one: tuple[float, float], other: tuple[float, float]) -> None:
    expected = SkyCoord(*one, unit="deg").separation(SkyCoord(*other, unit="deg")).arcmin
    assert separation(one, other) == pytest.approx(expected, abs=1e-9)


def test_positions_and_names_of_targets() -> None:
    assert position(" 6.02 -72.08") == position("6.02,-72.08") == (6.02, -72.08)
    assert position("NGC 104") is None
    assert position("400 10") is None


def test_names_from_everywhere(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("# comment\nJ9L960010, first\n\nj9l961abq\n")
    (tmp_path / "b.csv").write_text("x,Sci_Data_Set_Name\n1,J9L970010\n2,\n")
    found = asked_for(["j9l960010", f"@{tmp_path / 'a.txt'}"], tmp_path / "b.csv")
    assert found == ["j9l960010", "j9l961abq", "j9l970010"]


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("a.txt", "# nothing\n", UsageError),
        ("a.csv", "x,y\n1,2\n", UsageError),
        ("a.ecsv", "not a table", UsageError),
        ("a.txt", "../../etc\n", UnsafeNameError),
        ("none.txt", None, UsageError),
    ],
)
def test_lists_that_are_none(name: str, content: str | None, error: type[Exception], tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(error, match=name):
        asked_for([f"@{tmp_path / name}"], None)


@pytest.mark.parametrize(
    ("source", "kept"),
    [
        ("mast", "mast"),
        ("cloud", "cloud"),
        ("s3://bucket/prefix/", "s3://bucket/prefix"),
        ("file:///data/raw", "file:///data/raw"),
        ("/data/raw", "/data/raw"),
    ],
)
def test_sources(source: str, kept: str) -> None:
    assert load(None, [f"fetch.source={source}"]).fetch.source == kept


@pytest.mark.parametrize(
    "change",
    ["fetch.source=gopher://x", "fetch.source=file://raw", "search.after=yesterday", "search.visits=['600']"],
)
def test_what_is_no_source_or_condition(change: str) -> None:
    with pytest.raises(UsageError, match=change.partition(".")[0]):
        load(None, [change])


def test_files_that_belong_together() -> None:
    assert sibling("mast:HST/product/j9l960a7q_raw.fits", "spt") == "mast:HST/product/j9l960a7q_spt.fits"
    assert sibling("s3://b/my_raw/j9l960a7q_raw.fits", "asn") == "s3://b/my_raw/j9l960a7q_asn.fits"
    assert wanted_name("J9L960A7Q_RAW.fits") == "j9l960a7q_raw.fits"
    assert wanted_name("j9l960a7q_flt.fits") is None


def test_patience_ends_at_the_deadline_with_the_last_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    # short waits in a row and a long one after them would end it before half a second
    monkeypatch.setattr("random.uniform", lambda low, high: (low + high) / 2)
    begun = time.monotonic()
    count = 0

    def attempt() -> None:
        nonlocal count
        count += 1
        raise TransientError(f"reason {count}")

    with pytest.raises(NetworkError, match=r"^a file: reason [0-9]+ \([0-9]+ attempts in 1 s\)"):
        Patience(1.0, 0.05).insist("a file", attempt)
    assert 3 <= count <= 10
    assert time.monotonic() - begun < 3


def test_patience_waits_as_long_as_it_is_asked_to() -> None:
    begun, calls = time.monotonic(), []

    def attempt() -> str:
        calls.append(time.monotonic() - begun)
        if len(calls) == 1:
            raise TransientError("later", after=0.5)
        return "here"

    assert Patience(5.0, 0.01).insist("a file", attempt) == "here"
    assert calls[1] >= 0.5


def test_slots_are_no_more_than_they_are(tmp_path: Path) -> None:
    now, most, lock = 0, 0, threading.Lock()

    def hold() -> None:
        nonlocal now, most
        with slot(tmp_path, 2, 30):
            with lock:
                now += 1
                most = max(most, now)
            time.sleep(0.05)
            with lock:
                now -= 1

    threads = [threading.Thread(target=hold) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 2
    with (
        slot(tmp_path, 1, 1),
        pytest.raises(NetworkError, match=r"fetch\.connections"),
        slot(tmp_path, 1, 0.2),
    ):
        pass
