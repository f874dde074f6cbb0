"""The rule, and the file that carries the choice."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import given
from hypothesis import strategies as st

from batch.config.mosaics import SelectSettings
from batch.drizzling.choice import cards, choose, history
from batch.errors import InputError
from batch.model.drizzle import pixfrac_name
from batch.stages import select, statistics

Maps = Callable[..., dict[float, np.ndarray]]

PUBLISHED = dict(
    zip(
        (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
        (0.652, 0.571, 0.500, 0.426, 0.351, 0.277, 0.205, 0.141, 0.090, 0.068),
        strict=True,
    )
)
"""RMS/median of J9L960010 as the ACS drizzling tutorial gives it."""


def rows(ratios: dict[float, float | None], empty: dict[float, int] | None = None) -> list[dict[str, Any]]:
    counts = empty or {}
    return [
        {
            "name": pixfrac_name(p),
            "pixfrac": p,
            "scale": 0.03,
            "kernel": "square",
            "rms_over_median": r,
            "empty_pixels": counts.get(p, 0),
            "empty_fraction": counts.get(p, 0) / 1e6,
        }
        for p, r in ratios.items()
    ]


def test_the_tutorial_visit() -> None:
    choice = choose(rows(PUBLISHED), SelectSettings())
    assert (choice.pixfrac, choice.passed) == (0.8, True)
    assert [v.passes for v in choice.verdicts] == [False] * 7 + [True] * 3
    assert choose(rows(PUBLISHED), SelectSettings(rms_over_median=0.3)).pixfrac == 0.6


def test_holes_reject_what_the_weight_would_let_pass() -> None:
    choice = choose(rows(PUBLISHED, {0.8: 3}), SelectSettings())
    assert choice.pixfrac == 0.9
    assert choice.verdicts[7].reasons == ("3 empty pixels",)
    assert choose(rows(PUBLISHED, {0.8: 3}), SelectSettings(empty_fraction=1e-5)).pixfrac == 0.8


def test_every_reason_is_kept() -> None:
    (verdict,) = choose(rows({0.1: 0.652}, {0.1: 7}), SelectSettings()).verdicts
    assert verdict.reasons == ("7 empty pixels", "RMS/median 0.652 > 0.2")
    (verdict,) = choose(rows({0.1: None}), SelectSettings()).verdicts
    assert verdict.reasons == ("the median weight is zero",)


def test_without_a_pixfrac_that_passes_the_largest_is_a_marked_compromise() -> None:
    choice = choose(rows({0.3: 0.5, 0.5: 0.351}), SelectSettings())
    assert (choice.pixfrac, choice.passed) == (0.5, False)
    assert choice.why == "no pixfrac passes; pixfrac 0.5, the largest, is the best compromise"


measured = st.tuples(st.floats(0, 1), st.integers(0, 3)).map(lambda t: (t[0], t[1]))


@given(st.dictionaries(st.sampled_from(list(PUBLISHED)), measured, min_size=1), st.floats(0.01, 1))
def test_the_choice_is_the_smallest_that_passes(found: dict[float, tuple[float, int]], limit: float) -> None:
    settings = SelectSettings(rms_over_median=limit)
    table = rows({p: r for p, (r, _) in found.items()}, {p: n for p, (_, n) in found.items()})
    choice = choose(table, settings)
    passing = [p for p, (r, n) in found.items() if r <= limit and n == 0]
    assert choice.passed == bool(passing)
    assert choice.pixfrac == (min(passing) if passing else max(found))
    assert {v.pixfrac for v in choice.verdicts if v.passes} == set(passing)


@pytest.fixture
def chosen(published: Any, maps: Maps) -> Any:
    """A visit of four exposures, measured."""
    published.sweep(maps(0.3, 0.6, 0.8, 1.0))
    published.run(statistics, box_size=64)
    return published


def test_the_file_is_the_sweeps_images_bit_for_bit(chosen: Any) -> None:
    outcome = chosen.run(select)
    pixfrac = outcome.results["pixfrac"]
    sources = chosen.products / "sweep" / "j94f05010" / f"pf{pixfrac:g}"
    path = chosen.inputs("report").file("select", "chosen")
    assert path.name == "j94f05010_drz.fits"
    assert outcome.products[0].shape == (240, 240)
    with warnings.catch_warnings(), fits.open(path) as hdus:
        warnings.simplefilter("error")
        hdus.verify("exception")
        assert [h.name for h in hdus] == ["PRIMARY", "SCI", "WHT", "CTX", "HDRTAB"]
        for name in ("sci", "wht", "ctx"):
            (source,) = sources.glob(f"*_{name}.fits")
            with fits.open(source) as original:
                assert hdus[name].data.tobytes() == original[0].data.tobytes()
                assert hdus[name].data.dtype == original[0].data.dtype
        assert list(hdus["HDRTAB"].data["ROOTNAME"]) == ["j94f05bgq", "j94f05bhq", "j94f05bjq", "j94f05blq"]


def test_headers_carry_exposures_wcs_and_choice(chosen: Any) -> None:
    outcome = chosen.run(select)
    path = chosen.inputs("report").file("select", "chosen")
    with fits.open(path) as hdus:
        primary = hdus[0].header
        assert (primary["TARGNAME"], primary["FILENAME"], primary["NEXTEND"]) == ("NGC104", path.name, 4)
        assert primary["D001PIXF"] == primary["PIXFRAC"] == outcome.results["pixfrac"]
        assert "CRVAL1" not in primary
        for name in ("SCI", "WHT", "CTX"):
            wcs = WCS(hdus[name].header)
            np.testing.assert_allclose(wcs.wcs.crval, [5.6, -72.1])
            np.testing.assert_allclose(np.abs(np.diag(wcs.pixel_scale_matrix)) * 3600, 0.03)
        assert hdus["SCI"].header["BUNIT"] == "ELECTRONS/S"
        assert primary["PFPASSED"] is True
        assert primary["PFNTRIED"] == 4
        assert primary["PFRMSLIM"] == 0.2
        row = next(r for r in outcome.results["verdicts"] if r["pixfrac"] == primary["PIXFRAC"])
        assert primary["PFRMSMED"] == row["rms_over_median"]
        assert primary["PFEMPTY"] == row["empty_fraction"] == 0
        history = " ".join(map(str, primary["HISTORY"]))
        assert "made for a test" in history
        joined = "".join(map(str, primary["HISTORY"]))
        assert re.search(
            r'pf0\.3 RMS/median 0\.\d{4} empty 0 FWHM 0\.\d{4}" ellipticity 0\.\d{4} '
            r"rejected: RMS/median 0\.\d{3} > 0\.2",
            joined,
        )
        assert primary["PFNSTAR"] >= 5
        for keyword, name in (("PFELLIP", "ellipticity"), ("PFFWHM", "fwhm"), ("PFFWGROW", "fwhm_growth")):
            assert primary[keyword] == pytest.approx(row[name], rel=1e-12)
        assert (primary["PFELLLIM"], primary["PFFWLIM"]) == (0.15, 0.1)
        assert 1 < primary["PFNOISE"] < 3


def test_a_compromise_is_marked_everywhere(published: Any, maps: Maps) -> None:
    published.sweep(maps(0.1, 0.3))
    published.run(statistics, box_size=64)
    outcome = published.run(select)
    assert outcome.results["passed"] is False
    note, stars = outcome.notes
    assert stars.startswith("stars were not judged: 0 are bright, unsaturated, alone and without gaps, 5 are")
    assert note.startswith("no pixfrac passes; pixfrac 0.3, the largest, is the best compromise: ")
    header = fits.getheader(published.inputs("report").file("select", "chosen"))
    assert header["PFPASSED"] is False
    assert "no pixfrac passes" in str(header["HISTORY"])


def test_a_median_of_zero_leaves_its_keyword_undefined(published: Any, maps: Maps) -> None:
    published.sweep(maps(0.1, exposures=1))
    published.run(statistics, box_size=64)
    published.run(select)
    header = fits.getheader(published.inputs("report").file("select", "chosen"))
    assert header["PFRMSMED"] is None


@pytest.mark.parametrize("value", [None, math.inf, -math.inf, math.nan])
def test_no_header_ever_holds_what_fits_cannot(value: float | None) -> None:
    """A median weight of zero has an infinite ratio; astropy refuses to write inf and nan."""
    (row,) = rows({0.1: value}, {0.1: 500_000})
    star = {"name": "pf0.1", "stars": 9, "fwhm": value, "fwhm_growth": 0.0, "ellipticity": 0.1}
    choice = choose([row], SelectSettings(), [{**star, "noise_factor": value}])
    assert "the median weight is zero" in choice.chosen.reasons
    header = fits.Header()
    for keyword, number, comment in cards(choice, SelectSettings()):
        header[keyword] = (number, comment)
        assert len(fits.Card(keyword, number, comment).image) == 80
    for line in history(choice, SelectSettings()):
        header.add_history(line)
    again = fits.Header.fromstring(header.tostring())
    assert again["PFRMSMED"] is None
    assert again["PFFWHM"] is None
    assert again["PFEMPTY"] == 0.5


STAR = {"stars": 20, "fwhm": 0.09, "fwhm_growth": 0.02, "ellipticity": 0.07, "noise_factor": 1.5}


def typical(**changes: dict[float, Any]) -> list[dict[str, Any]]:
    return [
        {"name": pixfrac_name(p), **STAR, **{k: by[p] for k, by in changes.items() if p in by}}
        for p in PUBLISHED
    ]


def test_stars_that_are_not_round_reject_what_the_weight_would_let_pass() -> None:
    stars = typical(ellipticity={0.8: 0.153}, fwhm_growth={0.9: 0.117})
    choice = choose(rows(PUBLISHED), SelectSettings(), stars)
    assert choice.pixfrac == 1.0
    assert choice.verdicts[7].reasons == ("ellipticity 0.153 > 0.15",)
    assert choice.verdicts[8].reasons == ("FWHM grown by 0.117 > 0.1",)
    assert (
        choice.why == "pixfrac 1.0 is the smallest that leaves no holes, an even weight map and round stars"
    )
    assert choose(rows(PUBLISHED), SelectSettings(max_ellipticity=0.16), stars).pixfrac == 0.8


def test_stars_lost_to_gaps_reject_a_pixfrac() -> None:
    choice = choose(rows(PUBLISHED), SelectSettings(), typical(stars={0.8: 2}, ellipticity={0.8: None}))
    assert choice.verdicts[7].reasons == ("gaps leave 2 stars that can be measured",)
    assert choice.pixfrac == 0.9


def test_without_stars_two_tests_remain() -> None:
    choice = choose(rows(PUBLISHED), SelectSettings())
    assert choice.pixfrac == 0.8
    assert not choice.stars_judged
    assert choice.why == "pixfrac 0.8 is the smallest that leaves no holes and an even weight map"
    assert "stars: too few to judge" in history(choice, SelectSettings())


def test_an_image_cut_short_is_an_error(chosen: Any) -> None:
    for path in Path(chosen.products / "sweep").rglob("*_ctx.fits"):
        path.write_bytes(path.read_bytes()[:-2880])
    with (
        pytest.warns(match="File may have been truncated"),
        pytest.raises(InputError, match=r"_drz_ctx\.fits: is cut short by 2880 bytes"),
    ):
        chosen.run(select)


def test_a_mosaic_cut_short_is_an_error(chosen: Any) -> None:
    for path in Path(chosen.products / "sweep").rglob("*_sci.fits"):
        path.write_bytes(path.read_bytes()[:8640])
    with (
        pytest.warns(match="File may have been truncated"),
        pytest.raises(InputError, match=r"pf1\.0_drz_sci\.fits\[0\]: cannot be read"),
    ):
        chosen.run(select)


def test_absent_images_are_an_error(chosen: Any) -> None:
    chosen.records = [r for r in chosen.records if r.stage != "sweep"]
    with pytest.raises(InputError, match=r"j94f05010: the sweep left no mosaic and no weight"):
        chosen.run(select)
