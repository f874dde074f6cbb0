"""Weights of a simulated visit follow the published curve: real dithers, real distortion, a naive drizzle.

The exposures' true mapping onto the sky (stwcs, with every distortion table) takes drops to the output grid;
in it each drop is a cloud of points that are counted pixel by pixel. The test of the demo has what the whole
pipeline makes of the same visit.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS, FITSFixedWarning

from batch.config.mosaics import SelectSettings
from batch.drizzling.choice import choose
from batch.drizzling.coverage import PixelBox
from batch.drizzling.weights import statistics
from batch.reporting.published import CURVE
from batch.simulation.visit import Visit, VisitSettings, simulate

SIDE, MARGIN, POINTS = 64, 20, 10
"""Of the box on the output grid and of what lies around it, pixels; points along each side of a drop."""
Mapping = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


@pytest.fixture(scope="module")
def visit(tmp_path_factory: pytest.TempPathFactory) -> Visit:
    """The dithers of the demo, whose first exposure is a short one, without errors in the headers."""
    settings = VisitSettings(size="512", stars=50, cosmic_rays=0, pointing_error=0)
    return simulate(tmp_path_factory.mktemp("visit"), settings)


def sky_of(raw: Path, references: Path, folder: Path) -> WCS:
    """The mapping of an exposure onto the sky."""
    from stwcs.updatewcs import updatewcs
    from stwcs.wcsutil import HSTWCS

    with fits.open(raw) as hdus:
        header, chip = hdus[0].header.copy(), hdus["SCI"].header.copy()
        shape = hdus["SCI"].shape
    for key in ("IDCTAB", "NPOLFILE", "D2IMFILE"):
        header[key] = str(references / header[key].removeprefix("jref$"))
    path = folder / raw.name
    fits.HDUList(
        [fits.PrimaryHDU(header=header), fits.ImageHDU(np.zeros(shape, np.float32), chip, name="SCI")]
    ).writeto(path)
    with contextlib.redirect_stdout(io.StringIO()):
        updatewcs(str(path), checkfiles=False, use_db=False)
    with fits.open(path) as hdus:
        return HSTWCS(hdus, ext=("SCI", 1))


def grid_at(mapping: WCS, x: float, y: float) -> WCS:
    """An output grid of 0.03 arcsec, north up, with its middle at a pixel of an exposure."""
    grid = WCS(naxis=2)
    grid.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    grid.wcs.crval = [float(v) for v in mapping.all_pix2world(x, y, 0)]
    # away from the middle of a pixel, where no drop needs to lie
    grid.wcs.crpix = [MARGIN + SIDE / 2 + 0.3, MARGIN + SIDE / 2 + 0.1]
    grid.wcs.cd = np.array([[-0.03, 0], [0, 0.03]]) / 3600
    return grid


def weight_map(mappings: list[WCS], grid: WCS, pixfrac: float) -> np.ndarray:
    """Count the points of all drops in each output pixel; the weight of a drop is 339 s."""
    size = SIDE + 2 * MARGIN
    weight = np.zeros(size * size)
    inner = (np.arange(POINTS) + 0.5) / POINTS
    u, v = (a.ravel() for a in np.meshgrid(inner, inner))
    for mapping in mappings:
        middle = mapping.all_world2pix([grid.wcs.crval], 0)[0]
        # input pixels are 5/3 output pixels wide, and the grid may be turned by 45 degrees
        reach = int(0.45 * size)
        y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].reshape(2, -1)
        x, y = x + round(middle[0]), y + round(middle[1])
        corners = []
        for dx, dy in ((-0.5, -0.5), (0.5, -0.5), (-0.5, 0.5), (0.5, 0.5)):
            sky = mapping.all_pix2world(x + pixfrac * dx, y + pixfrac * dy, 0)
            corners.append(np.array(grid.wcs_world2pix(*sky, 0)))
        low = corners[0][..., None] * (1 - u) + corners[1][..., None] * u
        high = corners[2][..., None] * (1 - u) + corners[3][..., None] * u
        columns, rows = np.rint(low * (1 - v) + high * v).astype(int).reshape(2, -1)
        inside = (columns >= 0) & (columns < size) & (rows >= 0) & (rows < size)
        weight += np.bincount(rows[inside] * size + columns[inside], minlength=size * size)
    return (339 / POINTS**2 * weight).reshape(size, size).astype(np.float32)


@pytest.mark.slow
def test_a_visit_with_the_demos_dithers_has_the_published_shape(visit: Visit, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FITSFixedWarning)
        mappings = [sky_of(raw, visit.references, tmp_path) for raw in visit.exposures[1:]]
        curves = []
        for x, y in ((400, 250), (1700, 240)):
            grid = grid_at(mappings[0], x, y)
            paths = {p: tmp_path / f"{x}_{p}.fits" for p in CURVE}
            for p, path in paths.items():
                fits.writeto(path, weight_map(mappings, grid, p))
            box = PixelBox(MARGIN, MARGIN + SIDE, MARGIN, MARGIN + SIDE)
            curves.append(statistics(paths, boxes=[box], tile=64)["rms_over_median"].values)
    curve = dict(zip(CURVE, np.mean(curves, axis=0), strict=True))
    print("RMS/median:", ", ".join(f"{p:g} {v:.3f}" for p, v in curve.items()))
    values = np.array(list(curve.values()))
    assert (np.diff(values) < 0).all()
    assert curve[0.6] > 0.2 > curve[0.8]
    published = np.array(list(CURVE.values()))
    assert np.corrcoef(values, published)[0, 1] > 0.995
    # fractions of a pixel between the dithers of the two visits make the rest
    np.testing.assert_allclose(values, published, atol=0.2)
    rows = [
        {
            "name": f"pf{p}",
            "pixfrac": p,
            "scale": 0.03,
            "kernel": "square",
            "rms_over_median": v,
            "empty_fraction": 0.0,
            "empty_pixels": 0,
        }
        for p, v in curve.items()
    ]
    assert 0.6 < choose(rows, SelectSettings()).pixfrac <= 0.8
