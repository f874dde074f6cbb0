"""A mosaic that shows nothing, or no numbers, is not published."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from batch.drizzling.astrodrizzle import combine_type
from batch.drizzling.mosaic import check, rename, suffix
from batch.errors import InputError, LibraryError

SHAPE = (600, 40)


def write(folder: Path, sci: np.ndarray, wht: np.ndarray) -> dict[str, Path]:
    header = fits.Header(
        {
            "CRVAL1": 5.6, "CRVAL2": -72.0, "CRPIX1": 20.5, "CRPIX2": 300.5, "CD1_1": -1e-5, "CD1_2": 0.0,
            "CD2_1": 0.0, "CD2_2": 1e-5, "EXPTIME": 1356.0, "FILENAME": "final_drz_sci.fits",
            "D001OUWE": "final_drz_wht.fits", "D001OUDA": "final_drz.fits", "ROOTNAME": "final",
            "RULEFILE": "/home/me/venv/lib/acs_header.rules",
        }
    )  # fmt: skip
    made = {}
    for extension, pixels in {"sci": sci, "wht": wht, "ctx": (wht > 0).astype(np.int32)}.items():
        made[extension] = folder / f"final_drz_{extension}.fits"
        fits.PrimaryHDU(pixels, header).writeto(made[extension])
    return made


@pytest.fixture
def planes() -> tuple[np.ndarray, np.ndarray]:
    sci, wht = np.ones(SHAPE, np.float32), np.full(SHAPE, 339.0, np.float32)
    # outside the footprint
    sci[:150], wht[:150] = np.nan, 0.0
    return sci, wht


def test_a_sound_mosaic_is_described(tmp_path: Path, planes: tuple[np.ndarray, np.ndarray]) -> None:
    assert check(write(tmp_path, *planes)) == {
        "shape": [600, 40],
        "crval": [5.6, -72.0],
        "crpix": [20.5, 300.5],
        "cd": [[-1e-5, 0.0], [0.0, 1e-5]],
        "exptime": 1356.0,
        "covered": 0.75,
    }


@pytest.mark.parametrize("row", [151, 599])
@pytest.mark.parametrize(("plane", "value"), [(0, np.nan), (0, np.inf), (1, -1.0), (1, np.nan)])
def test_a_single_bad_pixel_is_seen(
    tmp_path: Path, planes: tuple[np.ndarray, np.ndarray], plane: int, value: float, row: int
) -> None:
    planes[plane][row, 7] = value
    with pytest.raises(LibraryError, match=r"final_drz_sci\.fits: rows"):
        check(write(tmp_path, *planes))


def test_a_mosaic_without_weight_is_the_users_business(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no pixel has weight.*combine\.bits"):
        check(write(tmp_path, np.full(SHAPE, np.nan, np.float32), np.zeros(SHAPE, np.float32)))


@pytest.mark.parametrize(
    "folder", ["/v", "/home/me/a/folder/with/a/long/name/venv/lib/python3.11/site-packages"]
)
def test_where_a_mosaic_was_made_shows_nowhere(
    tmp_path: Path, planes: tuple[np.ndarray, np.ndarray], folder: str
) -> None:
    """Behind a long path there is no room for the comment: it is the same without the path."""
    made = write(tmp_path, *planes)
    for path in made.values():
        fits.setval(path, "RULEFILE", value=f"{folder}/acs_header.rules", comment="cut off here?")
    header = fits.getheader(rename(made, "j9l960010_drz")["sci"])
    assert header.cards["RULEFILE"][1:] == ("acs_header.rules", "Name of header kw rules file")


def test_renaming_reaches_the_headers(tmp_path: Path, planes: tuple[np.ndarray, np.ndarray]) -> None:
    made = rename(write(tmp_path, *planes), "j9l960010_pf0.3_drz")
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "j9l960010_pf0.3_drz_ctx.fits",
        "j9l960010_pf0.3_drz_sci.fits",
        "j9l960010_pf0.3_drz_wht.fits",
    ]
    header = fits.getheader(made["sci"])
    assert header["FILENAME"] == "j9l960010_pf0.3_drz_sci.fits"
    assert header["D001OUWE"] == "j9l960010_pf0.3_drz_wht.fits"
    assert header["D001OUDA"] == "j9l960010_pf0.3_drz.fits"
    assert header["ROOTNAME"] == "j9l960010_pf0.3"
    # nothing of the machine
    assert header["RULEFILE"] == "acs_header.rules"
    np.testing.assert_array_equal(fits.getdata(made["sci"]), planes[0])


@pytest.mark.parametrize("count", [7, 8, 9, 20])
def test_the_median_of_many_exposures_is_taken_of_an_odd_number(count: int) -> None:
    chosen = combine_type(count)
    assert chosen["combine_type"] == "median"
    assert (count - chosen["combine_nhigh"]) % 2 == 1


@pytest.mark.parametrize(
    ("switches", "expected"),
    [
        (("COMPLETE", "COMPLETE"), "drc"),
        (("COMPLETE", "PERFORM"), "drz"),
        (("OMIT", "OMIT"), "drz"),
        ((None, "COMPLETE"), "drz"),
    ],
)
def test_the_suffix_is_the_archives(tmp_path: Path, switches: tuple[str | None, ...], expected: str) -> None:
    paths = []
    for number, switch in enumerate(switches):
        hdu = fits.PrimaryHDU()
        if switch:
            hdu.header["PCTECORR"] = switch
        paths.append(tmp_path / f"{number}_flt.fits")
        hdu.writeto(paths[-1])
    assert suffix(paths) == expected
