"""From a folder of raw files to associations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from batch.archive.tables import read_table
from batch.config import Settings
from batch.config.archive import AssociateSettings, FetchSettings
from batch.errors import InputError, UnsafeNameError, UsageError
from batch.model.observation import Association
from batch.runtime.discovery import find


def raw(folder: Path, root: str, sci: bool = True, **keywords: Any) -> Path:
    """The smallest raw file that discovery takes."""
    primary = fits.PrimaryHDU()
    primary.header.update(
        {
            "ROOTNAME": root,
            "INSTRUME": "ACS",
            "DETECTOR": "WFC",
            "APERTURE": "WFC1-1K",
            "FILTER1": "F606W",
            "FILTER2": "CLEAR2L",
            "EXPTIME": 339.0,
            "EXPSTART": 53900.0,
            "EXPEND": 53900.1,
            "SUBARRAY": True,
            "CCDAMP": "A",
            "CCDGAIN": 2.0,
            "NEXTEND": 3,
        }
    )
    for key, value in keywords.items():
        if value is None:
            del primary.header[key]
        else:
            primary.header[key] = value
    science = fits.ImageHDU(np.zeros((4, 6), "uint16"), name="SCI")
    path = folder / f"{root}_raw.fits"
    fits.HDUList([primary, science] if sci else [primary]).writeto(path)
    return path


def asn(folder: Path, name: str, members: Sequence[tuple[str, str]]) -> None:
    table = Table(
        [[m for m, _ in members], [t for _, t in members], [True] * len(members)],
        names=["MEMNAME", "MEMTYPE", "MEMPRSNT"],
    )
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU(table)]).writeto(folder / f"{name}_asn.fits")


ROOTS = ("j9l960a7q", "j9l960a9q", "j9l960abq")


@pytest.fixture
def visit(tmp_path: Path) -> Path:
    for number, root in enumerate(ROOTS):
        raw(tmp_path, root, EXPSTART=53900.0 - number)
    asn(tmp_path, "j9l960010", [(r.upper(), "EXP-DTH") for r in ROOTS] + [("J9L960010", "PROD-DTH")])
    return tmp_path


def discover(
    folder: Path, associate: AssociateSettings, wanted: Sequence[str] = ()
) -> tuple[Association, ...]:
    settings = Settings(associate=associate, fetch=FetchSettings(source=str(folder)))
    return find(settings, wanted, folder / "unused").associations


def names(associations: Any) -> dict[str, list[str]]:
    return {a.name: [e.rootname for e in a.exposures] for a in associations}


def test_an_association_table_in_order_of_time(visit: Path) -> None:
    assert names(discover(visit, AssociateSettings())) == {"j9l960010": list(reversed(ROOTS))}


def test_without_a_table_by_visit_detector_and_filter(tmp_path: Path) -> None:
    raw(tmp_path, "j9l960a7q")
    raw(tmp_path, "j9l960a9q", FILTER1="F814W")
    raw(tmp_path, "j9l961abq")
    assert names(discover(tmp_path, AssociateSettings())) == {
        "j9l960_wfc_f606w": ["j9l960a7q"],
        "j9l960_wfc_f814w": ["j9l960a9q"],
        "j9l961_wfc_f606w": ["j9l961abq"],
    }


def test_what_is_known_of_an_exposure(visit: Path) -> None:
    exposure = discover(visit, AssociateSettings())[0].member("j9l960a7q")
    assert exposure.filters == ("F606W",)
    assert (exposure.detector, exposure.amps, exposure.exptime, exposure.chips) == ("WFC", "A", 339.0, 1)
    assert exposure.shape == (4, 6)


@pytest.mark.parametrize(
    ("keywords", "reason"),
    [
        ({"FILTER1": "F814W"}, "filter F814W, the others F606W"),
        ({"EXPTIME": 30.0}, "exposure time 30 s, more than a factor 3 off the median of 339 s"),
        ({"EXPTIME": 0.0}, "exposure time 0 s"),
        ({"DETECTOR": "HRC"}, "detector HRC, the others WFC"),
    ],
)
def test_odd_ones_are_set_aside_with_the_reason(visit: Path, keywords: dict[str, Any], reason: str) -> None:
    (visit / "j9l960abq_raw.fits").unlink()
    raw(visit, "j9l960abq", **keywords)
    (found,) = discover(visit, AssociateSettings())
    assert [e.rootname for e in found.exposures] == ["j9l960a9q", "j9l960a7q"]
    assert [s.exposure.rootname for s in found.set_aside] == ["j9l960abq"]
    assert found.set_aside[0].reason.startswith(reason)


@pytest.mark.parametrize(
    ("filters", "reason"),
    [
        (("G800L", "CLEAR2L"), "G800L is a grism"),
        (("CLEAR1S", "PR200L"), "PR200L is a prism"),
        (("CLEAR1L", "FR656N"), "FR656N is a ramp filter"),
        (("F606W", "POL0V"), "POL0V is a polariser"),
    ],
)
def test_what_is_no_plain_image_is_set_aside(visit: Path, filters: tuple[str, str], reason: str) -> None:
    """Even where most of the exposures are of that kind."""
    for root in ROOTS[1:]:
        (visit / f"{root}_raw.fits").unlink()
        raw(visit, root, FILTER1=filters[0], FILTER2=filters[1])
    (found,) = discover(visit, AssociateSettings())
    assert [e.rootname for e in found.exposures] == ["j9l960a7q"]
    assert [s.exposure.rootname for s in found.set_aside] == ["j9l960a9q", "j9l960abq"]
    assert all(s.reason.startswith(reason) for s in found.set_aside)


def test_an_association_of_grism_exposures_is_calibrated_only(tmp_path: Path) -> None:
    from batch.model.plan import expand
    from batch.stages import pipeline

    raw(tmp_path, "j9l960a7q", FILTER1="G800L")
    (found,) = discover(tmp_path, AssociateSettings())
    assert not found.exposures
    tasks = expand(pipeline(), [found], {}, (0.5, 1.0), typed_settings=Settings())
    assert [t.stage for t in tasks] == ["fetch", "references", "calibrate", "wcs"]


def test_the_factor_is_the_users(visit: Path) -> None:
    (visit / "j9l960abq_raw.fits").unlink()
    raw(visit, "j9l960abq", EXPTIME=30.0)
    (found,) = discover(visit, AssociateSettings(exptime_factor=20))
    assert not found.set_aside


@pytest.mark.parametrize("how", ["missing", "empty", "text", "no SCI", "no DETECTOR", "SBC"])
def test_a_broken_exposure_stays_a_member(visit: Path, how: str) -> None:
    """So that its fetch task can fail and say why, while the others go on."""
    path = visit / "j9l960abq_raw.fits"
    path.unlink()
    if how == "empty":
        path.touch()
    elif how == "text":
        path.write_text("not FITS")
    elif how == "no SCI":
        raw(visit, "j9l960abq", sci=False)
    elif how == "no DETECTOR":
        raw(visit, "j9l960abq", DETECTOR=None)
    elif how == "SBC":
        raw(visit, "j9l960abq", DETECTOR="SBC")
    (found,) = discover(visit, AssociateSettings())
    assert {e.rootname for e in found.exposures} == set(ROOTS)
    assert found.member("j9l960abq").detector == ""
    assert not found.set_aside


def test_excluded_exposures_are_not_there(visit: Path) -> None:
    (found,) = discover(visit, AssociateSettings(exclude=("J9L960ABQ",)))
    assert {e.rootname for e in found.members} == set(ROOTS[:2])


def test_wanted_by_association_or_exposure(visit: Path) -> None:
    raw(visit, "j9l961abq")
    assert len(discover(visit, AssociateSettings())) == 2
    assert names(discover(visit, AssociateSettings(), ["J9L960010"])).keys() == {"j9l960010"}
    assert names(discover(visit, AssociateSettings(), ["j9l961abq"])).keys() == {"j9l961_wfc_f606w"}


@pytest.mark.parametrize("wanted", [["j9l962010"], ["../x"]])
def test_what_is_not_there_is_named(visit: Path, wanted: list[str]) -> None:
    with pytest.raises(UsageError, match="no such association or exposure"):
        discover(visit, AssociateSettings(), wanted)


def test_an_unknown_exclusion_is_named(visit: Path) -> None:
    with pytest.raises(UsageError, match="--exclude j00000000: no such exposure"):
        discover(visit, AssociateSettings(exclude=("j00000000",)))


@pytest.mark.parametrize("name", ["../../../etc", "/etc/passwd", "..", "a/b", "J9L9 0A7Q", "J9L960A7Q0", ""])
def test_a_table_that_leads_out_is_refused(visit: Path, name: str) -> None:
    asn(visit, "evil", [(name, "EXP-DTH")])
    with pytest.raises(UnsafeNameError, match=r"evil_asn\.fits\[1\] MEMNAME"):
        discover(visit, AssociateSettings())


def test_a_raw_file_with_an_odd_name_is_refused(tmp_path: Path) -> None:
    raw(tmp_path, "j9l960 a7q")
    with pytest.raises(UnsafeNameError, match="is not a rootname"):
        discover(tmp_path, AssociateSettings())


def test_no_table_in_an_asn_file(tmp_path: Path) -> None:
    path = tmp_path / "x_asn.fits"
    fits.PrimaryHDU().writeto(path)
    with pytest.raises(InputError, match=r"x_asn\.fits\[1\]: no association table"):
        read_table(path)


@pytest.mark.parametrize("content", ["nothing", "no folder"])
def test_an_empty_folder_is_wrong_use(tmp_path: Path, content: str) -> None:
    with pytest.raises(UsageError, match="give the folder of the raw files"):
        discover(tmp_path if content == "nothing" else tmp_path / "none", AssociateSettings())


def test_the_stamp_follows_the_file(visit: Path) -> None:
    before = discover(visit, AssociateSettings())[0].member("j9l960a7q").stamp
    (visit / "j9l960a7q_raw.fits").unlink()
    raw(visit, "j9l960a7q", EXPTIME=340.0)
    assert discover(visit, AssociateSettings())[0].member("j9l960a7q").stamp != before
