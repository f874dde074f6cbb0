"""CTE parameters: what the exposure's header overrides, and what it is told of them.

Source: specification of the CTE correction, sections 2.1 and 9.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.io.fits import Header

from batch.calibration.cte_table import CteTable, TrapSet, check_limits
from batch.calibration.header import AMPS, add_history, set_double
from batch.calibration.references import Reference
from batch.errors import InputError
from batch.storage.planes import as_number

_OVERRIDES = {"PCTETLEN": "trail", "PCTENFOR": "iterations", "PCTENPAR": "shifts"}


def settle(
    primary: Header, where: object, table: CteTable, expstart: float, serial_amps: Iterable[str]
) -> CteTable:
    """Let the header override the table, and write down what is used.

    A parameter is updated where its keyword is in the header, else it becomes a HISTORY line. So the
    parallel values of PCTETLEN, PCTENFOR and PCTENPAR stand in such keywords when the serial sets are
    looked at, and override them too.

    Parameters
    ----------
    primary : Header
        Of the exposure; it is changed.
    where : object
        Its file, for messages.
    table : CteTable
    expstart : float
        MJD.
    serial_amps : iterable of str
        The amps whose serial set is used, in the order of processing.

    Returns
    -------
    CteTable
        The table with the values that are used.

    Raises
    ------
    InputError
        A noise model other than 0, FIXROCR other than 0 or 1, a trail or number of shifts out of range.
    """
    noise_model = int(as_number(primary, "PCTENSMD", where, table.noise_model))
    if noise_model != 0:
        place = f"{where if 'PCTENSMD' in primary else table.path} PCTENSMD"
        raise InputError.about(place, f"is {noise_model}", "only noise model 0 is defined")
    fix_rocr = as_number(primary, "FIXROCR", where, float(table.fix_rocr))
    if fix_rocr not in (0, 1):
        raise InputError.about(f"{where} FIXROCR", f"is {fix_rocr:g}", "use 0 or 1")
    parallel = _override(table.parallel, primary, where)
    _put(primary, "CTE_NAME", table.name, "CTE algorithm name")
    _put(primary, "CTE_VER", table.version, "CTE algorithm version")
    _put(primary, "CORRTYPE", "parallel", "CTE correction type")
    _put(primary, "FIXROCR", int(fix_rocr), "fix readout cosmic rays")
    _put(primary, "PCTETRSH", table.threshold, "CTE over subtraction threshold")
    _put(primary, "PCTEFRAC", parallel.growth(expstart), "CTE scaling factor")
    _put_set(primary, parallel)
    serial = {}
    for amp in serial_amps:
        serial[amp] = _override(table.serial[amp], primary, where)
        _put(primary, "CORRTYPE", f"serial - Amp {amp}", "CTE correction type")
        _put_set(primary, serial[amp])
    return replace(table, noise_model=0, fix_rocr=bool(fix_rocr), parallel=parallel, serial=serial)


def record_completion(
    primary: Header, table: CteTable, pctetab: Reference, noise: npt.NDArray[np.float32]
) -> None:
    """Write that the correction is complete, and with what; `noise` is READNSEA to D of imset 1, e-."""
    primary["PCTECORR"] = "COMPLETE"
    limits = [
        f"PCTERNOI {value:#14.7E} Amp '{amp}' read noise clip limit (from CCDTAB)."
        for amp, value in zip(AMPS, noise.tolist(), strict=True)
    ]
    add_history(primary, "PCTECORR complete ...", *limits)
    add_history(primary, "CTE parameters table:", *pctetab.history("table"))
    primary["CTE_NAME"] = (table.name, "CTE algorithm name")
    primary["CTE_VER"] = (table.version, "CTE algorithm version")


def _put_set(primary: Header, traps: TrapSet) -> None:
    _put(primary, "CTEDATE0", traps.date0, "Date of instrument installation")
    _put(primary, "CTEDATE1", traps.date1, "Date of CTE model pinning")
    _put(primary, "PCTETLEN", traps.trail, "max length of CTE trail")
    _put(primary, "PCTENFOR", traps.iterations, "Number of iter in forward model")
    _put(primary, "PCTENPAR", traps.shifts, "Number of iter in parallel transfer")


def _put(primary: Header, keyword: str, value: str | int | float, comment: str) -> None:
    """Update a keyword that is there; otherwise add a HISTORY line, numbers printed as calacs does."""
    if keyword in primary:
        if isinstance(value, float):
            set_double(primary, keyword, value)
        else:
            primary[keyword] = value
        return
    text = value
    if isinstance(value, float):
        text = f"{value:#20.12E}"
    elif isinstance(value, int):
        text = f"{value:12d}"
    add_history(primary, f"{keyword} {text} {comment}")


def _override(traps: TrapSet, primary: Header, where: object) -> TrapSet:
    given = {field: int(as_number(primary, key, where, 0)) for key, field in _OVERRIDES.items()}
    changes: dict[str, Any] = {field: value for field, value in given.items() if value > 1}
    result = replace(traps, **changes)
    check_limits(result, str(where))
    return result
