"""The real `crds bestrefs` on real HRC exposures, with a real context, offline."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from spoil import spoil_card

from batch.config.calibration import ReferencesSettings
from batch.errors import InputError, LibraryError, MissingReferenceError, UnsafeNameError, UsageError
from batch.references import bestrefs, service
from batch.references.bestrefs import Resolution, missing_error, resolve
from batch.references.context import locate_cache
from batch.references.location import Cache
from batch.references.needed import KEYWORDS, needed_keywords

NX, NY = 512, 512
"""Of the subarrays WFC1A-512 of 2006, whose bias CRDS chooses by where they lie on the chip."""
OTHERS = (
    {
        "DETECTOR": "WFC",
        "CCDAMP": "A",
        "CCDGAIN": 2.0,
        "FILTER1": "F606W",
        "FILTER2": "CLEAR2L",
        "APERTURE": "WFC1A-512",
        "SUBARRAY": True,
        "DATE-OBS": "2006-05-05",
    },
    {
        "DETECTOR": "WFC",
        "CCDAMP": "ABCD",
        "CCDGAIN": 2.0,
        "FILTER1": "F606W",
        "FILTER2": "CLEAR2L",
        "APERTURE": "WFC",
        "DATE-OBS": "2015-05-05",
        "PCTECORR": "PERFORM",
        "FLSHCORR": "PERFORM",
        "FLASHCUR": "LOW",
        "FLASHDUR": 4.6,
        "FLASHSTA": "SUCCESSFUL",
        "SHUTRPOS": "B",
        "SINKCORR": "PERFORM",
        "DRIZCORR": "PERFORM",
    },
    {
        "DETECTOR": "WFC",
        "CCDAMP": "C",
        "CCDGAIN": 2.0,
        "FILTER1": "CLEAR1L",
        "FILTER2": "F814W",
        "APERTURE": "WFC2C-1K",
        "SUBARRAY": True,
        "DATE-OBS": "2006-03-13",
        "FLATCORR": "OMIT",
    },
    {"DETECTOR": "WFC", "CCDAMP": "ABCD", "FILTER1": "G800L", "FILTER2": "CLEAR2L", "CRCORR": "PERFORM"},
    {"FILTER1": "CLEAR1S", "FILTER2": "F435W", "DATE-OBS": "2003-01-01"},
)


@pytest.fixture(scope="module")
def settings(shared: Path) -> ReferencesSettings:
    return locate_cache(ReferencesSettings(cache=shared / "data/crds_cache"), {})


@pytest.fixture(scope="module")
def raws(shared: Path) -> list[Path]:
    return sorted((shared / "data/real").glob("*_raw.fits"))


@pytest.fixture(scope="module")
def resolved(settings: ReferencesSettings, raws: list[Path]) -> dict[str, Resolution]:
    return resolve(raws, settings)


def test_the_context_is_the_caches_own(settings: ReferencesSettings) -> None:
    assert settings.context == "hst_0729.pmap"


def by_program(raws: list[Path], settings: ReferencesSettings, area: Path) -> dict[str, fits.Header]:
    """What ``crds bestrefs`` writes into copies of the files."""
    area.mkdir()
    for raw in raws:
        (area / raw.name).write_bytes(raw.read_bytes())
    environment = service.environment(Cache(settings.cache), service.NO_SERVER, settings.context)
    command = [sys.executable, "-m", "crds.bestrefs", "--new-context", settings.context, "--update-bestrefs"]
    done = subprocess.run(
        [*command, "--files", *(raw.name for raw in raws)], cwd=area, env=environment, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    return {raw.name.partition("_")[0]: fits.getheader(area / raw.name, 0) for raw in raws}


@pytest.mark.slow
def test_names_agree_with_the_command_line(
    settings: ReferencesSettings, raws: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For the real exposures, and for the first as if it were another detector's, filter's and epoch's."""
    for number, changes in enumerate(OTHERS):
        header = fits.getheader(raws[0], 0)
        header.update(changes)
        path = tmp_path / f"j8bt{number:02d}aaq_raw.fits"
        science = fits.ImageHDU(np.zeros((NY, NX), np.int16), name="SCI", ver=1)
        science.header.update(CCDCHIP=1, LTV1=-1536.0, LTV2=-1536.0)
        fits.HDUList([fits.PrimaryHDU(header=header), science]).writeto(path, output_verify="silentfix")
        raws = [*raws, path]
    # by several processes of crds, as for thousands of exposures
    monkeypatch.setattr(bestrefs, "_A_LANE", 3)
    found = resolve(raws, settings)
    truth = by_program(raws, settings, tmp_path / "program")
    assert set(found) == set(truth)
    assert {"j8bt05njq", "j8bt06o6q", "j8bt09jcq"} < set(found)
    for root, header in truth.items():
        expected = {k: str(header[k]).strip() for k in KEYWORDS if str(header.get(k, "")).strip()}
        assert found[root].keywords == expected, root
    f555w = found["j8bt05njq"]
    assert f555w.keywords["BIASFILE"] == "jref$m4r1753rj_bia.fits"
    assert f555w.keywords["OSCNTAB"] == "jref$14s1737dj_osc.fits"
    assert found["j8bt09jcq"].keywords["PFLTFILE"] == "jref$n4t1530bj_pfl.fits"


def test_missing_files_turn_their_steps_off(resolved: dict[str, Resolution]) -> None:
    found = resolved["j8bt05njq"]
    assert set(found.missing) == {
        "CCDTAB",
        "OSCNTAB",
        "BPIXTAB",
        "BIASFILE",
        "DARKFILE",
        "PFLTFILE",
        "IMPHTTAB",
        "IDCTAB",
        "NPOLFILE",
    }
    assert found.switches == dict.fromkeys(
        ("DQICORR", "BIASCORR", "DARKCORR", "FLATCORR", "PHOTCORR"), "OMIT"
    )
    assert found.nominal == ("CCDTAB", "OSCNTAB")


