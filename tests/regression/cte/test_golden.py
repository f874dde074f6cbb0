"""acscte 10.5.0: pixels, keywords and HISTORY of its products."""

from __future__ import annotations

import bz2
import gzip
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from numpy.typing import NDArray

from batch.calibration.cte import correct, correct_image, forward_image, read_table
from batch.errors import InputError, MissingReferenceError
from batch.storage.fits import Image, Imset, read_image

CORRECTED = [f"cte_{epoch}_{amp}" for epoch in ("post_tall", "post_wide", "pre_tall") for amp in "abcd"]
READ_OUT = ["cte_forward_b", "cte_forward_c"]
Unpack = Callable[[Path], Path]


def source(golden: Path, unpack: Unpack, case: str) -> Path:
    """The blv_tmp that a case starts from."""
    folder = golden / "cases" / case
    (packed,) = (folder if case in READ_OUT else folder / "expected").glob("*_blv_tmp.fits.gz")
    return unpack(packed)


def expected(golden: Path, case: str) -> tuple[str, dict[str, Any]]:
    headers = json.loads((golden / "cases" / case / "expected_headers.json").read_text())
    suffix = "ctefmod" if case in READ_OUT else "blc_tmp"
    (name,) = (n for n in headers if n.endswith(suffix))
    return name, headers[name]


def assert_electrons(sci: NDArray[np.float32], truth: NDArray[np.float32]) -> None:
    """The bound of the specification (11.1)."""
    excess = np.abs(sci.astype(np.float64) - truth) - (1e-4 + 2.4e-7 * np.abs(truth))
    assert excess.max() <= 0


def assert_like_digest(imset: Imset, digest: Mapping[str, NDArray[Any]], name: str) -> None:
    """Kept rows, and the sums over all pixels."""
    rows = {k: digest[f"{name}.{k}1.rowindex"] for k in ("SCI", "ERR")}
    assert_electrons(imset.sci[rows["SCI"]], digest[f"{name}.SCI1.rows"])
    np.testing.assert_allclose(imset.err[rows["ERR"]], digest[f"{name}.ERR1.rows"], rtol=1e-6)
    for axis, key in ((0, "colsum"), (1, "rowsum")):
        size = np.abs(imset.sci).sum(axis=axis, dtype=np.float64)
        difference = np.abs(imset.sci.sum(axis=axis, dtype=np.float64) - digest[f"{name}.SCI1.{key}"])
        assert (difference <= 1e-8 * size + 1e-5).all()


@pytest.mark.parametrize("case", [*CORRECTED, *READ_OUT])
def test_products_agree(golden: Path, jref: Path, unpack: Unpack, case: str) -> None:
    path = source(golden, unpack, case)
    image = read_image(path)
    run = forward_image if case in READ_OUT else correct_image
    result = run(image, jref=jref, threads=2, where=path)
    (imset,) = result.imsets
    name, headers = expected(golden, case)

    packed = golden / "cases" / case / "expected" / f"{name}.fits.gz"
    if packed.exists():
        with gzip.open(packed) as stream, fits.open(stream) as hdus:
            assert_electrons(imset.sci, hdus["SCI"].data)
            np.testing.assert_allclose(imset.err, hdus["ERR"].data, rtol=1e-6)
    else:
        with np.load(golden / "cases" / case / "expected.npz") as digest:
            assert_like_digest(imset, digest, name)
    np.testing.assert_array_equal(imset.dq, image.imsets[0].dq)
    assert imset.dq is not image.imsets[0].dq

    assert list(result.primary["HISTORY"]) == headers["primary_HISTORY"]
    for keyword, value in headers["primary"].items():
        if keyword in ("FILENAME", "CAL_VER"):
            continue  # written by who writes the file
        found = result.primary[keyword]
        assert found == pytest.approx(value, rel=3e-7) if isinstance(value, float) else found == value


@pytest.mark.slow
def test_full_chain_agrees(golden: Path, unpack: Unpack, tmp_path: Path) -> None:
    """raw -> blv_tmp -> blc_tmp of a whole amp."""
    from batch.calibration.stages import run_ccd_stage

    folder = golden / "cases" / "wfc_chain2k_c"
    raw = tmp_path / "jg18sc01q_raw.fits"
    raw.write_bytes(bz2.decompress((folder / f"{raw.name}.bz2").read_bytes()))
    image = read_image(raw)
    for value in {str(v) for v in image.primary.values()}:
        packed = golden / "jref" / f"{value.removeprefix('jref$')}.gz"
        if value.startswith("jref$") and packed.exists():
            jref = unpack(packed).parent
    run_ccd_stage(image, raw, jref, threads=2)
    (imset,) = correct_image(image, jref=jref, threads=2, where=raw).imsets
    with np.load(folder / "expected.npz") as digest:
        assert_like_digest(imset, digest, "jg18sc01q_blc_tmp")


