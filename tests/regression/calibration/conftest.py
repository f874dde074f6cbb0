"""Golden cases: unpacked on demand, calibrated, compared with what calacs.e 10.5.0 wrote."""

from __future__ import annotations

import bz2
import functools
import gzip
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from beside import load

PACKAGED = Path(__file__).resolve().parents[2] / "data" / "calibration"
"""A golden case that lies in this repository, with its reference files."""


class Shelf:
    """Reference files, unpacked when a header first names them."""

    def __init__(self, packed: Path, folder: Path) -> None:
        self.packed, self.folder = packed, folder

    def provide(self, raw: Path) -> None:
        """Unpack every file that a raw header names and that the set has."""
        values = [value for value in fits.getheader(raw, 0).values() if isinstance(value, str)]
        for name in (value.strip().removeprefix("jref$") for value in values if value.startswith("jref$")):
            self.unpack(name)

    def unpack(self, name: str) -> None:
        source, target = self.packed / f"{name}.gz", self.folder / name
        if source.is_file() and not target.exists():
            with gzip.open(source) as packed, target.open("wb") as plain:
                shutil.copyfileobj(packed, plain, 1 << 22)


@dataclass(frozen=True)
class Case:
    """One golden case, its inputs unpacked in a folder of their own."""

    source: Path
    folder: Path
    description: dict[str, Any]

    @property
    def input(self) -> Path:
        return self.folder / str(self.description["arguments"][-1])

    @property
    def raws(self) -> list[Path]:
        return sorted(self.folder.glob("*_raw.fits"))


