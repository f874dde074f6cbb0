"""The built-in engine on a small exposure: products, switches, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from batch.calibration import get_engine
from batch.calibration.builtin import BuiltinEngine
from batch.calibration.stages import CCD_STAGE, PLANE_STAGE
from batch.errors import InputError, MissingReferenceError, StorageError, UnsafeNameError, UsageError
from batch.model.observation import Exposure as Described


def calibrate(exposure: Any, **options: Any) -> Path:
    (flt,) = BuiltinEngine(**options).calibrate(exposure.raw, exposure.jref, exposure.area, 1)
    return Path(flt)


def test_one_product_with_engine_and_version(exposure: Any) -> None:
    before = exposure.raw.read_bytes()
    flt = calibrate(exposure)
    assert flt == exposure.area / "jtest01aq_flt.fits"
    assert [path.name for path in exposure.area.iterdir()] == [flt.name]
    assert exposure.raw.read_bytes() == before
    with fits.open(flt) as hdus:
        hdus.verify("exception")
        header = hdus[0].header
        assert header["CAL_VER"] == "10.5.0 (16-Mar-2026)"
        assert header["CAL_ENG"] == f"builtin {BuiltinEngine().version()}"
        assert list(header).index("CAL_ENG") == list(header).index("CAL_VER") + 1
        assert header["FILENAME"] == flt.name
        done = [k for k in header if k.endswith("CORR") and header[k] == "COMPLETE"]
        assert set(done) == {
            *("DQICORR", "BLEVCORR", "BIASCORR", "FLSHCORR", "EXPSCORR", "DARKCORR"),
            *("FLATCORR", "PHOTCORR", "SINKCORR"),
        }
        assert hdus["SCI"].data.shape == (32, 48)
        assert hdus["SCI"].header["LTV1"] == 0
        assert hdus["SCI"].header["CRPIX1"] == 6
        assert hdus["SCI"].header["PHOTMODE"] == "ACS WFC1 F814W MJD#53800.5000"
        assert 7e-20 < hdus["SCI"].header["PHOTFLAM"] < 8e-20
        # (counts - bias) x gain - dark - flash is near zero in this frame, bar noise
        assert abs(np.median(hdus["SCI"].data) + 0.01 * 600 + 0.5 * 3) < 2
        dq = hdus["DQ"].data
    assert dq[10, 16] & 2048
    assert (dq[5:9, 4] & 16).all()
    assert (dq[5, 39:48] & 4).all()
    assert dq[20, 26] & 1024


def test_tables_of_steps_are_complete() -> None:
    steps = [name.split()[0] for name, _ in (*CCD_STAGE, *PLANE_STAGE)]
    switches = "DQICORR BIASCORR BLEVCORR SINKCORR DARKCORR FLSHCORR FLATCORR SHADCORR PHOTCORR EXPSCORR"
    assert set(switches.split()) <= set(steps)


def test_intermediate_products_on_request(exposure: Any) -> None:
    calibrate(exposure, keep_intermediate=True)
    assert {p.name for p in exposure.area.iterdir()} == {"jtest01aq_flt.fits", "jtest01aq_blv_tmp.fits"}


def test_missing_references_are_all_named_before_anything_is_written(exposure: Any) -> None:
    (exposure.jref / "drk.fits").unlink()
    (exposure.jref / "snk.fits").unlink()
    exposure.write(FLSHFILE="N/A")
    with pytest.raises(MissingReferenceError) as caught:
        calibrate(exposure, keep_intermediate=True)
    for text in ("DARKFILE jref$drk.fits", "SNKCFILE jref$snk.fits", "FLSHFILE is N/A", exposure.raw.name):
        assert text in caught.value.message
    assert not list(exposure.area.iterdir())


def test_nothing_to_do_is_an_error(exposure: Any) -> None:
    exposure.write(**{k: "OMIT" for k in exposure.keywords if k.endswith("CORR")})
    with pytest.raises(InputError, match="no calibration switch is PERFORM"):
        calibrate(exposure)


def test_low_order_flat_is_refused_before_anything_is_written(exposure: Any) -> None:
    exposure.write(LFLTFILE="jref$pfl.fits")
    with pytest.raises(InputError, match=r"LFLTFILE.*not supported"):
        calibrate(exposure, keep_intermediate=True)
    assert not list(exposure.area.iterdir())


@pytest.mark.parametrize("value", ["jref$../secret.fits", "jref$/etc/passwd", "jref$a/../../b.fits"])
def test_reference_names_stay_in_their_folder(value: str, exposure: Any) -> None:
    exposure.write(DARKFILE=value)
    with pytest.raises(UnsafeNameError, match="DARKFILE"):
        calibrate(exposure)


def test_plain_paths_are_taken_as_given(exposure: Any) -> None:
    short = exposure.folder / "d.fits"
    (exposure.jref / "drk.fits").rename(short)
    exposure.write(DARKFILE=str(short))
    assert calibrate(exposure).is_file()


def test_existing_output_is_kept_unless_told(exposure: Any) -> None:
    flt = exposure.area / "jtest01aq_flt.fits"
    flt.write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        calibrate(exposure)
    assert flt.read_text() == "mine"
    calibrate(exposure, overwrite=True)
    assert fits.getval(flt, "BLEVCORR") == "COMPLETE"


def test_full_disk_leaves_no_product(exposure: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StorageError, match="No space left"):
        calibrate(exposure)
    assert not list(exposure.area.iterdir())


@pytest.mark.parametrize(
    ("keyword", "value", "message"),
    [
        ("DETECTOR", "SBC", "DETECTOR"),
        ("DETECTOR", None, "DETECTOR"),
        ("CCDAMP", "E", "CCDAMP"),
        ("CCDAMP", None, "CCDAMP"),
        ("EXPTIME", -1.0, "EXPTIME"),
        ("EXPTIME", "long", "EXPTIME"),
        ("EXPSTART", None, "EXPSTART"),
        ("SUBARRAY", None, "SUBARRAY"),
        ("SUBARRAY", "YES", "SUBARRAY"),
        ("INSTRUME", "WFC3", "INSTRUME"),
        ("DARKCORR", "MAYBE", "DARKCORR"),
        ("CCDGAIN", 4.0, "CCDTAB"),
        ("FILTER1", "F999W", "IMPHTTAB|imp.fits"),
        ("DARKTIME", 1e300, "DARKTIME"),
        ("NEXTEND", 6, r"SCI,2"),
    ],
)
def test_bad_keywords_are_named(keyword: str, value: Any, message: str, exposure: Any) -> None:
    exposure.write(**{keyword: value})
    with pytest.raises(InputError, match=message):
        calibrate(exposure)
    assert not list(exposure.area.iterdir())


def test_more_chips_than_announced_is_no_silent_product(exposure: Any) -> None:
    with fits.open(exposure.raw, mode="append") as hdus:
        for hdu in list(hdus[1:]):
            copy = hdu.copy()
            copy.header["EXTVER"] = 2
            hdus.append(copy)
    with pytest.raises(InputError, match=r"NEXTEND.*1 imsets are announced"):
        calibrate(exposure)


@pytest.mark.parametrize("name", ["bia", "sat", "snk", "drk", "fls", "pfl", "dfl"])
def test_reference_with_nan_is_named(name: str, exposure: Any) -> None:
    with fits.open(exposure.jref / f"{name}.fits", mode="update") as hdus:
        hdus["SCI"].data[-1, -1] = np.nan
    with pytest.raises(InputError, match=rf"{name}.fits\[SCI,1\]: pixels are not finite"):
        calibrate(exposure)


@pytest.mark.parametrize(
    "name", ["ccd", "osc", "bpx", "bia", "sat", "snk", "drk", "fls", "pfl", "dfl", "imp"]
)
def test_truncated_reference_is_named(name: str, exposure: Any) -> None:
    path = exposure.jref / f"{name}.fits"
    path.write_bytes(path.read_bytes()[: -2880 * 2])
    with pytest.raises(InputError, match=f"{name}.fits"):
        calibrate(exposure)


def test_result_that_overflows_is_refused(exposure: Any, write_image_reference: Callable[..., None]) -> None:
    write_image_reference(exposure.jref / "pfl.fits", np.full((32, 48), 1e-38), untrimmed=False)
    with pytest.raises(InputError, match="not finite"):
        calibrate(exposure)
    assert not list(exposure.area.iterdir())


def test_nothing_but_ccd_steps_gives_a_copy_as_flt(exposure: Any) -> None:
    exposure.write(DARKCORR="OMIT", FLSHCORR="OMIT", FLATCORR="OMIT", PHOTCORR="OMIT")
    header = fits.getheader(calibrate(exposure))
    assert header["EXPSCORR"] == "PERFORM"
    assert header["BLEVCORR"] == "COMPLETE"


def test_photometry_outside_the_table(exposure: Any) -> None:
    exposure.write(EXPSTART=50000.0)
    assert fits.getval(calibrate(exposure), "PHOTFLAM", "SCI") < 7e-20
    with fits.open(exposure.jref / "imp.fits", mode="update") as hdus:
        hdus[0].header["EXTRAP"] = False
    flt = calibrate(exposure, overwrite=True)
    assert fits.getval(flt, "PHOTFLAM", "SCI") == -9999
    assert fits.getval(flt, "PHOTCORR") == "SKIPPED"
    assert "PHOTCORR not performed ..." in list(fits.getval(flt, "HISTORY"))


def test_shading(exposure: Any, write_image_reference: Callable[..., None]) -> None:
    plain = fits.getdata(calibrate(exposure), "SCI").copy()
    write_image_reference(exposure.jref / "shd.fits", np.full((32, 48), 60.0), untrimmed=False)
    exposure.write(SHADCORR="PERFORM", SHADFILE="jref$shd.fits")
    flt = calibrate(exposure, overwrite=True)
    np.testing.assert_allclose(fits.getdata(flt, "SCI"), plain / 1.1, rtol=1e-6)
    write_image_reference(exposure.jref / "shd.fits", np.full((16, 24), 60.0), untrimmed=False)
    with fits.open(exposure.jref / "shd.fits", mode="update") as hdus:
        for hdu in hdus[1:]:
            hdu.header.update(LTV1=0.25, LTV2=0.25, LTM1_1=0.5, LTM2_2=0.5)
    flt = calibrate(exposure, overwrite=True)
    np.testing.assert_allclose(fits.getdata(flt, "SCI"), plain / 1.1, rtol=1e-6)
    assert fits.getval(flt, "SHADCORR") == "COMPLETE"


def test_no_exposure_time_means_no_shading(exposure: Any, write_image_reference: Callable[..., None]) -> None:
    write_image_reference(exposure.jref / "shd.fits", np.ones((32, 48)), untrimmed=False)
    exposure.write(SHADCORR="PERFORM", SHADFILE="jref$shd.fits", EXPTIME=0.0)
    assert fits.getval(calibrate(exposure), "SHADCORR") == "SKIPPED"


def test_bias_exposure_has_read_noise_alone(exposure: Any) -> None:
    exposure.write(TARGNAME="BIAS", DARKCORR="OMIT", FLSHCORR="OMIT", FLATCORR="OMIT")
    flt = calibrate(exposure, keep_intermediate=True)
    header = fits.getheader(flt, "ERR")
    assert (header["NAXIS"], header["NPIX1"], header["NPIX2"], header["PIXVALUE"]) == (0, 48, 32, 4.0)


def test_engines_by_name() -> None:
    assert get_engine("auto").name == get_engine("builtin").name == "builtin"
    assert get_engine("calacs").name == "calacs"
    with pytest.raises(UsageError, match="no calibration engine"):
        get_engine("other")  # type: ignore[arg-type]


def test_needs_grow_with_the_frame() -> None:
    def needs(shape: tuple[int, int], chips: int, cte: bool = False) -> Any:
        described = Described("j", "WFC", "WFC", "ABCD", (), 1.0, 5e4, shape, chips, "", cte)
        return BuiltinEngine().needs(described)

    full, small = needs((2068, 4144), 2), needs((1044, 1062), 1)
    trailed = needs((2068, 4144), 2, cte=True)
    assert full.memory < trailed.memory <= 1.0e9
    assert full.seconds < trailed.seconds
    assert 0.4e9 < full.memory <= 1.0e9
    assert small.memory < full.memory
    assert full.timeout > full.seconds > small.seconds