def test_one_message_lists_every_missing_file_once(resolved: dict[str, Resolution]) -> None:
    error = missing_error(resolved)
    assert isinstance(error, MissingReferenceError)
    assert error.message.count("o1515069j_ccd.fits (CCDTAB; j8bt05njq, j8bt06o6q, j8bt09jcq)") == 1
    assert "m4m0925ij_bia.fits (BIASFILE; j8bt09jcq)" in error.message
    assert "--missing-references omit" in error.message


def test_neither_cache_nor_raw_files_are_touched(raws: list[Path], shared: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    shutil.copytree(shared / "data/crds_cache", cache)
    copy = Path(shutil.copy(raws[0], tmp_path))
    content = copy.read_bytes()
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    resolve([copy], locate_cache(ReferencesSettings(cache=cache), {}))
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before
    assert copy.read_bytes() == content


def test_crds_own_words_are_passed_on(settings: ReferencesSettings, raws: list[Path], tmp_path: Path) -> None:
    """A header without the keywords that choose."""
    header = fits.getheader(raws[0], 0)
    del header["INSTRUME"]
    broken = tmp_path / raws[0].name
    fits.PrimaryHDU(header=header).writeto(broken)
    with pytest.raises(LibraryError, match=r"j8bt05njq_raw\.fits with context hst_0729\.pmap.*INSTRUME"):
        resolve([broken], settings)


def test_what_is_wrong_with_one_exposure_stops_no_other(
    settings: ReferencesSettings, raws: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damaged, refused = (Path(shutil.copy(raw, tmp_path)) for raw in raws[1:])
    spoil_card(damaged, "DATE-OBS")
    fits.setval(refused, "INSTRUME", value="WFPC9")
    assert set(resolve([damaged, refused, raws[0]], settings)) == {"j8bt05njq"}
    message = f"{damaged}: keyword DATE-OBS cannot be read"
    assert message in caplog.text
    assert f"crds bestrefs of {refused.name} with context hst_0729.pmap" in caplog.text
    with pytest.raises(InputError, match=re.escape(message)):
        resolve([damaged], settings)


@pytest.mark.parametrize("length", [0, 320, 2880])
def test_headers_that_cannot_be_read_are_told_of(raws: list[Path], tmp_path: Path, length: int) -> None:
    broken = tmp_path / raws[0].name
    broken.write_bytes(raws[0].read_bytes()[:length])
    with pytest.raises(InputError, match=r"j8bt05njq_raw\.fits: its headers cannot be read \(.+\)"):
        bestrefs.read_header(broken, ["DATE-OBS"])


def test_a_name_that_leads_out_is_refused(
    settings: ReferencesSettings, raws: list[Path], tmp_path: Path
) -> None:
    """CRDS leaves keywords of types it does not know; whatever stands there must not become a path."""
    header = fits.getheader(raws[0], 0)
    header["SATUFILE"] = "jref$../../secret.fits"
    path = tmp_path / raws[0].name
    fits.PrimaryHDU(header=header).writeto(path, output_verify="silentfix")
    with pytest.raises(UnsafeNameError, match="SATUFILE"):
        resolve([path], settings)


def test_a_crds_that_does_not_start_is_told_of(raws: list[Path], tmp_path: Path) -> None:
    settings = ReferencesSettings(cache=tmp_path / "empty", context="hst_0729.pmap")
    with pytest.raises(LibraryError, match=r"crds bestrefs of j8bt05njq_raw\.fits"):
        resolve(raws[:1], settings)


def test_a_file_is_found_in_either_layout(tmp_path: Path) -> None:
    (tmp_path / "references/hst/acs").mkdir(parents=True)
    (tmp_path / "references/hst/acs/a_bia.fits").touch()
    (tmp_path / "references/hst/b_bia.fits").touch()
    assert Cache(tmp_path).find("a_bia.fits") == tmp_path / "references/hst/acs/a_bia.fits"
    assert Cache(tmp_path).find("b_bia.fits") == tmp_path / "references/hst/b_bia.fits"
    assert Cache(tmp_path).find("c_bia.fits") is None


def test_needs_follow_the_switches() -> None:
    header = fits.Header({"PCTECORR": "PERFORM", "DARKCORR": "OMIT", "BIASCORR": "perform "})
    assert needed_keywords(header) == [
        "CCDTAB",
        "OSCNTAB",
        "BIASFILE",
        "SATUFILE",
        "PCTETAB",
        "IDCTAB",
        "NPOLFILE",
        "D2IMFILE",
    ]


@pytest.mark.parametrize(
    ("settings", "environment", "message"),
    [
        (ReferencesSettings(), {}, "--crds-cache DIR, or set CRDS_PATH"),
        (ReferencesSettings(cache=Path("/nowhere")), {}, "not a CRDS cache"),
        (ReferencesSettings(), {"CRDS_PATH": "/nowhere"}, "not a CRDS cache"),
    ],
)
def test_no_cache_is_wrong_use(
    settings: ReferencesSettings, environment: dict[str, str], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        locate_cache(settings, environment)


@pytest.mark.parametrize("context", ["hst_9999.pmap", "latest", "../x.pmap"])
def test_an_unknown_context_is_wrong_use(shared: Path, context: str) -> None:
    with pytest.raises(UsageError, match="context"):
        locate_cache(ReferencesSettings(cache=shared / "data/crds_cache", context=context), dict(os.environ))


def test_a_resolution_without_missing_files_changes_nothing() -> None:
    assert Resolution({}, {}).nominal == ()
