"""The multi-pixfrac drizzle against AstroDrizzle's final step: the same inputs, WCS and parameters."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from astropy.io import fits
from numpy.typing import NDArray

from batch.drizzling.multi import Mosaic, drizzle

if TYPE_CHECKING:
    from conftest import Case

pytestmark = pytest.mark.slow

PIXFRACS = (1.0, 0.8, 0.5, 0.1)
BITS = 16 + 64 + 256
# what names the program, the way the mask came to be, and when
DELIBERATE = re.compile(r"D\d{3}(VER|MASK)$|PROD_VER$|DATE$|DRIZPARS$")
# ORIENTAT is 0 in the mosaic that the grid comes from, and 3e-15 in one made on that grid
ROUNDED = re.compile(r"ORIENTAT$|D\d{3}SCAL$|D\d{3}WTSC$")


def read(paths: dict[str, Path]) -> tuple[NDArray[Any], ...]:
    return tuple(fits.getdata(paths[k]).astype(t) for k, t in (("sci", "f4"), ("wht", "f4"), ("ctx", "i4")))


def compare(ours: dict[str, Path], theirs: dict[str, Path], total: float) -> None:
    """Pixels to 1e-6, totals to `total`: AstroDrizzle's sums are rounded to single precision, and in a small
    image the cores of a few stars hold most of the flux."""
    science, weight, context = read(ours)
    science0, weight0, context0 = read(theirs)
    assert science.shape == science0.shape
    assert context.shape == context0.shape
    most = 1e-4 * science.size
    off = np.abs(weight - weight0) > 1e-6 * weight0
    assert off.sum() <= most
    used = (weight > 0) & (weight0 > 0)
    noise = 1.4826 * np.median(np.abs(science0[used] - np.median(science0[used])))
    tolerance = np.maximum(1e-6 * np.abs(science0), 1e-6 * noise)
    wrong = np.abs(science - science0) > tolerance
    wrong |= np.isnan(science) != np.isnan(science0)
    assert wrong.sum() <= most
    different = context != context0
    assert different.sum() <= most
    assert (different & ~off & ~wrong).sum() <= most
    assert weight.sum(dtype="f8") == pytest.approx(weight0.sum(dtype="f8"), rel=1e-9)
    light, light0 = (s[used].astype("f8") for s in (science, science0))
    assert light @ weight[used] == pytest.approx(light0 @ weight0[used], rel=total)
    assert light.sum() == pytest.approx(light0.sum(), rel=total)


def stem(folder: Path) -> Any:
    return lambda pixfrac: folder / f"jsim01010_pf{pixfrac}_drz"


@pytest.fixture(scope="module")
def swept(case: Case, tmp_path_factory: pytest.TempPathFactory) -> dict[float, Mosaic]:
    folder = tmp_path_factory.mktemp("swept")
    made = drizzle(case.inputs, case.grid, PIXFRACS, stem(folder), bits=BITS, threads=2)
    return {m.pixfrac: m for m in made}


@pytest.fixture(scope="module")
def theirs(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Callable[[float], dict[str, Path]]:
    """What AstroDrizzle makes of a pixfrac."""
    folder = tmp_path_factory.mktemp("theirs")
    return functools.cache(lambda pixfrac: case.astrodrizzle(folder / f"pf{pixfrac}", pixfrac))


@pytest.mark.parametrize("pixfrac", PIXFRACS)
def test_images(
    swept: dict[float, Mosaic], theirs: Callable[[float], dict[str, Path]], pixfrac: float
) -> None:
    compare(swept[pixfrac].paths, theirs(pixfrac), 1e-8)


@pytest.mark.parametrize("scale", [0.04, 0.065])
def test_other_scales(case: Case, tmp_path: Path, scale: float) -> None:
    """The same area in other pixels: as AstroDrizzle on that grid, and all of the light is there."""
    grid = case.grid.rescaled(scale)
    (made,) = drizzle(case.inputs, grid, [0.8], stem(tmp_path), bits=BITS, threads=2)
    theirs = case.astrodrizzle(tmp_path / "area", 0.8, grid=grid)
    compare(made.paths, theirs, 1e-8)
    for kind, path in made.paths.items():
        ours, other = fits.getheader(path), fits.getheader(theirs[kind])
        for keyword in ("NAXIS1", "NAXIS2", "CRPIX1", "CRPIX2", "CRVAL1", "CRVAL2", "D001SCAL", "ORIENTAT"):
            assert ours[keyword] == pytest.approx(other[keyword], rel=1e-9, abs=1e-9), keyword
        for keyword in ("CD1_1", "CD1_2", "CD2_1", "CD2_2"):
            assert ours[keyword] == pytest.approx(other[keyword], rel=1e-9, abs=1e-15), keyword
    # weight is exposure time, per output pixel
    (fine,) = drizzle(case.inputs, case.grid, [0.8], lambda p: tmp_path / "fine", bits=BITS, threads=2)
    totals = [fits.getdata(m.paths["wht"]).sum(dtype="f8") for m in (made, fine)]
    assert totals[0] == pytest.approx(totals[1], rel=1e-6)


@pytest.mark.parametrize("weight", ["ERR", "IVM"])
def test_weights(case: Case, tmp_path: Path, weight: Any) -> None:
    (made,) = drizzle(case.inputs, case.grid, [0.8], stem(tmp_path), weight=weight, bits=BITS, threads=2)
    compare(made.paths, case.astrodrizzle(tmp_path / "area", 0.8, weight), 1e-8)


def test_headers(swept: dict[float, Mosaic], theirs: Callable[[float], dict[str, Path]]) -> None:
    """Keyword by keyword, in the same order, but for what is meant to differ."""
    for kind, path in swept[0.5].paths.items():
        ours, other = fits.getheader(path), fits.getheader(theirs(0.5)[kind])
        names = [[k for k in h if not DELIBERATE.match(k)] for h in (ours, other)]
        assert names[0] == names[1]
        for keyword in dict.fromkeys(names[0]):
            a, b = ours[keyword], other[keyword]
            if keyword in ("", "COMMENT", "HISTORY"):
                assert str(a) == str(b)
            elif ROUNDED.match(keyword):
                assert a == pytest.approx(b, rel=1e-9, abs=1e-12), keyword
            elif isinstance(b, str):
                assert a == b.replace("final", "jsim01010_pf0.5", 1), keyword
            else:
                assert a == b, keyword
            assert ours.comments[keyword] == other.comments[keyword], keyword
        with fits.open(path) as hdus:
            hdus.verify("exception")
    with fits.open(swept[0.5].paths["sci"]) as ours, fits.open(theirs(0.5)["sci"]) as other:
        assert [h.name for h in ours] == [h.name for h in other]
        a, b = ours["HDRTAB"].data, other["HDRTAB"].data
        assert a.names == b.names
        for name in a.names:
            np.testing.assert_array_equal(a[name], b[name], name)


def test_the_exact_mapping_is_close(case: Case, swept: dict[float, Mosaic], tmp_path: Path) -> None:
    """Nodes are up to a hundredth of a pixel off: that moves weights, but conserves them."""
    (made,) = drizzle(case.inputs[:1], case.grid, [0.8], stem(tmp_path), bits=BITS, threads=2, stepsize=None)
    (coarse,) = drizzle(case.inputs[:1], case.grid, [0.8], lambda p: tmp_path / "coarse", bits=BITS)
    exact, nodes = (fits.getdata(m.paths["wht"]).astype("f8") for m in (made, coarse))
    assert exact.sum() == pytest.approx(nodes.sum(), rel=1e-8)
    difference = np.abs(exact - nodes).max() / nodes.max()
    assert 1e-6 < difference < 0.03
