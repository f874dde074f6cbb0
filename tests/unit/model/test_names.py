"""A name from a table or header never becomes more than a file name."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch.errors import UnsafeNameError
from batch.model.names import plain_name, rootname

EVIL = [
    "../../etc",
    "/etc/passwd",
    "a/b",
    "..",
    ".",
    "",
    "a\\b",
    "a\0b",
    "-rf",
    "~root",
    "$HOME",
    "a b",
    "ä" * 9,
    "a\nb",
]


@pytest.mark.parametrize("name", EVIL)
def test_evil_names_are_refused_with_their_place(name: str) -> None:
    for check in (rootname, plain_name):
        with pytest.raises(UnsafeNameError, match=r"x_asn\.fits\[1\] MEMNAME"):
            check(name, "x_asn.fits[1] MEMNAME")


@pytest.mark.parametrize("name", ["J9L960A7Q", "j9l960a7q ", "jb2d01abq"])
def test_rootnames_are_lower_case(name: str) -> None:
    assert rootname(name, "x") == name.strip().lower()


@given(st.text(max_size=70))
def test_what_passes_stays_in_its_folder(text: str) -> None:
    for check in (rootname, plain_name):
        try:
            name = check(text, "x")
        except UnsafeNameError:
            continue
        assert (Path("/work") / name).resolve().parent == Path("/work")
