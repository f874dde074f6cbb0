"""`acs-batch demo`: from nothing to a chosen mosaic that shows the truth."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from demonstration import demo
from truth import measure, rms

pytestmark = [
    pytest.mark.slow,
    # astropy's WCS reports the missing DATE of a mosaic's header
    pytest.mark.filterwarnings("ignore::astropy.wcs.FITSFixedWarning"),
]


def records(work: Path) -> dict[str, dict[str, Any]]:
    products = work / "products"
    found = {}
    for path in products.rglob("record.json"):
        found[str(path.parent.relative_to(products))] = json.loads(path.read_text())
    return found


def chosen(work: Path) -> Path:
    return work / "products/select/jsim01010/jsim01010_drz.fits"


def test_it_ends_with_the_mosaic_and_the_table(finished: tuple[Path, str]) -> None:
    work, output = finished
    assert str(chosen(work)) in output.splitlines()
    rows = re.findall(r"│ +(\d\.\d) │ +(\d\.\d{3}) │ +(\S+) │", output)
    assert [r[0] for r in rows] == [f"{p / 10:.1f}" for p in range(1, 11)]
    assert re.search(r"│ +chosen", output)
    assert "jsim01aaq (exposure time 30 s" in output
    page = Path(output.splitlines()[-1].removeprefix("report: "))
    assert "jsim01010" in page.read_text()


def test_the_curve_falls_and_crosses_the_limit_where_the_published_one_does(
    finished: tuple[Path, str],
) -> None:
    verdicts = records(finished[0])["select/jsim01010"]["results"]["verdicts"]
    curve = [v["rms_over_median"] for v in verdicts]
    assert curve == sorted(curve, reverse=True)
    assert curve[5] > 0.2 > curve[7]


def test_stars_are_where_and_as_bright_as_the_truth_says(finished: tuple[Path, str]) -> None:
    """Absolutely: the visit began with pointing errors of up to an arcsecond."""
    work, _ = finished
    with fits.open(chosen(work)) as hdus:
        image, wcs = np.asarray(hdus["SCI"].data, np.float64), WCS(hdus["SCI"].header)
    context = fits.getdata(work / "products/combine/jsim01010/jsim01010_drz_ctx.fits")
    found = measure(image, wcs, context, 4, Table.read(work / "simulated/truth/stars.ecsv"))
    assert len(found.ratio) > 30
    assert (rms(found.offset) < 0.1).all()
    assert np.median(found.ratio) == pytest.approx(1, abs=0.02)


def test_every_task_keeps_the_memory_it_was_promised(finished: tuple[Path, str]) -> None:
    work, _ = finished
    plan = json.loads((work / "plan.json").read_text())
    made = records(work)
    for task in plan["tasks"]:
        name = "/".join(filter(None, [task["stage"], task["association"], task["exposure"]]))
        name += f"/pf{task['drizzle']['pixfrac']}" if task["drizzle"] else ""
        assert made[name]["usage"]["peak_memory"] < task["needs"]["memory"], name


def test_a_second_demo_has_nothing_to_do(finished: tuple[Path, str]) -> None:
    work, output = finished
    before = {p: p.stat().st_mtime_ns for p in (work / "products").rglob("*")}
    done = demo(work)
    assert done.returncode == 0
    assert {p: p.stat().st_mtime_ns for p in (work / "products").rglob("*")} == before
    assert output.splitlines()[-3:] == done.stdout.splitlines()[-3:]
