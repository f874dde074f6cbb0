"""Which exposures become one mosaic: dithers, CR-split, repeat-obs, mixtures, several visits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from astropy.io import fits
from beside import load

from batch.config import Settings
from batch.runtime.discovery import Found

stage = load(Path(__file__).with_name("stage.py"))
Make = Callable[..., Settings]
Write = Callable[..., Path]

KINDS = {
    "dithers": ["EXP-DTH", "EXP-DTH"],
    "CR-split": ["EXP-CRJ", "EXP-CRJ"],
    "repeat-obs": ["EXP-RPT", "EXP-RPT"],
    "dithered CR-split": ["EXP-CR1", "EXP-CR1", "EXP-CR2", "EXP-CR2"],
    "mixed": ["EXP-CR1", "EXP-CR1", "EXP-DTH", "EXP_RP2", "EXP-RP2"],
}
PRODUCTS = {
    "dithers": ["PROD-DTH"],
    "CR-split": ["PROD-CRJ"],
    "repeat-obs": ["PROD-RPT"],
    "dithered CR-split": ["PROD-CR1", "PROD-CR2", "PROD-DTH"],
    "mixed": ["PROD-CR1", "PROD-RP2", "PROD-DTH"],
}


def groups(found: Found) -> dict[str, list[str]]:
    return {a.name: [e.rootname for e in a.members] for a in found.associations}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_association(
    kind: str, tmp_path: Path, settings: Make, write_raw: Write, write_asn: Write
) -> None:
    folder = tmp_path / "raw"
    folder.mkdir()
    rows = [(f"j9l960a{i}q", member, True) for i, member in enumerate(KINDS[kind])]
    for number, (root, _, _) in enumerate(rows):
        write_raw(folder, root, EXPSTART=53900.0 + number)
    rows += [(f"j9l96001{i}", product, True) for i, product in enumerate(PRODUCTS[kind])]
    table = write_asn(folder, "j9l960010", rows)
    content = table.read_bytes()
    chosen = settings(str(folder))
    found = stage.search(chosen, [], tmp_path / "plan")
    assert groups(found) == {"j9l960010": [r for r, m, _ in rows if m.startswith("EXP")]}
    outcome = stage.bring(found.associations[0], "j9l960a0q", chosen, tmp_path / "area")
    assert [p.kind for p in outcome.products] == ["raw", "asn"]
    with fits.open(tmp_path / "area/j9l960010_asn.fits") as hdus:
        kept = list(hdus[1].data["MEMTYPE"])
    # the working copy alone goes without what drizzling makes anew
    assert kept == KINDS[kind] + [p for p in PRODUCTS[kind] if p != "PROD-DTH"]
    assert table.read_bytes() == content


@pytest.fixture
def visits(visit: Path, write_raw: Write, write_asn: Write) -> Path:
    """Two visits to one target, each with its table; another filter; another target."""
    for number, root in enumerate(("j9l961aaq", "j9l961abq")):
        write_raw(visit, root, ASN_ID="J9L961010", EXPSTART=53910.0 + number / 100)
    write_asn(visit, "j9l961010", [("j9l961aaq", "EXP-DTH", True), ("j9l961abq", "EXP-DTH", True)])
    write_raw(visit, "j9l961acq", ASN_ID="NONE", FILTER1="CLEAR1L", FILTER2="F814W")
    write_raw(visit, "j9l970aaq", ASN_ID="NONE", TARGNAME="M-31", RA_TARG=10.7, DEC_TARG=41.3)
    return visit


FIRST, SECOND = ["j9l960a7q", "j9l960a9q", "j9l960abq"], ["j9l961aaq", "j9l961abq"]


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        (
            "association",
            {
                "j9l960010": FIRST,
                "j9l961010": SECOND,
                "j9l961_wfc_f814w": ["j9l961acq"],
                "j9l970_wfc_f606w": ["j9l970aaq"],
            },
        ),
        (
            "visit",
            {
                "j9l960_wfc_f606w": FIRST,
                "j9l961_wfc_f606w": SECOND,
                "j9l961_wfc_f814w": ["j9l961acq"],
                "j9l970_wfc_f606w": ["j9l970aaq"],
            },
        ),
        (
            "target",
            {
                "ngc104_wfc_f606w": FIRST + SECOND,
                "ngc104_wfc_f814w": ["j9l961acq"],
                "m-31_wfc_f606w": ["j9l970aaq"],
            },
        ),
        ("all", {"all_wfc_f606w": ["j9l970aaq", *FIRST, *SECOND], "all_wfc_f814w": ["j9l961acq"]}),
    ],
)
def test_groups(
    by: str, expected: dict[str, list[str]], visits: Path, settings: Make, tmp_path: Path
) -> None:
    found = stage.search(settings(str(visits), None, f"associate.by={by}"), [], tmp_path / "plan")
    assert {n: sorted(m) for n, m in groups(found).items()} == {n: sorted(m) for n, m in expected.items()}


def test_two_visits_in_one_mosaic(visits: Path, settings: Make, tmp_path: Path) -> None:
    """By the names of the archive's associations."""
    chosen = settings(str(visits), None, "associate.by=target", "search.filters=['F606W']")
    found = stage.search(chosen, ["j9l960010", "j9l961010"], tmp_path / "plan")
    assert groups(found) == {"ngc104_wfc_f606w": FIRST + SECOND}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (["search.filters=['f814w']"], {"j9l961_wfc_f814w"}),
        (["search.target='NGC 104'"], {"j9l960010", "j9l961010", "j9l961_wfc_f814w"}),
        (["search.target='10.7 41.3'"], {"j9l970_wfc_f606w"}),
        (["search.visits=['61']"], {"j9l961010", "j9l961_wfc_f814w"}),
        (["search.after=2006-06-20", "associate.by=visit"], {"j9l961_wfc_f606w"}),
        (
            ["search.proposal=10775", "associate.exclude=['j9l961acq']"],
            {"j9l960010", "j9l961010", "j9l970_wfc_f606w"},
        ),
    ],
)
def test_conditions_hold_for_folders_too(
    changes: list[str], expected: set[str], visits: Path, settings: Make, tmp_path: Path
) -> None:
    assert set(groups(stage.search(settings(str(visits), None, *changes), [], tmp_path / "plan"))) == expected