def test_four_amps_are_corrected_like_one_each(golden: Path, jref: Path, unpack: Unpack) -> None:
    """Geometry, read noise and place in the table of every amp of a full frame; HISTORY in order."""
    image, path = a_case(golden, unpack, "cte_post_wide_c")
    g = np.random.default_rng(5)
    image.primary["CCDAMP"] = "ABCD"
    chips = []
    for chip in (2, 1):
        sci = g.normal(30, 5, (6, 4096)).astype(np.float32)
        imset = replace(
            image.imsets[0], extver=3 - chip, sci=sci, err=np.sqrt(np.abs(sci)), dq=sci.astype(np.int16)
        )
        imset.sci_header = image.imsets[0].sci_header.copy()
        imset.sci_header["CCDCHIP"] = chip
        chips.append(imset)
    result = correct_image(Image(image.primary, chips), jref=jref, where=path)
    table = read_table(jref / "wfc_cte.fits")
    noise = {"A": 4.35, "B": 3.75, "C": 4.05, "D": 5.05}
    for imset, given, amps in zip(result.imsets, chips, ("CD", "AB"), strict=True):
        for amp, part in zip(amps, (np.s_[:, :2048], np.s_[:, 2048:]), strict=True):
            sci, err = correct(
                given.sci[part], given.err[part], amp=amp, table=table, expstart=58000.25,
                read_noise=float(np.float32(noise[amp])),
            )  # fmt: skip
            np.testing.assert_array_equal(imset.sci[part], sci)
            np.testing.assert_array_equal(imset.err[part], err)
    passes = [line.split()[1:5] for line in result.primary["HISTORY"] if line.startswith("CORRTYPE")]
    assert passes == [["parallel", "CTE", "correction", "type"], *(["serial", "-", "Amp", a] for a in "CDAB")]


def a_case(golden: Path, unpack: Unpack, case: str = "cte_pre_tall_c") -> tuple[Image, Path]:
    path = source(golden, unpack, case)
    return read_image(path), path


@pytest.mark.parametrize(
    ("keyword", "value", "message"),
    [
        ("BLEVCORR", "OMIT", "BLEVCORR"),
        ("FIXROCR", 2, "FIXROCR"),
        ("PCTENSMD", 1, "PCTENSMD"),
        ("PCTETLEN", 101, "PCTETLEN"),
        ("PCTECORR", "OMIT", "PCTECORR"),
        ("EXPSTART", "yesterday", "EXPSTART"),
        ("CCDGAIN", 4.0, "CCDGAIN 4"),
    ],
)
def test_impossible_headers_are_refused(
    golden: Path, jref: Path, unpack: Unpack, keyword: str, value: object, message: str
) -> None:
    image, path = a_case(golden, unpack)
    image.primary[keyword] = value
    with pytest.raises(InputError, match=message) as caught:
        correct_image(image, jref=jref, where=path)
    assert path.name in caught.value.message


def test_untrimmed_images_are_refused(golden: Path, jref: Path, unpack: Unpack) -> None:
    image, path = a_case(golden, unpack)
    image.imsets[0].sci_header["LTV2"] = 20.0
    with pytest.raises(InputError, match=r"\[SCI,1\] LTV2"):
        correct_image(image, jref=jref, where=path)


@pytest.mark.parametrize("name", ["N/A", "jref$nofile.fits"])
@pytest.mark.parametrize("keyword", ["PCTETAB", "CCDTAB"])
def test_missing_references_are_named(
    golden: Path, jref: Path, unpack: Unpack, keyword: str, name: str
) -> None:
    image, path = a_case(golden, unpack)
    image.primary[keyword] = name
    with pytest.raises(MissingReferenceError, match=keyword):
        correct_image(image, jref=jref, where=path)


def test_hrc_passes_unchanged(golden: Path, jref: Path, unpack: Unpack) -> None:
    """As with calacs: the switch becomes COMPLETE although nothing is done."""
    image, path = a_case(golden, unpack)
    image.primary["DETECTOR"] = "HRC"
    result = correct_image(image, jref=jref, where=path)
    np.testing.assert_array_equal(result.imsets[0].sci, image.imsets[0].sci)
    assert result.primary["PCTECORR"] == "COMPLETE"
    assert result.primary["CTE_NAME"] == "Par/Serial PixelCTE 2023"
    assert image.primary["PCTECORR"] == "PERFORM"


def test_header_overrides(golden: Path, jref: Path, unpack: Unpack) -> None:
    """A keyword that is there is updated in place, also if its value is too small to override (2.1, 9)."""
    image, path = a_case(golden, unpack, "cte_post_tall_c")
    image.primary["PCTETLEN"] = 0
    image.primary["PCTENFOR"] = 2
    image.primary["FIXROCR"] = 0
    result = correct_image(image, jref=jref, where=path)
    primary, history = result.primary, "\n".join(result.primary["HISTORY"])
    # the parallel length was written back, and so holds for the serial set too
    assert (primary["PCTETLEN"], primary["PCTENFOR"], primary["FIXROCR"]) == (60, 2, 0)
    assert history.count("PCTENPAR            7") == 2
    assert not any(word in history for word in ("PCTETLEN", "PCTENFOR", "FIXROCR"))
    plain = correct_image(a_case(golden, unpack, "cte_post_tall_c")[0], jref=jref, where=path)
    assert (result.imsets[0].sci != plain.imsets[0].sci).any()
