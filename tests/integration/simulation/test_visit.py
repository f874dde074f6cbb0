"""The files of a simulated visit, against the calibration specification and against their own truth."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from batch.errors import StorageError
from batch.simulation.visit import Visit, VisitSettings, simulate

REQUIRED = (
    *("ROOTNAME", "INSTRUME", "DETECTOR", "EXPTIME", "EXPSTART", "EXPEND", "SUBARRAY", "CCDAMP"),
    *("CCDGAIN", "CCDOFSTA", "CCDOFSTD", "APERTURE", "OBSTYPE", "JWROTYPE", "FLASHSTA", "FLASHDUR"),
    *("FLASHCUR", "FILTER1", "FILTER2", "DARKTIME", "TARGNAME", "LRFWAVE", "IMAGETYP", "NEXTEND"),
    *("ASN_ID", "ASN_TAB", "ASN_MTYP", "DATE-OBS", "TIME-OBS", "PA_V3", "RA_TARG", "DEC_TARG"),
    *("SHUTRPOS", "FW1OFFST", "FW2OFFST", "FWSOFFST", "DQICORR", "BIASCORR", "BLEVCORR", "ATODCORR"),
    *("SINKCORR", "PCTECORR", "DARKCORR", "FLSHCORR", "FLATCORR", "SHADCORR", "PHOTCORR", "CRCORR"),
    *("RPTCORR", "EXPSCORR", "DRIZCORR"),
)
"""Primary keywords that the specification (section 1) and CRDS read."""
REFERENCES = (
    *("BPIXTAB", "CCDTAB", "ATODTAB", "OSCNTAB", "BIASFILE", "SATUFILE", "SNKCFILE", "FLSHFILE"),
    *("CRREJTAB", "SHADFILE", "DARKFILE", "DRKCFILE", "PCTETAB", "PFLTFILE", "DFLTFILE", "LFLTFILE"),
    *("IMPHTTAB", "IDCTAB", "NPOLFILE", "D2IMFILE"),
)


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_the_same_settings_give_the_same_bytes(plain: Visit, tmp_path: Path) -> None:
    again = simulate(tmp_path / "some where else", plain.settings)
    first, second = content(plain.folder), content(again.folder)
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []


def test_another_seed_gives_another_sky(plain: Visit, tmp_path: Path) -> None:
    settings = replace(plain.settings, seed=99, exposures=1, short_exptime=None)
    other = Table.read(simulate(tmp_path, settings).truth / "stars.ecsv")
    stars = Table.read(plain.truth / "stars.ecsv")
    assert set(np.round(other["RA"][:50], 6)).isdisjoint(np.round(stars["RA"][:50], 6))


def test_an_added_exposure_leaves_the_others_alone(plain: Visit, tmp_path: Path) -> None:
    longer = simulate(tmp_path, replace(plain.settings, exposures=3))
    assert len(longer.exposures) == len(plain.exposures) + 1
    for one, two in zip(plain.exposures, longer.exposures, strict=False):
        assert fits.getheader(one)["EXPSTART"] == fits.getheader(two)["EXPSTART"]
        assert np.array_equal(fits.getdata(one, "SCI"), fits.getdata(two, "SCI"))


def test_raw_files_have_the_structure_of_real_ones(any_visit: Visit) -> None:
    for path, exptime in zip(any_visit.exposures, any_visit.settings.times, strict=True):
        with fits.open(path) as hdus:
            hdus.verify("exception")
            primary = hdus[0].header
            assert [(h.name, h.ver) for h in hdus[1:]] == [("SCI", 1), ("ERR", 1), ("DQ", 1)]
            missing = [key for key in (*REQUIRED, *REFERENCES) if key not in primary]
            assert missing == []
            assert primary["NEXTEND"] == 3
            assert primary["EXPTIME"] == exptime
            assert primary["EXPEND"] - primary["EXPSTART"] == pytest.approx(exptime / 86400, abs=1e-9)
            assert primary["DATE-OBS"] == any_visit.settings.date
            assert primary["ROOTNAME"] == path.name[:9]
            assert primary["FILENAME"] == path.name
            science = hdus["SCI"]
            assert science.data.dtype == np.uint16
            assert science.header["BZERO"] == 32768
            assert science.data.shape == (512, 2072)
            assert science.header["NGOODPIX"] == science.data.size
            assert science.header["SDQFLAGS"] == 31743
            assert science.header["BUNIT"] == "COUNTS"
            for name in ("ERR", "DQ"):
                header = hdus[name].header
                assert header["NAXIS"] == 0
                assert (header["NPIX1"], header["NPIX2"], header["PIXVALUE"]) == (2072, 512, 0)


@pytest.mark.slow
def test_a_full_frame_holds_two_chips(full: Visit) -> None:
    with fits.open(full.exposures[0]) as hdus:
        assert [(h.name, h.ver) for h in hdus[1:]] == [(n, v) for v in (1, 2) for n in ("SCI", "ERR", "DQ")]
        assert hdus[0].header["NEXTEND"] == 6
        assert hdus[0].header["CCDAMP"] == "ABCD"
        assert hdus[0].header["SUBARRAY"] is False
        assert [hdus["SCI", v].header["CCDCHIP"] for v in (1, 2)] == [2, 1]
        assert [hdus["SCI", v].header["LTV2"] for v in (1, 2)] == [0, 20]
        for extver in (1, 2):
            assert hdus["SCI", extver].data.shape == (2068, 4144)
            assert (hdus["SCI", extver].header["CRPIX1"], hdus["SCI", extver].header["LTV1"]) == (2072, 24)
    stars = Table.read(full.truth / "stars.ecsv")
    assert len(stars) == pytest.approx(full.settings.stars, rel=0.25)


def test_comments_and_order_of_the_real_header_survive(plain: Visit) -> None:
    header = fits.getheader(plain.exposures[0])
    assert header.comments["EXPTIME"] == "exposure duration (seconds)--calculated"
    keys = list(header)
    assert keys.index("TELESCOP") < keys.index("DATE-OBS") < keys.index("BIASCORR") < keys.index("CCDAMP")
    assert "HISTORY" not in keys
    assert "IRAF-TLM" not in keys


def test_exposures_follow_each_other_without_overlap(plain: Visit) -> None:
    headers = [fits.getheader(path) for path in plain.exposures]
    for before, after in pairwise(headers):
        assert after["EXPSTART"] > before["EXPEND"]


def test_headers_name_the_reference_files_that_are_there(any_visit: Visit) -> None:
    used = set()
    for path in any_visit.exposures:
        header = fits.getheader(path)
        for key in REFERENCES:
            value = header[key]
            if value != "N/A":
                assert value.startswith("jref$")
                assert (any_visit.references / value[5:]).is_file()
                used.add(value[5:])
    assert used == {p.name for p in any_visit.references.iterdir()}


def test_reference_images_cover_the_exposure(any_visit: Visit) -> None:
    """Alignment rule of the specification, section 3: the section lies inside the reference."""
    with fits.open(any_visit.exposures[0]) as hdus:
        primary, raw = hdus[0].header, hdus["SCI"].header
    (nx, ny), light = (raw["NAXIS1"], raw["NAXIS2"]), 2048
    for key in ("BIASFILE", "SATUFILE", "SNKCFILE", "DARKFILE", "DRKCFILE", "FLSHFILE", "PFLTFILE"):
        if primary[key] == "N/A":
            continue
        with fits.open(any_visit.references / primary[key][5:]) as hdus:
            hdus.verify("exception")
            science = hdus["SCI"].header
            assert hdus[0].header["NEXTEND"] == len(hdus) - 1
            assert hdus[0].header["PEDIGREE"]
            assert not hdus[0].header["PEDIGREE"].startswith("DUMMY")
            assert science["CCDCHIP"] == raw["CCDCHIP"]
            untrimmed = key in ("BIASFILE", "SATUFILE", "SNKCFILE")
            width = nx if untrimmed else light
            left = raw["LTV1"] if untrimmed else min(raw["LTV1"], 0.0)
            x0, y0 = science["LTV1"] - left, science["LTV2"] - raw["LTV2"]
            assert 0 <= x0 <= science["NAXIS1"] - width
            assert 0 <= y0 <= science["NAXIS2"] - ny
            if key == "FLSHFILE":
                assert (science["LTV1"], science["LTV2"]) == (0, 0)


def test_association_lists_the_exposures(plain: Visit, split: Visit) -> None:
    for visit, kind in ((plain, "DTH"), (split, "CRJ")):
        with fits.open(visit.asn) as hdus:
            assert hdus[0].header["INSTRUME"] == "ACS"
            assert hdus[0].header["DETECTOR"] == "WFC"
            rows = hdus[1].data
            assert [m.lower() for m in rows["MEMNAME"][:-1]] == list(visit.rootnames)
            assert set(rows["MEMTYPE"][:-1]) == {f"EXP-{kind}"}
            assert rows["MEMTYPE"][-1] == f"PROD-{kind}"
            assert list(rows["MEMPRSNT"]) == [True] * len(visit.rootnames) + [False]
        header = fits.getheader(visit.exposures[0])
        assert header["ASN_TAB"] == visit.asn.name
        assert header["CRCORR"] == ("PERFORM" if kind == "CRJ" else "OMIT")
        for rootname in visit.rootnames:
            assert fits.getheader(visit.raw / f"{rootname}_spt.fits")["ROOTNAME"] == rootname


def test_headers_point_wrong_by_no_more_than_was_asked_for(plain: Visit) -> None:
    pointing = Table.read(plain.truth / "pointing.ecsv")
    error = np.hypot(pointing["east_error"], pointing["north_error"])
    assert np.all(error <= plain.settings.pointing_error)
    assert np.ptp(error) > 0


def test_cosmic_rays_lie_where_the_truth_says(split: Visit) -> None:
    """Against the other exposure of the pair, which sees the same sky."""
    first, second = (fits.getdata(path, "SCI").astype(float) for path in split.exposures)
    with fits.open(split.cosmic_rays(split.rootnames[0])) as hdus:
        hits = hdus["CRS"].data
    difference = (first - second)[:, :2048]
    struck = difference[hits["Y"], hits["X"]]
    strong = hits["ELECTRONS"] > 200
    gain = 1.994
    assert strong.sum() > 500
    assert np.median(struck[strong] * gain / hits["ELECTRONS"][strong]) == pytest.approx(1.0, abs=0.03)
    rate = split.settings.cosmic_rays * 512 * 2048 * 15e-4**2 * (339 + 50)
    assert hits.size / rate == pytest.approx(6, abs=3)


def test_bright_stars_saturate_and_bleed(plain: Visit) -> None:
    with fits.open(plain.exposures[1]) as hdus:
        name = hdus[0].header["SATUFILE"][5:]
        electrons = (hdus["SCI"].data[:, 24:].astype(float) - 2441) * 2.028
    well = fits.getdata(plain.references / name, "SCI")[:, 24:]
    saturated = electrons > well
    assert 0.0005 < saturated.mean() < 0.05
    assert electrons.max() < 1.1 * well.max()
    assert saturated.sum(axis=0).max() > 15


def test_traps_trail_charge_away_from_the_amplifier(late: Visit, tmp_path: Path) -> None:
    perfect = simulate(tmp_path, replace(late.settings, cte=False))
    trailed = fits.getdata(late.exposures[0], "SCI").astype(float)
    clean = fits.getdata(perfect.exposures[0], "SCI").astype(float)
    change = (trailed - clean)[:, :2048]
    # Amplifier B reads from the top: charge trails to lower rows, and most from the rows that are farthest.
    with fits.open(late.cosmic_rays(late.rootnames[0])) as hdus:
        hits = hdus["CRS"].data
    hits = hits[(hits["ELECTRONS"] > 500) & (hits["Y"] > 60) & (hits["Y"] < 500)]
    lost, behind, ahead = (change[hits["Y"] + step, hits["X"]].mean() for step in (0, -3, 3))
    assert lost < -1
    assert behind > abs(ahead) + 0.5


def test_a_folder_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    blocked = tmp_path / "visit"
    blocked.write_text("a file is in the way")
    with pytest.raises(StorageError, match="visit"):
        simulate(blocked)


def test_a_visit_that_is_there_is_left_alone(tmp_path: Path) -> None:
    """Else every run on it would start anew."""
    settings = VisitSettings(size="512", exposures=1, short_exptime=None, stars=500)
    visit = simulate(tmp_path, settings)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    assert simulate(tmp_path, settings) == visit
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("change", ["settings", "interrupted"])
def test_another_or_a_broken_visit_is_replaced(tmp_path: Path, change: str) -> None:
    settings = VisitSettings(size="512", exposures=1, short_exptime=None, stars=500)
    visit = simulate(tmp_path, settings)
    content = visit.exposures[0].read_bytes()
    if change == "interrupted":
        (tmp_path / "visit.json").unlink()
        visit.exposures[0].write_bytes(content[:1000])
        simulate(tmp_path, settings)
        assert visit.exposures[0].read_bytes() == content
    else:
        other = simulate(tmp_path, replace(settings, seed=2))
        assert other.exposures[0].read_bytes() != content
