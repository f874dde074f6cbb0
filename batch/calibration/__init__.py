"""Calibration engines: raw -> flt, flc; arrays inside, FITS at the edge."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Protocol

from batch.errors import UsageError
from batch.model.observation import Exposure
from batch.model.plan import Needs

EngineName = Literal["auto", "builtin", "calacs"]


class Engine(Protocol):
    """What a calibration engine does; two exist side by side under one set of tests."""

    @property
    def name(self) -> str:
        """``builtin`` or ``calacs``."""

    def version(self) -> str:
        """Part of CAL_ENG, of every record and of the fingerprint."""

    def needs(self, exposure: Exposure) -> Needs:
        """Memory, time and threads for one exposure."""

    def calibrate(
        self, raw: Path, jref: Path, area: Path, threads: int, *, destripe: bool = False
    ) -> list[Path]:
        """Write the products of one exposure into `area` and return their paths, ``<root>_flt.fits`` first.

        Header values ``jref$name`` are looked up in the folder `jref`, plain paths are taken as given. With
        `destripe`, subarrays whose stripes calacs leaves in lose them (`batch.calibration.stripes`).
        """


def get_engine(name: EngineName = "auto") -> Engine:
    """The engine called `name`; ``auto`` is builtin.

    Raises
    ------
    UsageError
        If there is no such engine.
    """
    if name in ("auto", "builtin"):
        from batch.calibration.builtin import BuiltinEngine

        return BuiltinEngine()
    if name == "calacs":
        from batch.calibration.calacs import CalacsEngine

        return CalacsEngine()
    raise UsageError(f"there is no calibration engine {name!r}; use auto, builtin or calacs")
