"""From exposures to mosaics in files, on undistorted chips."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from numpy.typing import NDArray

from batch.drizzling import bands, products
from batch.drizzling.multi import Grid, Input, drizzle
from batch.errors import InputError, InsufficientMemoryError, StorageError, UsageError

SHAPE = (40, 50)
EXPTIME, SKY, STEP = 200.0, 12.5, 0.05 / 3600


def wcs(x: float = 25.5, y: float = 20.5, step: float = STEP) -> dict[str, Any]:
    return {
        "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 5.6, "CRVAL2": -72.0, "CRPIX1": x, "CRPIX2": y,
        "CD1_1": -step, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": step, "CUNIT1": "deg", "CUNIT2": "deg",
    }  # fmt: skip


def pixels(seed: int, shape: tuple[int, int] = SHAPE) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(100, 10, shape).astype(np.float32)


def expose(path: Path, seed: int = 1, shift: float = 0.0, chips: int = 1, **keywords: Any) -> Path:
    primary = fits.PrimaryHDU()
    noise = {f"READNSE{a}": v for a, v in zip("ABCD", (4.0, 0.0, 6.0, 0.0), strict=True)}
    primary.header.update(
        {"EXPTIME": EXPTIME, "NEXTEND": 3 * chips, "ROOTNAME": path.name[:9]} | noise | keywords
    )
    hdus = [primary]
    for version in range(1, chips + 1):
        image = pixels(seed + version)
        header = fits.Header(wcs(25.5 - shift) | {"BUNIT": "ELECTRONS", "CCDCHIP": version, "MEANDARK": 3.0})
        dq = np.zeros(SHAPE, np.int16)
        dq[5, 7], dq[6, 8] = 4096, 16
        hdus.append(fits.ImageHDU(image, header, name="SCI", ver=version))
        hdus.append(fits.ImageHDU(np.sqrt(image), name="ERR", ver=version))
        hdus.append(fits.ImageHDU(dq, name="DQ", ver=version))
    fits.HDUList(hdus).writeto(path)
    return path


def lay_out(folder: Path, step: float = STEP, shape: tuple[int, int] = SHAPE, **keywords: Any) -> Grid:
    """A mosaic whose pixels are those of the exposures, or others."""
    ratio = STEP / step
    header = fits.Header(
        wcs(24.5 * ratio + 0.5 + 0.5 * ratio, 19.5 * ratio + 0.5 + 0.5 * ratio, step)
        | {"NDRIZIM": 1, "D001VER": "old", "D001PIXF": 1.0, "PROD_VER": "old", "TARGNAME": "NGC104"}
        | keywords
    )
    for kind in ("sci", "wht", "ctx"):
        data = np.zeros(shape, np.int32 if kind == "ctx" else np.float32)
        hdus = fits.HDUList([fits.PrimaryHDU(data, header)])
        if kind == "sci":
            hdus.append(
                fits.BinTableHDU.from_columns([fits.Column("EXPTIME", "D", array=[200.0])], name="HDRTAB")
            )
        hdus.writeto(folder / f"grid_{kind}.fits")
    return Grid.read(*(folder / f"grid_{kind}.fits" for kind in ("sci", "wht", "ctx")))


def stem(folder: Path) -> Callable[[float], Path]:
    return lambda pixfrac: folder / f"jtst01010_pf{pixfrac}_drz"


def data(paths: dict[str, Path]) -> list[NDArray[Any]]:
    return [fits.getdata(paths[kind]) for kind in ("sci", "wht", "ctx")]


def test_an_exposure_on_its_own_pixels(tmp_path: Path) -> None:
    path = expose(tmp_path / "jtst01aaq_flt.fits")
    (made,) = drizzle([Input(path, (SKY,))], lay_out(tmp_path), [1.0], stem(tmp_path), bits=16)
    science, weight, context = data(made.paths)
    image, good = pixels(2), np.ones(SHAPE, bool)
    good[5, 7] = False
    np.testing.assert_allclose(science[good], ((image - SKY) / EXPTIME)[good], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(weight, EXPTIME * good, rtol=1e-6, atol=1e-6)
    assert (context[good] == 1).all()
    assert made.covered == np.count_nonzero(weight) / weight.size


@pytest.mark.parametrize("step", [STEP * 0.6, STEP * 1.5])
def test_values_are_per_output_pixel(tmp_path: Path, step: float) -> None:
    """The flux of the exposure is that of the mosaic, whatever its pixels."""
    path = expose(tmp_path / "jtst01aaq_flt.fits")
    shape = tuple(int(np.ceil((n + 1) * STEP / step)) for n in SHAPE)
    (made,) = drizzle([Input(path, (SKY,))], lay_out(tmp_path, step, shape), [1.0], stem(tmp_path), bits=4112)
    science, weight, _ = data(made.paths)
    total = np.nansum(science * weight) / EXPTIME
    assert total == pytest.approx(float((pixels(2) - SKY).sum()) / EXPTIME * (step / STEP) ** 2, rel=1e-4)


def test_weights(tmp_path: Path) -> None:
    path = expose(tmp_path / "jtst01aaq_flt.fits")
    flat = np.random.default_rng(4).uniform(0.8, 1.2, SHAPE).astype(np.float32)
    header = fits.Header({"CCDCHIP": 1})
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(flat, header, name="SCI")]).writeto(tmp_path / "pfl.fits")
    image, sky, noise = pixels(2).astype(float), SKY, ((4.0 + 6.0) / 2) ** 2
    expected = {
        "ERR": EXPTIME**2 / image,
        "IVM": (EXPTIME * flat) ** 2 / (sky * flat + 3.0 + noise),
    }
    grid = lay_out(tmp_path)
    for kind, true in expected.items():
        given = Input(path, (SKY,), tmp_path / "pfl.fits")
        (made,) = drizzle([given], grid, [1.0], lambda _, k=kind: tmp_path / k, weight=kind, bits=16 + 4096)
        np.testing.assert_allclose(data(made.paths)[1], true, rtol=1e-5)
        assert fits.getval(made.paths["sci"], "D001WTSC") == pytest.approx(
            1.0 if kind == "ERR" else EXPTIME**2
        )


def test_a_flat_field_of_the_whole_chip(tmp_path: Path) -> None:
    """A subarray lies at -LTV in it."""
    path = expose(tmp_path / "jtst01aaq_flt.fits")
    with fits.open(path, mode="update") as hdus:
        hdus["SCI"].header.update({"LTV1": -3.0, "LTV2": -5.0})
    flat = np.random.default_rng(4).uniform(0.8, 1.2, (60, 80)).astype(np.float32)
    hdus = [fits.ImageHDU(flat * n, fits.Header({"CCDCHIP": n}), name="SCI", ver=3 - n) for n in (2, 1)]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(tmp_path / "pfl.fits")
    given = Input(path, (0.0,), tmp_path / "pfl.fits")
    (made,) = drizzle([given], lay_out(tmp_path), [1.0], stem(tmp_path), weight="IVM", bits=16 + 4096)
    true = (EXPTIME * flat[5:45, 3:53]) ** 2 / 28.0
    np.testing.assert_allclose(data(made.paths)[1], true, rtol=1e-5)


def test_files(tmp_path: Path) -> None:
    first = expose(tmp_path / "jtst01aaq_flt.fits", chips=2)
    second = expose(tmp_path / "jtst01baq_flt.fits", 7)
    grid = lay_out(tmp_path)
    given = [Input(first, (SKY, SKY)), Input(second, (SKY,))]
    made = drizzle(given, grid, [1.0, 0.3], stem(tmp_path), bits=16)
    assert [m.pixfrac for m in made] == [1.0, 0.3]
    for mosaic in made:
        assert [p.name for p in mosaic.paths.values()] == [
            f"jtst01010_pf{mosaic.pixfrac}_drz_{kind}.fits" for kind in ("sci", "wht", "ctx")
        ]
        for kind, path in mosaic.paths.items():
            with fits.open(path) as hdus:
                hdus.verify("exception")
                header = hdus[0].header
                assert [h.name for h in hdus][1:] == (["HDRTAB"] if kind == "sci" else [])
                assert hdus[0].data.dtype == (">i4" if kind == "ctx" else ">f4")
            assert path.stat().st_size % 2880 == 0
            assert header["NDRIZIM"] == 3
            assert header["EXPTIME"] == header["TEXPTIME"] == 2 * EXPTIME
            assert header["FILENAME"] == path.name
            assert header["ROOTNAME"] == f"jtst01010_pf{mosaic.pixfrac}"
            assert header["TARGNAME"] == "NGC104"
            assert header.get("BUNIT") == ("ELECTRONS/S" if kind == "sci" else None)
            assert {header[f"D00{n}PIXF"] for n in (1, 2, 3)} == {mosaic.pixfrac}
            assert [header[f"D00{n}DATA"] for n in (1, 2, 3)] == [
                "jtst01aaq_flt.fits[sci,1]", "jtst01aaq_flt.fits[sci,2]", "jtst01baq_flt.fits[sci,1]"
            ]  # fmt: skip
            assert header["D001SCAL"] == pytest.approx(0.05)
            assert list(header).count("D001VER") == 1
            assert "old" not in (header["PROD_VER"], header["D001VER"])


def test_the_exact_mapping_and_any_step(tmp_path: Path) -> None:
    """Without distortion they are all one."""
    given = [Input(expose(tmp_path / "jtst01aaq_flt.fits", shift=0.3), (SKY,))]
    grid = lay_out(tmp_path)
    expected = drizzle(given, grid, [0.7], stem(tmp_path), bits=16)
    for step in (None, 1, 88):
        (made,) = drizzle(given, grid, [0.7], lambda _, s=step: tmp_path / f"s{s}", bits=16, stepsize=step)
        for a, b in zip(data(made.paths)[:2], data(expected[0].paths)[:2], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_a_grid_of_another_scale(tmp_path: Path) -> None:
    grid = lay_out(tmp_path).rescaled(0.025)
    assert grid.shape == (80, 100)
    given = [Input(expose(tmp_path / "jtst01aaq_flt.fits"), (SKY,))]
    (made,) = drizzle(given, grid, [1.0], stem(tmp_path), bits=16 + 4096)
    science, weight, _ = data(made.paths)
    # every input pixel is four output pixels with a quarter of its flux each
    np.testing.assert_allclose(weight, EXPTIME / 4, rtol=1e-5)
    np.testing.assert_allclose(science[::2, ::2], (pixels(2) - SKY) / EXPTIME / 4, rtol=1e-4)
    assert fits.getval(made.paths["sci"], "CD2_2") == pytest.approx(0.025 / 3600)


@pytest.mark.parametrize(
    ("keywords", "error", "words"),
    [
        ({"kernel": "gaussian"}, UsageError, "kernel gaussian"),
        ({"stepsize": 0}, UsageError, "stepsize 0"),
        ({"stepsize": 1000}, UsageError, "stepsize 1000"),
        ({"memory": 1000}, InsufficientMemoryError, "MB"),
        ({"bits": 0, "sky": (1.0, 2.0)}, InputError, "2 sky values for 1 chips"),
        ({"pixfracs": [0.0]}, UsageError, "pixfrac 0.0"),
    ],
)
def test_wrong_calls(tmp_path: Path, keywords: Any, error: Any, words: str) -> None:
    """Nothing is left behind."""
    given = Input(expose(tmp_path / "jtst01aaq_flt.fits"), keywords.pop("sky", (SKY,)))
    pixfracs = keywords.pop("pixfracs", [0.5])
    with pytest.raises(error, match=words):
        drizzle([given], lay_out(tmp_path), pixfracs, stem(tmp_path), **keywords)
    assert not list(tmp_path.glob("*_drz_*"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda h: h["SCI"].header.update({"BUNIT": "COUNTS"}), "BUNIT.*COUNTS"),
        (lambda h: h[0].header.update({"EXPTIME": 0.0}), "EXPTIME"),
        (lambda h: h["SCI"].data.__setitem__((3, 4), np.nan), "not finite"),
        (lambda h: h["DQ"].data.__setitem__(slice(None), 4096), "flagged"),
        (lambda h: h["SCI"].header.update({"CRVAL2": -70.0}), "does not fall on the output grid"),
        (lambda h: h["SCI"].header.update({"CRVAL2": 72.0}), "cannot be mapped|does not fall"),
    ],
)
def test_wrong_exposures(tmp_path: Path, change: Any, words: str) -> None:
    path = expose(tmp_path / "jtst01aaq_flt.fits")
    with fits.open(path, mode="update") as hdus:
        change(hdus)
    with pytest.raises(InputError, match=words):
        drizzle([Input(path, (SKY,))], lay_out(tmp_path), [0.5], stem(tmp_path), bits=16)
    assert not list(tmp_path.glob("*_drz_*"))


def test_one_of_two_exposures_misses_the_grid(tmp_path: Path) -> None:
    given = [
        Input(expose(tmp_path / f"jtst01{c}aq_flt.fits", shift=s), (SKY,)) for c, s in (("a", 0), ("b", 900))
    ]
    with pytest.raises(InputError, match="jtst01baq"):
        drizzle(given, lay_out(tmp_path), [0.5], stem(tmp_path))


def test_a_grid_that_is_none(tmp_path: Path) -> None:
    lay_out(tmp_path)
    with pytest.raises(InputError, match="cannot be read"):
        Grid.read(*[tmp_path / "nothing.fits"] * 3)
    fits.PrimaryHDU(np.zeros((3, 3))).writeto(tmp_path / "plain.fits")
    with pytest.raises(InputError, match="celestial"):
        Grid.read(*[tmp_path / "plain.fits"] * 3)


def test_existing_files_are_left_alone(tmp_path: Path) -> None:
    given = Input(expose(tmp_path / "jtst01aaq_flt.fits"), (SKY,))
    taken = tmp_path / "jtst01010_pf0.5_drz_wht.fits"
    taken.write_text("mine")
    with pytest.raises(StorageError, match="exists"):
        drizzle([given], lay_out(tmp_path), [0.5], stem(tmp_path))
    assert taken.read_text() == "mine"
    assert not (tmp_path / "jtst01010_pf0.5_drz_sci.fits").exists()


@pytest.mark.parametrize("call", ["pwrite", "fdatasync"])
def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """Files are removed, of all pixfracs."""
    given = Input(expose(tmp_path / "jtst01aaq_flt.fits"), (SKY,))
    grid = lay_out(tmp_path)
    real = getattr(os, call)
    calls = []

    def full(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) > 10:
            raise OSError(28, "No space left on device")
        return real(*arguments)

    monkeypatch.setattr(products.os, call, full)
    monkeypatch.setattr(bands, "TILE", 8)
    with pytest.raises(StorageError, match="No space left"):
        drizzle([given], grid, [0.5, 0.9], stem(tmp_path))
    assert not list(tmp_path.glob("*_drz_*"))
