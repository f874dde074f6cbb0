"""Damaged headers, tables and files: an error that says what is wrong, or a sound product."""

from __future__ import annotations

import contextlib
import random
import string
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from batch.calibration.alignment import align
from batch.calibration.builtin import BuiltinEngine
from batch.calibration.ccd_steps import look_up_ccdtab
from batch.calibration.checks import check_references
from batch.calibration.crrejtab import select_crrejtab_row
from batch.calibration.dataquality import initialise_dq
from batch.calibration.frame import Frame
from batch.calibration.imphttab import OutsideGridError, look_up
from batch.calibration.overscan import look_up_oscntab
from batch.calibration.photometry import photmode
from batch.errors import BatchError
from batch.storage.fits import read_image

BLOCK, CARD = 2880, 80
ODD = [
    *(
        "T",
        "F",
        "0",
        "-1",
        "1",
        "2",
        "3",
        "7",
        "1E300",
        "-1E30",
        "1E-40",
        "65536",
        "99999999999",
        "NAN",
        "inf",
    ),
    *(
        "''",
        "'N/A'",
        "'PERFORM'",
        "'jref$none.fits'",
        "'jref$../x'",
        "'ABCD'",
        "'\u007f'",
        "(1.0, 2.0)",
        "1 2",
        "/",
    ),
]


class Vandal:
    """Damages one of the files of an exposure in one of many ways, reproducibly."""

    def __init__(self, exposure: Any, seed: int) -> None:
        self.random = random.Random(seed)
        self.files = [exposure.raw] * 12 + sorted(exposure.jref.glob("*.fits"))

    def damage(self) -> tuple[Path, bytes, str]:
        """The file, what it held, and what was done to it."""
        path = self.random.choice(self.files)
        content = path.read_bytes()
        deed = self.random.choice(
            [self.card, self.card, self.card, self.lose_card, self.bytes, self.cut, self.cell]
        )
        changed = deed(bytearray(content))
        path.write_bytes(changed)
        return path, content, f"{path.name} {deed.__name__}"

    def _a_card(self, content: bytearray) -> int:
        """Where a header card begins."""
        cards = [i for i in range(0, len(content), CARD) if content[i + 8 : i + 10] == b"= "]
        return self.random.choice(cards)

    def card(self, content: bytearray) -> bytes:
        start = self._a_card(content)
        value = self.random.choice([*ODD, "".join(self.random.choices(string.printable, k=12))])
        content[start + 10 : start + CARD] = value[:70].ljust(70).encode("latin-1")
        return bytes(content)

    def lose_card(self, content: bytearray) -> bytes:
        start = self._a_card(content)
        content[start : start + CARD] = b" " * CARD
        return bytes(content)

    def bytes(self, content: bytearray) -> bytes:
        for _ in range(self.random.choice([1, 3, 30])):
            content[self.random.randrange(len(content))] = self.random.randrange(256)
        return bytes(content)

    def cut(self, content: bytearray) -> bytes:
        return bytes(content[: self.random.randrange(len(content))])

    def cell(self, content: bytearray) -> bytes:
        """Overwrite numbers in the data of the first extension."""
        start = content.find(b"END" + b" " * 77, BLOCK) // BLOCK * BLOCK + BLOCK
        if start >= len(content) - 8:
            return self.bytes(content)
        for _ in range(self.random.choice([1, 2, 8])):
            place = self.random.randrange(start, len(content) - 8)
            number = self.random.choice([0, -1, 2**31 - 1, -(2**31), 0x7FC00000, 0x7F800000])
            content[place : place + 4] = (number % 2**32).to_bytes(4, "big")
        return bytes(content)


def sound(path: Path) -> None:
    """Assert that a product can be trusted to hold numbers."""
    with fits.open(path, memmap=False) as hdus:
        hdus.verify("exception")
        assert hdus[0].header["CAL_ENG"].startswith("builtin")
        for hdu in hdus[1:]:
            if hdu.data is not None and hdu.data.dtype.kind == "f":
                assert np.isfinite(hdu.data).all()


def attack(exposure: Any, seeds: range) -> dict[str, int]:
    counts = {"refused": 0, "calibrated": 0}
    for seed in seeds:
        path, content, deed = Vandal(exposure, seed).damage()
        try:
            products = BuiltinEngine(overwrite=True).calibrate(exposure.raw, exposure.jref, exposure.area, 1)
        except BatchError as error:
            counts["refused"] += bool(error.message)
        except Exception as error:
            raise AssertionError(f"seed {seed}, {deed}: {error!r}") from error
        else:
            assert [p.name for p in products] == ["jtest01aq_flt.fits"], (seed, deed)
            sound(products[0])
            counts["calibrated"] += 1
        finally:
            path.write_bytes(content)
            for product in exposure.area.iterdir():
                product.unlink()
    assert sum(counts.values()) == len(seeds)
    return counts


def test_damage_is_refused_or_harmless(exposure: Any) -> None:
    counts = attack(exposure, range(120))
    assert min(counts.values()) > 15  # both happen, or the test says nothing


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1000, 2500, 250))
def test_much_damage_is_refused_or_harmless(exposure: Any, first: int) -> None:
    attack(exposure, range(first, first + 250))


def look(exposure: Any, damaged: Path, sound_frame: Frame) -> None:
    """What is read of the damaged file before a pixel is touched."""
    if damaged == exposure.raw:
        frame = Frame.of(read_image(exposure.raw), exposure.raw, exposure.jref, 1)
        check_references(frame, combine=True)
        return
    frame, name = sound_frame, damaged.stem
    if name == "ccd":
        look_up_ccdtab(frame)
    elif name == "osc":
        look_up_oscntab(frame)
    elif name == "bpx":
        initialise_dq(frame)
    elif name == "crr":
        select_crrejtab_row(frame.references.open("CRREJTAB"), 2, frame.setup.exptime)
    elif name == "imp":
        reference = frame.references.open("IMPHTTAB")
        for keyword in ("PHOTFLAM", "PHOTPLAM", "PHOTBW"):
            with contextlib.suppress(OutsideGridError):
                look_up(reference, keyword, photmode(frame.setup))
    else:
        keyword = next(k for k, v in exposure.keywords.items() if v == f"jref${damaged.name}")
        section = align(frame.references.open(keyword), frame.chips[0], (1, 1), full=name != "snk")
        section.read(section.planes.sci, np.float32, slice(0, 1))


@pytest.mark.slow
@pytest.mark.parametrize("first", range(20000, 28500, 1700))
def test_damaged_headers_and_tables(exposure: Any, first: int) -> None:
    refused = 0
    frame = Frame.of(read_image(exposure.raw), exposure.raw, exposure.jref, 1)
    look_up_ccdtab(frame)
    for seed in range(first, first + 1700):
        path, content, deed = Vandal(exposure, seed).damage()
        try:
            look(exposure, path, frame)
        except BatchError as error:
            refused += bool(error.message)
        except Exception as error:
            raise AssertionError(f"seed {seed}, {deed}: {error!r}") from error
        finally:
            path.write_bytes(content)
    assert 400 < refused < 1680
