"""From names, programmes and targets to whole files, through astroquery and a server like MAST."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mast_server
import pytest
from astropy.io import fits
from beside import load
from mast_server import Server

from batch.config import Settings
from batch.errors import UsageError
from batch.runtime.discovery import Found

stage = load(Path(__file__).with_name("stage.py"))
search, bring = stage.search, stage.bring
ROOTS = ("j9l960a7q", "j9l960a9q", "j9l960abq")
Make = Callable[..., Settings]


def names(found: Found) -> dict[str, list[str]]:
    return {a.name: [e.rootname for e in a.exposures] for a in found.associations}


def test_an_association_with_everything_that_belongs_to_it(
    mast: Server, visit: Path, settings: Make, tmp_path: Path
) -> None:
    chosen = settings("mast", mast)
    found = search(chosen, ["J9L960010"], tmp_path / "plan")
    assert names(found) == {"j9l960010": list(ROOTS)}
    (association,) = found.associations
    exposure = association.exposures[0]
    assert (exposure.detector, exposure.aperture, exposure.filters) == ("WFC", "WFC1-1K", ("F606W",))
    assert (exposure.shape, exposure.exptime, exposure.start) == ((256, 512), 339.0, 53900.0)
    assert exposure.size == (visit / "j9l960a7q_raw.fits").stat().st_size
    assert exposure.origin == "mast:HST/product/j9l960a7q_raw.fits"
    assert association.member_types[ROOTS[0]] == "EXP-DTH"
    # nothing whole but the table has been asked for
    assert set(mast_server.counts(mast)) == {"j9l960010_asn.fits"}
    # CRDS gets a header to look at
    assert fits.getheader(found.headers[ROOTS[0]], 0)["ROOTNAME"] == ROOTS[0]
    outcome = bring(association, ROOTS[0], chosen, tmp_path / "area")
    assert [p.kind for p in outcome.products] == ["raw", "spt", "asn"]
    for name in ("j9l960a7q_raw.fits", "j9l960a7q_spt.fits"):
        assert (tmp_path / "area" / name).read_bytes() == (visit / name).read_bytes()
    with fits.open(tmp_path / "area/j9l960010_asn.fits") as hdus:
        assert list(hdus[1].data["MEMTYPE"]) == ["EXP-DTH"] * 3
    with fits.open(visit / "j9l960010_asn.fits") as hdus:
        assert "PROD-DTH" in hdus[1].data["MEMTYPE"]


@pytest.mark.parametrize(
    ("wanted", "changes", "expected"),
    [
        (["j9l960a9q"], [], {"j9l960010"}),
        ([], ["search.proposal=10775"], {"j9l960010", "j9l961_wfc_f814w"}),
        ([], ["search.proposal=10775", "search.visits=['61']"], {"j9l961_wfc_f814w"}),
        ([], ["search.target='NGC 104'"], {"j9l960010", "j9l961_wfc_f814w"}),
        ([], ["search.target='6.02 -72.08'", "search.radius=1"], {"j9l960010", "j9l961_wfc_f814w"}),
        ([], ["search.target='NGC 104'", "search.filters=['f814w']"], {"j9l961_wfc_f814w"}),
        ([], ["search.proposal=10775", "search.after=2006-06-20"], {"j9l961_wfc_f814w"}),
        ([], ["search.proposal=10775", "search.before=2006-06-20"], {"j9l960010"}),
        (["@list.txt"], [], {"j9l960010", "j9l961_wfc_f814w"}),
        ([], ["search.datasets_from=table.csv"], {"j9l961_wfc_f814w"}),
    ],
)
def test_searches(
    visit: Path,
    settings: Make,
    tmp_path: Path,
    wanted: list[str],
    changes: list[str],
    expected: set[str],
    write_raw: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    late = {
        "ASN_ID": "NONE",
        "FILTER1": "CLEAR1L",
        "FILTER2": "F814W",
        "EXPSTART": 53930.0,
        "EXPEND": 53930.1,
    }
    write_raw(visit, "j9l961abq", **late)
    write_raw(visit, "jb1f01abq", PROPOSID=9000, TARGNAME="M31", RA_TARG=10.7, DEC_TARG=41.3, ASN_ID="NONE")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.txt").write_text("# two\nJ9L960010\nj9l961abq  # single\n")
    (tmp_path / "table.csv").write_text("rootname,x\nj9l961abq,1\n")
    with mast_server.serve(visit) as server:
        redirect(monkeypatch, server)
        found = search(settings("mast", server, *changes), wanted, tmp_path / "plan")
    assert set(names(found)) == expected


def redirect(monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
    """The name resolver and the look-up of the public bucket have addresses that nobody can set."""
    import requests

    real = requests.get

    def get(url: str, **options: Any) -> requests.Response:
        for host in ("http://mastresolver.stsci.edu", "https://mast.stsci.edu"):
            url = url.replace(host, server.url)
        return real(url, **options)

    monkeypatch.setattr(requests, "get", get)


def test_a_target_nobody_knows(
    mast: Server, settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    redirect(monkeypatch, mast)
    with pytest.raises(UsageError, match="Could not resolve"):
        search(settings("mast", mast, "search.target='Nowhere 7'"), [], tmp_path / "plan")


def test_what_mast_does_not_have(mast: Server, settings: Make, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no ACS exposures are found"):
        search(settings("mast", mast), ["jzzz99010"], tmp_path / "plan")
    with pytest.raises(UsageError, match="jzzz99010: no such association or exposure in mast"):
        search(settings("mast", mast), ["jzzz99010", "j9l960010"], tmp_path / "plan")


def test_a_second_run_downloads_nothing_again(mast: Server, settings: Make, tmp_path: Path) -> None:
    chosen = settings("mast", mast)
    for number in (1, 2):
        (association,) = search(chosen, ["j9l960010"], tmp_path / "plan").associations
        for root in ROOTS:
            bring(association, root, chosen, tmp_path / f"{number}-{root}")
    whole = mast_server.counts(mast)
    assert {n: c for n, c in whole.items() if not n.endswith("asn.fits")} == {
        f"{root}_{kind}.fits": 1 for root in ROOTS for kind in ("raw", "spt")
    }


def test_the_same_file_is_the_same_wherever_it_comes_from(
    mast: Server, visit: Path, settings: Make, tmp_path: Path, bucket: str
) -> None:
    """What a fingerprint rests on."""
    places = {"mast": settings("mast", mast), "s3": settings(bucket)}
    found = {k: search(s, ["j9l960010"], tmp_path / k).associations[0] for k, s in places.items()}
    assert [e.identity for e in found["mast"].members] == [e.identity for e in found["s3"].members]
    assert found["s3"].exposures[0].origin == f"{bucket}/j9l960a7q_raw.fits"
    outcome = bring(found["s3"], ROOTS[1], places["s3"], tmp_path / "area")
    assert [p.kind for p in outcome.products] == ["raw", "spt", "asn"]
    assert (tmp_path / "area/j9l960a9q_raw.fits").read_bytes() == (visit / "j9l960a9q_raw.fits").read_bytes()


def test_the_public_bucket(
    mast: Server, visit: Path, settings: Make, tmp_path: Path, public: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in it comes from there, what is not from MAST."""
    redirect(monkeypatch, mast)
    chosen = settings("cloud", mast)
    (association,) = search(chosen, ["j9l960010"], tmp_path / "plan").associations
    for root in ROOTS:
        bring(association, root, chosen, tmp_path / root)
        assert (tmp_path / root / f"{root}_raw.fits").read_bytes() == (
            visit / f"{root}_raw.fits"
        ).read_bytes()
    came = mast_server.counts(mast)
    assert "j9l960a7q_raw.fits" not in came
    assert came[public] == 1


