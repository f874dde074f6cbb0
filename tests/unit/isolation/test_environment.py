"""The folder that ``jref`` means."""

from __future__ import annotations

from pathlib import Path

import pytest

from batch.errors import MissingReferenceError, UnsafeNameError
from batch.isolation.environment import reference_environment, reference_folder


def test_references_from_several_places_are_found_in_one_folder(tmp_path: Path) -> None:
    files = {}
    for name in ("a_idc.fits", "b_npl.fits"):
        place = tmp_path / name[0]
        place.mkdir()
        (place / name).write_text(name)
        files[name] = place / name
    area = tmp_path / "area"
    area.mkdir()
    folder = reference_folder(files, area)
    assert folder.is_absolute()
    # a retry in the same area, with one file replaced
    (tmp_path / "new").write_text("new")
    reference_folder({"a_idc.fits": tmp_path / "new"}, area)
    value = reference_environment(folder)["jref"]
    assert value.endswith("/")
    assert Path(value + "a_idc.fits").read_text() == "new"
    assert Path(value + "b_npl.fits").read_text() == "b_npl.fits"


@pytest.mark.parametrize("name", ["../x.fits", "/x.fits", "a/b.fits", "..", ".", "", "a\\b.fits", "a\0.fits"])
def test_a_name_that_leaves_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    there = tmp_path / "x.fits"
    there.write_text("x")
    with pytest.raises(UnsafeNameError):
        reference_folder({name: there}, tmp_path)


def test_one_message_names_every_missing_file(tmp_path: Path) -> None:
    with pytest.raises(MissingReferenceError, match=r"a\.fits.*b\.fits"):
        reference_folder({"b.fits": tmp_path / "gone" / "b", "a.fits": tmp_path / "gone" / "a"}, tmp_path)
