"""A raw file that is not whole is refused, with the HDU or keyword in the message."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from batch.archive.headers import describe
from batch.errors import InputError
from batch.storage.raw import check_whole


@pytest.fixture
def good(tmp_path: Path, shared: Path) -> Path:
    """A real HRC raw exposure of NGC 104."""
    return Path(shutil.copy(shared / "data/real/j8bt05njq_raw.fits", tmp_path))


def test_a_real_exposure_is_whole(good: Path) -> None:
    check_whole(good)
    exposure = describe(good).exposure
    assert (exposure.detector, exposure.amps, exposure.filters) == ("HRC", "C", ("F555W",))
    assert exposure.shape == (1044, 1062)


def truncate(path: Path, share: float) -> None:
    with path.open("r+b") as stream:
        stream.truncate(int(path.stat().st_size * share))


def rewrite(path: Path, change: Callable[[fits.HDUList], None]) -> None:
    with fits.open(path, memmap=False) as hdus:
        change(hdus)
        hdus.writeto(path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


def not_a_number(hdus: fits.HDUList) -> None:
    data = hdus["SCI", 1].data.astype("float32")
    data[3, 4:6] = np.nan
    hdus["SCI", 1].data = data


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_truncated_file(good: Path, share: float) -> None:
    truncate(good, share)
    with pytest.raises(InputError, match=r"j8bt05njq_raw\.fits.*(cut short|cannot be read).*fetch it again"):
        check_whole(good)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h: h.pop(1), r"\[SCI,1\]: there is no such extension"),
        (not_a_number, r"\[SCI,1\]: 2 pixels are NaN or infinite"),
        (lambda h: h[0].header.set("DETECTOR", "SBC"), r"\[0\] DETECTOR: 'SBC' is not supported"),
        (lambda h: h[0].header.set("INSTRUME", "WFC3"), r"\[0\] INSTRUME: 'WFC3' is not ACS"),
        (lambda h: h[0].header.remove("CCDAMP"), r"\[0\] CCDAMP: missing"),
        (lambda h: h[0].header.set("EXPTIME", -1.0), r"\[0\] EXPTIME: -1.0 makes no sense"),
        (lambda h: h[0].header.set("EXPTIME", "long"), r"cannot be read"),
    ],
)
def test_what_is_wrong_is_named(good: Path, change: Callable[[fits.HDUList], None], message: str) -> None:
    rewrite(good, change)
    with pytest.raises(InputError, match=r"j8bt05njq_raw\.fits.*" + message):
        check_whole(good)


@pytest.mark.parametrize(
    "content", [b"", b"not FITS at all", b"SIMPLE  =                    T" + b" " * 2851]
)
def test_no_fits_at_all(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "j8bt05njq_raw.fits"
    path.write_bytes(content)
    for look in (check_whole, describe):
        with pytest.raises(InputError, match=r"j8bt05njq_raw\.fits"):
            look(path)
