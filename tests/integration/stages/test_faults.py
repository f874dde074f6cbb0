"""What cannot be aligned, combined or modelled is refused with words that help; what is unusual works."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from batch.model.record import Status

if TYPE_CHECKING:
    from conftest import Bench, Sky

pytestmark = pytest.mark.slow


@pytest.fixture
def copies(tmp_path: Path, sky: Sky) -> list[Path]:
    """Exposures to spoil."""
    folder = tmp_path / "flts"
    folder.mkdir()
    return [Path(shutil.copyfile(p, folder / p.name)) for p in sky.flts]


def test_too_few_stars(tmp_path: Path, expose: Callable[..., Sky], bench: Callable[..., Bench]) -> None:
    sparse = expose(tmp_path / "sky", stars=6, rays=0)
    made = bench(tmp_path / "work", sparse.flts[:2])
    for e in made.association.exposures:
        made.do("wcs", exposure=e.rootname)
    record = made.do("align")
    assert record.failure is not None
    assert record.failure.kind == "InputError"
    assert "jtst01aaq: not aligned" in record.failure.message
    assert "15 matches are needed" in record.failure.message


def test_one_exposure_keeps_its_cosmic_rays_and_says_so(
    tmp_path: Path, sky: Sky, bench: Callable[..., Bench]
) -> None:
    made = bench(tmp_path / "work", sky.flts[:1])
    combined = made.through("combine")
    aligned = made.records["align/jtst01010"]
    assert aligned.status is Status.SKIPPED
    assert "one exposure" in aligned.reason
    assert [p.kind for p in aligned.products] == ["flt"]
    assert any("cosmic rays are still in the mosaic" in note for note in combined.notes)
    assert not (fits.getdata(made.path(combined, "flt"), "DQ") & 4096).any()
    mosaic = fits.getdata(made.path(combined, "mosaic"))
    assert np.nanmedian(mosaic) == pytest.approx(0, abs=0.01)


def test_two_exposures_lose_their_cosmic_rays(tmp_path: Path, sky: Sky, bench: Callable[..., Bench]) -> None:
    made = bench(tmp_path / "work", sky.flts[:2])
    combined = made.through("combine")
    for path in made.paths(combined, "flt"):
        flags = fits.getdata(path, "DQ")[sky.hits[path.name[:9]]]
        assert np.mean((flags & 4096) != 0) > 0.9


def test_pixels_that_are_no_numbers_are_refused_with_the_file(
    tmp_path: Path, copies: list[Path], bench: Callable[..., Bench]
) -> None:
    with fits.open(copies[0], mode="update") as hdus:
        hdus["SCI", 1].data[200:204, 200:204] = np.nan
    made = bench(tmp_path / "work", copies[:1])
    for stage, exposure in (("wcs", "jtst01aaq"), ("align", None)):
        made.do(stage, exposure=exposure)
    record = made.do("combine")
    assert record.failure is not None
    assert "_sci.fits" in record.failure.message
    assert "not finite" in record.failure.message


@pytest.mark.parametrize(
    ("weight", "plane", "value", "count", "what"),
    [
        ("EXP", "DQ", 4, 1, "all are flagged in DQ"),
        ("EXP", "DQ", 4, 2, "all are flagged in DQ"),
        ("ERR", "ERR", 0, 2, "all are flagged in DQ, or have no error in ERR"),
        ("IVM", "DQ", 4096, 2, "all are flagged in DQ"),
    ],
)
def test_an_exposure_without_any_weight_is_refused_by_name(
    tmp_path: Path,
    copies: list[Path],
    bench: Callable[..., Bench],
    weight: str,
    plane: str,
    value: int,
    count: int,
    what: str,
) -> None:
    """Before AstroDrizzle sees it, and whether or not the others have weight."""
    with fits.open(copies[count - 1], mode="update") as hdus:
        hdus[plane, 1].data[:] = value
    made = bench(tmp_path / "work", copies[:count], combine={"weight": weight})
    # what wcs and align would pass on
    for e, path in zip(made.association.exposures, copies, strict=False):
        assert made.do("wcs", exposure=e.rootname).status.ok, path
    made.pass_on("align", "wcs")
    record = made.do("combine")
    assert record.failure is not None
    assert record.failure.kind == "InputError"
    assert record.failure.message == (
        f"{copies[count - 1].name}: no pixel has weight: {what}; leave the exposure out (--exclude), or look "
        "at combine.bits, the flags that count as good"
    )


def test_constant_planes_without_pixels_become_images(
    tmp_path: Path, copies: list[Path], bench: Callable[..., Bench]
) -> None:
    """A calibrated file may keep an array of equal values as keywords only, which drizzlepac cannot read."""
    with fits.open(copies[0]) as hdus:
        plane = fits.Header({"PIXVALUE": 0, "NPIX1": 400, "NPIX2": 400})
        hdus[3] = fits.ImageHDU(None, plane, name="DQ", ver=1)
        hdus.writeto(copies[1], overwrite=True)
    shutil.move(copies[1], copies[0])
    assert fits.getheader(copies[0], "DQ")["NAXIS"] == 0
    made = bench(tmp_path / "work", copies[:1])
    combined = made.through("combine")
    assert fits.getdata(made.path(combined, "flt"), "DQ").shape == (400, 400)


def test_a_catalogue_of_another_field_is_refused(
    tmp_path: Path, sky: Sky, bench: Callable[..., Bench]
) -> None:
    catalog = tmp_path / "elsewhere.ecsv"
    Table({"RA": [10.0, 10.1], "DEC": [20.0, 20.1]}).write(catalog)
    made = bench(tmp_path / "work", sky.flts[:2], align={"catalog": str(catalog)})
    for e in made.association.exposures:
        made.do("wcs", exposure=e.rootname)
    record = made.do("align")
    assert record.failure is not None
    assert record.failure.kind == "InputError"
    assert "elsewhere.ecsv" in record.failure.message
    assert "none of its 2 stars" in record.failure.message