def test_a_mirror_with_folders_of_its_own(visit: Path, settings: Make, tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    for path in visit.iterdir():
        (mirror / path.name[:4] / path.name[:9]).mkdir(parents=True, exist_ok=True)
        path.rename(mirror / path.name[:4] / path.name[:9] / path.name)
    chosen = settings(f"file://{mirror}")
    (association,) = search(chosen, ["j9l960010"], tmp_path / "plan").associations
    outcome = bring(association, ROOTS[0], chosen, tmp_path / "area")
    assert [p.kind for p in outcome.products] == ["raw", "spt", "asn"]


def test_proprietary_files_need_the_token(
    visit: Path, settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MAST_API_TOKEN", raising=False)
    with mast_server.serve(visit, token="sesame", restricted=("j9l960a9q_*",)) as server:
        chosen = settings("mast", server)
        (without,) = search(chosen, ["j9l960010"], tmp_path / "plan").associations
        assert without.member("j9l960a9q").detector == ""
        assert "gives this file to its owner alone" in without.member("j9l960a9q").trouble
        monkeypatch.setenv("MAST_API_TOKEN", "sesame")
        (association,) = search(chosen, ["j9l960010"], tmp_path / "plan").associations
        bring(association, "j9l960a9q", chosen, tmp_path / "area")
        # the token goes with no request that does not need it
        sent = [p for _, p, headers in server.log if "Authorization" in headers]
        assert sent
        assert all("j9l960a9q" in path for path in sent)
