"""The page of an association, from what the stages published."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

from batch.model.record import Status
from batch.reporting.pictures import shown
from batch.stages import report, select, statistics

Maps = Callable[..., dict[float, np.ndarray]]


class Page(HTMLParser):
    """Text, pictures, links and headings of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.text, self.images, self.links, self.tags = "", [], [], []
        self.html = path.read_text(encoding="utf-8")
        self.feed(self.html)
        self.words = " ".join(self.text.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.append((tag, values))
        if tag == "img":
            self.images.append(values)
        if tag == "a":
            self.links.append(values["href"])

    def handle_data(self, data: str) -> None:
        self.text += data + " "


def page_of(published: Any) -> Page:
    (path,) = (published.products / "report" / published.association.name).glob("*.html")
    return Page(path)


def upstream(published: Any, **omitted: Any) -> None:
    """Records of the stages before the sweep, as they leave them."""
    name, roots = published.association.name, [e.rootname for e in published.association.exposures]
    for root in roots:
        results = {
            "context": "hst_0729.pmap",
            "keywords": {"BIASFILE": "jref$bias_a.fits", "IDCTAB": "jref$idc.fits", "DGEOFILE": "N/A"},
            "missing": omitted,
            "omitted": ["BIASCORR"] if omitted else [],
            "nominal": [],
        }
        published.add("references", f"{name}/{root}", results=results)
    for root in roots:
        published.add("calibrate", f"{name}/{root}", results={"engine": "builtin", "engine_version": "1"})
    if len(roots) > 1:
        fits = {
            root: {
                "dx": 1.25 * i,
                "dy": -0.5,
                "rotation": 0.001,
                "rms_x": 0.04,
                "rms_y": 0.05,
                "matches": 900 + i,
            }
            for i, root in enumerate(roots)
        }
        fits[roots[0]]["is_reference"] = True
        results = {"reference": roots[0], "reason": "most stars", "exposures": fits}
        published.add("align", name, results=results)
    else:
        reason = "one exposure has nothing to be aligned to"
        published.add("align", name, status=Status.SKIPPED, reason=reason)
    sky = {root: [61.25] for root in roots}
    published.add("combine", name, results={"sky": sky, "rejected": dict.fromkeys(roots, 0.0125)})


@pytest.fixture(scope="module")
def reported(fresh: Callable[[Path], Any], tmp_path_factory: pytest.TempPathFactory, maps: Maps) -> Any:
    """A whole visit with its report; only read by the tests."""
    published = fresh(tmp_path_factory.mktemp("reported"))
    upstream(published)
    published.sweep(maps(0.1, 0.3, 0.6, 0.8, 1.0))
    published.run(statistics, box_size=64, tile=64)
    published.run(select)
    published.run(report)
    return published


def test_products(reported: Any) -> None:
    kinds = {p.name: p.kind for p in reported.records[-1].products}
    assert kinds == {
        "j94f05010.html": "report",
        "j94f05010_curve.png": "curve",
        "j94f05010_preview.png": "preview",
    }


def test_numbers_of_the_page_are_those_of_the_records(reported: Any) -> None:
    page = page_of(reported)
    result = next(r for r in reported.records if r.stage == "select").results
    assert f"Pixfrac {result['pixfrac']:g}" in page.words
    for verdict in result["verdicts"]:
        assert f"{verdict['rms_over_median']:.3f}" in page.words
        for reason in verdict["reasons"]:
            assert reason in page.words
    for wanted in (
        "NGC104",
        "proposal 10368",
        "hst_0729.pmap",
        "bias_a.fits",
        "61.25",
        "1.2 %",
        "2.50, −0.50",
        "902",
    ):
        assert wanted in page.words, wanted
    assert "DGEOFILE" not in page.words
    assert "the others are aligned to it" in page.words
    assert "most stars" in page.words
    assert "builtin 1" in page.words
    assert "j94f05bnq" in page.words
    assert "exposure time 3 s is off the median" in page.words
    assert "sweep 5 7.5 s 1.5 s 210.0 MB node1" in page.words
    assert "astropy 7.0" in page.words


def test_nothing_outside_the_page_is_needed(reported: Any) -> None:
    page = page_of(reported)
    assert not re.search(r"https?://|<script|<link|url\(|@import", page.html)
    for tag, values in page.tags:
        for address in (values.get("src"), values.get("srcset")):
            assert address is None or address.startswith("data:image/png;base64,"), tag


def test_the_link_leads_to_the_mosaic(reported: Any) -> None:
    folder = reported.products / "report" / "j94f05010"
    mosaic = reported.inputs("report").file("select", "chosen")
    links = [link for link in page_of(reported).links if link.endswith(".fits")]
    assert links
    assert all((folder / link).resolve() == mosaic.resolve() for link in links)
    assert str(mosaic) in page_of(reported).words


def test_accessible(reported: Any) -> None:
    page = page_of(reported)
    assert page.images
    assert all(len(image["alt"]) > 10 for image in page.images)
    assert all("scope" in values for tag, values in page.tags if tag == "th")
    assert next(v for t, v in page.tags if t == "html")["lang"] == "en"
    assert [tag for tag, _ in page.tags].count("h1") == 1


def test_zooms_are_pixel_exact_and_show_the_crowd(reported: Any) -> None:
    page = page_of(reported)
    zooms = [i for i in page.images if "Weight of the detail" in i["alt"]]
    stars = [i for i in page.images if " stars at pixfrac " in i["alt"]]
    assert [i["alt"] for i in stars] == [f"4 stars at pixfrac {p}" for p in (0.1, 0.3, 0.6, 1.0)]
    assert [i["alt"][-3:] for i in zooms] == ["0.1", "0.3", "0.6", "1.0"]
    pictures = [imread(io.BytesIO(base64.b64decode(i["src"].partition(",")[2]))) for i in zooms]
    assert {p.shape[:2] for p in pictures} == {(96, 96)}
    red = [np.count_nonzero((p[..., 0] > 0.8) & (p[..., 1] < 0.3)) for p in pictures]
    assert red[0] > 100, "the holes of pixfrac 0.1 are not marked"
    assert red[1:] == [0, 0, 0]


def test_tables_tell_of_tiles_edge_and_stars(reported: Any) -> None:
    page = page_of(reported)
    found = {r.stage: r.results for r in reported.records}
    for row in found["statistics"]["families"][0]["pixfracs"]:
        assert f"{row['tiles_high']:.3f}" in page.words
    for row in found["select"]["stars"]["drizzles"]:
        for text in (f"{row['fwhm']:.4f}", f"{row['ellipticity']:.3f}", f"{row['noise_factor']:.2f}"):
            assert text in page.words
    assert f"{found['select']['stars']['found']} unsaturated, isolated stars" in page.words
    assert any("in tiles of 64 pixels" in i["alt"] for i in page.images)
    assert "It is the smallest that leaves no holes, an even weight map and round stars" in page.words
    limits = "(limits: RMS/median 0.2, empty fraction 0, ellipticity 0.15, growth of FWHM 0.1)"
    assert limits in page.words


def test_the_published_curve_lies_under_that_of_a_visit_like_it(reported: Any) -> None:
    """Four WFC exposures, square kernel, 0.03 arcsec: as the one that was published."""
    assert "Diamonds: J9L960010" in page_of(reported).words


def test_the_published_curve_can_be_left_out(published: Any, maps: Maps) -> None:
    published.sweep(maps(1.0))
    published.run(statistics, box_size=64)
    published.run(select)
    published.run(report, published_curve="never")
    assert "J9L960010" not in page_of(published).words


def test_a_field_without_stars(published: Any, maps: Maps) -> None:
    published.sweep(maps(0.8, 1.0), stars=0)
    published.run(statistics, box_size=64)
    outcome = published.run(select)
    assert outcome.results["passed"] is True
    assert outcome.results["stars"]["judged"] is False
    assert "stars were not judged: 0 are bright" in outcome.notes[0]
    published.run(report)
    words = page_of(published).words
    assert "Not judged: 0 usable stars, and 5 are needed. This says nothing against the mosaic." in words
    assert "no holes and an even weight map (limits: RMS/median 0.2, empty fraction 0)" in words


def test_a_compromise_is_said_at_the_top(published: Any, maps: Maps) -> None:
    published.sweep(maps(0.1, 0.3))
    published.run(statistics, box_size=64)
    published.run(select)
    published.run(report)
    page = page_of(published)
    assert "No pixfrac passes: 0.3 is a compromise" in page.words
    assert 'class="banner warn"' in page.html


def test_missing_references_are_loud(published: Any, maps: Maps) -> None:
    upstream(published, BIASFILE="bias_a.fits")
    published.sweep(maps(1.0))
    published.run(statistics, box_size=64)
    published.run(select)
    published.run(report)
    words = page_of(published).words
    assert "Calibrated with less than the full set of reference files" in words
    assert "Steps left out: BIASCORR" in words
    assert "Missing: BIASFILE" in words
    assert "BIASFILE bias_a.fits missing" in words


def test_a_single_exposure(alone: Any, maps: Maps) -> None:
    upstream(alone)
    alone.sweep(maps(0.5, 1.0, exposures=1))
    alone.run(statistics, box_size=64)
    alone.run(select)
    alone.run(report)
    words = page_of(alone).words
    assert "not aligned: one exposure has nothing to be aligned to" in words
    assert "1 exposure, 339.0 s" in words
    assert "not in the mosaic" not in words
    assert "select : one exposure: without dithers" in words


def test_nothing_but_skipped_stages(published: Any) -> None:
    published.add("select", "j94f05010", status=Status.SKIPPED, reason="nothing to select")
    published.run(report)
    words = page_of(published).words
    assert "There is no chosen mosaic" in words
    assert "skipped: nothing to select" in words


def test_what_shows_four() -> None:
    tenths = [round(0.1 * i, 1) for i in range(1, 11)]
    assert shown(tenths, 0.8) == [0.1, 0.7, 0.8, 1.0]
    assert shown(tenths, 1.0) == [0.1, 0.5, 0.9, 1.0]
    assert shown(tenths, 0.1) == [0.1, 0.2, 0.3, 1.0]
    assert shown([0.5, 1.0], 1.0) == [0.5, 1.0]
    assert shown([0.7], 0.7) == [0.7]