def _shelf(packed: Path, factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    folder = factory.mktemp("jref")
    yield Shelf(packed, folder)
    shutil.rmtree(folder)  # pytest would keep 1.2 GB of the last three runs


@pytest.fixture(scope="session")
def jref(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    """The golden reference files."""
    yield from _shelf(golden / "jref", tmp_path_factory)


@pytest.fixture(scope="session")
def packaged_jref(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    """The reference files of the packaged case."""
    yield from _shelf(PACKAGED / "jref", tmp_path_factory)


@functools.lru_cache(maxsize=4)
def _unpacked(packed: Path) -> bytes:
    """What a packed input holds; the small inputs of the error table are asked for again and again."""
    opener = bz2.open if packed.suffix == ".bz2" else gzip.open
    with opener(packed) as stream:
        return bytes(stream.read())


Open = Callable[[Path, Shelf], Case]


@pytest.fixture
def open_case(tmp_path: Path) -> Iterator[Open]:
    """Unpack a case and the reference files it names."""

    def open_(source: Path, shelf: Shelf) -> Case:
        folder = tmp_path / source.name
        folder.mkdir()
        for packed in source.glob("*.fits.*"):
            (folder / packed.stem).write_bytes(_unpacked(packed))
        case = Case(source, folder, json.loads((source / "case.json").read_text()))
        for raw in case.raws:
            shelf.provide(raw)
        return case

    yield open_
    shutil.rmtree(tmp_path)


@pytest.fixture(scope="session")
def packaged() -> Path:
    """The case that lies in the repository."""
    return PACKAGED / "cases" / "hrc_real_f555w"


@pytest.fixture(scope="session")
def compare() -> Callable[[Case, str], None]:
    """Assert that a product of a case is the golden one."""
    return _compare


def _compare(case: Case, product: str) -> None:
    expected = json.loads((case.source / "expected_headers.json").read_text())[product]
    with fits.open(case.folder / f"{product}.fits", memmap=False) as hdus:
        hdus.verify("exception")
        complaints = [*_headers(hdus, expected), *_pixels(case, product, hdus)]
    assert not complaints, f"{product}: " + "; ".join(complaints)


def _headers(hdus: fits.HDUList, expected: dict[str, Any]) -> Iterator[str]:
    for section, keywords in expected.items():
        if section == "primary_HISTORY":
            found = [str(line) for line in hdus[0].header["HISTORY"]]
            if found != keywords:
                yield f"HISTORY {found} is not {keywords}"
            continue
        name = section.rstrip("0123456789")
        header = hdus[0].header if section == "primary" else hdus[name, int(section[len(name) :])].header
        for keyword, value in keywords.items():
            if not _same(header.get(keyword), value):
                yield f"{section} {keyword} = {header.get(keyword)!r}, not {value!r}"


def _same(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, bool) or isinstance(found, bool) or found is None:
        return found is wanted
    if isinstance(wanted, (int, float)):
        return isinstance(found, (int, float)) and bool(np.isclose(found, wanted, rtol=3e-7, atol=0))
    return str(found).rstrip() == str(wanted).rstrip()


def _pixels(case: Case, product: str, hdus: fits.HDUList) -> Iterator[str]:
    whole = case.source / "expected" / f"{product}.fits.gz"
    digest = np.load(case.source / "expected.npz") if not whole.exists() else None
    chips = [hdu.ver for hdu in hdus if hdu.name == "SCI"]
    if digest is not None:
        # a product without digest would pass for want of truth
        assert [n for n in (1, 2) if f"{product}.imset{n}.shape" in digest] == chips
        for n in chips:
            yield from _against_digest(product, n, hdus, digest)
        return
    with gzip.open(whole) as stream, fits.open(stream) as truth:
        assert [hdu.ver for hdu in truth if hdu.name == "SCI"] == chips
        for n in chips:
            for name in ("SCI", "ERR"):
                yield from _against(product, f"{name}{n}", expand(hdus[name, n]), expand(truth[name, n]))
            if not np.array_equal(expand(hdus["DQ", n]), expand(truth["DQ", n])):
                yield f"DQ{n} differs"


def _against_digest(product: str, n: int, hdus: fits.HDUList, digest: Any) -> Iterator[str]:
    dq = expand(hdus["DQ", n])
    if dq.shape != tuple(digest[f"{product}.imset{n}.shape"]):
        yield f"shape {dq.shape}"
        return
    for name in ("SCI", "ERR"):
        key, pixels = f"{product}.{name}{n}", expand(hdus[name, n])
        rows = digest[f"{key}.rowindex"]
        yield from _against(product, key, pixels[rows], digest[f"{key}.rows"])
        for axis, sums in ((1, "rowsum"), (0, "colsum")):
            wide = pixels.astype(np.float64)
            off = np.abs(wide.sum(axis=axis) - digest[f"{key}.{sums}"])
            limit = _sum_limit(product, name, wide, axis)
            if (off > limit).any():
                yield f"{key} {sums} off by {off.max()}"
    rows = digest[f"{product}.SCI{n}.rowindex"]
    bits = [int(np.count_nonzero(dq.view(np.uint16) & (1 << k))) for k in range(16)]
    if bits != digest[f"{product}.DQ{n}.bitcount"].tolist():
        yield f"DQ{n} bit counts {bits}"
    for kind, found in (("full", dq), ("rows", dq[rows])):
        if f"{product}.DQ{n}.{kind}" in digest and not np.array_equal(
            found, digest[f"{product}.DQ{n}.{kind}"]
        ):
            yield f"DQ{n} differs"


def _sum_limit(product: str, name: str, wide: np.ndarray, axis: int) -> np.ndarray:
    limit = 1e-8 * np.abs(wide).sum(axis=axis)
    if _after_cte(product):
        pixels = 1e-4 + 2.4e-7 * np.abs(wide) if name == "SCI" else 1e-6 * np.abs(wide)
        return np.maximum(limit, pixels.sum(axis=axis))
    return limit


def _against(product: str, key: str, found: np.ndarray, wanted: np.ndarray) -> Iterator[str]:
    """Every bit must agree; after the CTE correction, the tolerance of its fast form."""
    if not _after_cte(product):
        if not np.array_equal(found.view(np.int32), wanted.view(np.int32)):
            worst = np.abs(found - wanted).max()
            yield f"{key}: {np.count_nonzero(found != wanted)} pixels differ, by up to {worst}"
        return
    size = np.abs(wanted.astype(np.float64))
    limit = 1e-6 * size if ".ERR" in key or key.startswith("ERR") else 1e-4 + 2.4e-7 * size
    off = np.abs(found.astype(np.float64) - wanted)
    if (off > limit).any():
        yield f"{key}: off by up to {off.max()}"


def _after_cte(product: str) -> bool:
    return product.endswith(("_flc", "_blc_tmp", "_crc", "_crc_tmp"))


def expand(hdu: Any) -> np.ndarray:
    """The array of an image extension, native, also where it is stored as one number."""
    dtype = np.dtype("i2") if hdu.name == "DQ" else np.dtype("f4")
    if hdu.header["NAXIS"] == 0:
        return np.full((hdu.header["NPIX2"], hdu.header["NPIX1"]), hdu.header["PIXVALUE"], dtype)
    return np.ascontiguousarray(hdu.data.astype(dtype))


@pytest.fixture(scope="session")
def naive() -> Any:
    """The specification read literally: see naive_ccd.py."""
    return load(Path(__file__).with_name("naive_ccd.py"))
