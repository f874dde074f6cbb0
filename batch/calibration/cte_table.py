"""The CTE parameter table (PCTETAB): five sets of trap parameters, checked once when they are read.

Source: specification of the CTE correction, section 2; Anderson & Bedin 2010 (PASP 122, 1035), ACS ISR
2018-04 (parallel) and 2024-07 (serial) for what the columns mean.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from batch.errors import InputError
from batch.storage.planes import scan

GENERATION_3 = "Par/Serial PixelCTE 2023"
GENERATION_2 = "PixelCTE 2017"
TRAPS = 9999  # rows of QPROF, columns of RPROF and CPROF
TRAIL = 100  # rows of RPROF and CPROF: the longest trail, pixels
COLUMNS = 8192  # rows of SCLBYCOL: the columns of the amps C, D, A, B side by side
NO_TRAP = 999999  # QLEV_Q of the rows that pad the table
SERIAL_AMPS = "ABCD"
_AGAIN = "get the table again"


@dataclass(frozen=True, eq=False)
class TrapSet:
    """The traps that charge meets in one direction of transfer; n_t of them.

    Attributes
    ----------
    date0, date1 : float
        CTEDATE0, CTEDATE1 (MJD): trap density grows linearly from 0 at the first to 1 at the second.
    trail : int
        PCTETLEN, the length of a trail, pixels (1 to 100).
    iterations : int
        PCTENFOR, the number of iterations of the inversion.
    shifts : int
        PCTENPAR, the number of shifts into which one readout is divided.
    levels : ndarray of int64, shape (n_t,)
        QLEV_Q, the charge at which each trap is reached, e-; ascending.
    capacities : ndarray of float64, shape (n_t,)
        DPDE_W, what each trap holds, e-.
    release, remaining : ndarray of float32, shape (n_t, 100)
        RPROF, CPROF: fraction of a trap's charge that is released m+1 pixels behind the one that filled
        it, and the fraction that is in it after that.
    densities : ndarray of float64, shape (8192, 4)
        SENS_0512 to SENS_2048: relative trap density of each column of the amps C, D, A, B at the four
        nodes.
    """

    date0: float
    date1: float
    trail: int
    iterations: int
    shifts: int
    levels: NDArray[np.int64]
    capacities: NDArray[np.float64]
    release: NDArray[np.float32]
    remaining: NDArray[np.float32]
    densities: NDArray[np.float64]

    def growth(self, expstart: float) -> float:
        """PCTEFRAC, the trap density at a date (MJD) relative to `date1`."""
        return (expstart - self.date0) / (self.date1 - self.date0)


@dataclass(frozen=True, eq=False)
class CteTable:
    """What a PCTETAB holds.

    Attributes
    ----------
    path : Path
        Where it was read from.
    name, version : str
        CTE_NAME, CTE_VER.
    pedigree, description : str
        PEDIGREE, DESCRIP of the primary header; empty where they are missing.
    noise_model : int
        PCTENSMD; only 0 is defined.
    threshold : float
        PCTETRSH, over-subtraction threshold, e-.
    fix_rocr : bool
        FIXROCR: look for readout cosmic rays.
    parallel : TrapSet
        Set 1, for all amps.
    serial : dict
        Amp letter -> set 2 to 5; empty for a parallel-only table (generation 2).
    """

    path: Path
    name: str
    version: str
    pedigree: str
    description: str
    noise_model: int
    threshold: float
    fix_rocr: bool
    parallel: TrapSet
    serial: dict[str, TrapSet]


def read_table(path: Path | str, *, parallel_only: bool = False) -> CteTable:
    """Read and check a PCTETAB.

    Parameters
    ----------
    path : Path or str
        The FITS file, ``*_cte.fits``.
    parallel_only : bool
        Accept tables of generation 2 (CTE_NAME ``PixelCTE 2017``) too, which calacs 10.5 refuses. They
        correct the parallel direction only.

    Raises
    ------
    InputError
        The file cannot be read, is of another generation, or a keyword, table or image in it is missing,
        too small or makes no sense; the message names file, HDU and keyword or column.
    """
    path = Path(path)
    try:
        scan(path)  # refuses a truncated file before anything warns about it
        with fits.open(path, memmap=False) as hdus:
            return _read(path, hdus, parallel_only)
    except InputError:
        raise
    except Exception as error:  # astropy raises many kinds for damaged tables
        raise InputError.about(
            path, f"cannot be read as a PCTETAB ({error})", "get the file again"
        ) from error


def _read(path: Path, hdus: fits.HDUList, parallel_only: bool) -> CteTable:
    header = hdus[0].header
    name = str(header.get("CTE_NAME", "")).rstrip()
    if name != GENERATION_3 and not (parallel_only and name == GENERATION_2):
        found = f"is {name!r}" if name else "is missing"
        raise InputError.about(
            f"{path} CTE_NAME", f"{found}: an obsolete table", f"use a PCTETAB with {GENERATION_3!r}"
        )
    primary = f"{path} primary header"
    fix_rocr = _number(header, "FIXROCR", primary)
    if fix_rocr not in (0, 1):
        raise InputError.about(f"{primary} FIXROCR", f"is {fix_rocr:g}", "only 0 and 1 are defined")
    noise_model = int(_number(header, "PCTENSMD", primary))
    _number(header, "PCTERNOI", primary)
    if "CTE_VER" not in header:
        raise InputError.about(f"{primary} CTE_VER", "is missing", _AGAIN)
    if name == GENERATION_2:
        parallel, serial = _read_set(path, hdus, 1, header), {}
    else:
        parallel = _read_set(path, hdus, 1, None)
        serial = {amp: _read_set(path, hdus, k, None) for k, amp in enumerate(SERIAL_AMPS, 2)}
    return CteTable(
        path=path,
        name=name,
        version=str(header["CTE_VER"]).rstrip(),
        pedigree=str(header.get("PEDIGREE", "")).rstrip(),
        description=str(header.get("DESCRIP", "")).rstrip(),
        noise_model=noise_model,
        threshold=_number(header, "PCTETRSH", primary),
        fix_rocr=bool(fix_rocr),
        parallel=parallel,
        serial=serial,
    )


def _read_set(path: Path, hdus: fits.HDUList, version: int, keywords: fits.Header | None) -> TrapSet:
    """Read the extensions of a set; `keywords`: where its parameters stand, if not in its QPROF.

    Tables are found by their number, images by EXTNAME and EXTVER, as calacs does.
    """
    first = 4 * version - 3
    if len(hdus) < first + 2:
        what = f"has {len(hdus) - 1} extensions, not {first + 3}"
        raise InputError.about(path, what, _AGAIN)
    qprof, sclbycol = (f"{path}[{name},{version}]" for name in ("QPROF", "SCLBYCOL"))
    header = hdus[first].header if keywords is None else keywords
    date0, date1, trail, iterations, shifts = (
        _number(header, key, qprof) for key in ("CTEDATE0", "CTEDATE1", "PCTETLEN", "PCTENFOR", "PCTENPAR")
    )
    if date0 == date1:
        raise InputError.about(f"{qprof} CTEDATE1", "equals CTEDATE0", "the growth of traps is undefined")
    levels = _column(hdus[first], "QLEV_Q", TRAPS, qprof).astype(np.int64)
    active = levels < NO_TRAP
    n_traps = int(active.sum())
    if not active[:n_traps].all() or np.any(np.diff(levels[:n_traps]) < 0):
        raise InputError.about(
            f"{qprof} QLEV_Q", "is not sorted", "traps must ascend, padding rows come last"
        )
    if n_traps == 0:
        raise InputError.about(f"{qprof} QLEV_Q", f"has no value below {NO_TRAP}", _AGAIN)
    result = TrapSet(
        date0=date0,
        date1=date1,
        trail=int(trail),
        iterations=int(iterations),
        shifts=int(shifts),
        levels=levels[:n_traps],
        capacities=_column(hdus[first], "DPDE_W", TRAPS, qprof).astype(np.float64)[:n_traps],
        release=_profile(path, hdus, "RPROF", version, n_traps),
        remaining=_profile(path, hdus, "CPROF", version, n_traps),
        densities=_densities(hdus[first + 1], sclbycol),
    )
    check_limits(result, qprof)
    return result


def check_limits(traps: TrapSet, where: str) -> None:
    """Refuse trail lengths and shifts that the model is not defined for (also after an override)."""
    if not 1 <= traps.trail <= TRAIL:
        raise InputError.about(f"{where} PCTETLEN", f"is {traps.trail}", f"1 to {TRAIL} are possible")
    if traps.shifts < 1:
        raise InputError.about(f"{where} PCTENPAR", f"is {traps.shifts}", "at least 1 is needed")


def _densities(hdu: Any, where: str) -> NDArray[np.float64]:
    """The four nodes of each column, sorted into the places that IZ names (the last row of a place wins)."""
    places = _column(hdu, "IZ", COLUMNS, where).astype(np.int64)
    names = ("SENS_0512", "SENS_1024", "SENS_1536", "SENS_2048")
    nodes = np.stack([_column(hdu, name, COLUMNS, where).astype(np.float64) for name in names], axis=1)
    densities = np.full((COLUMNS, 4), np.nan)
    inside = (places >= 0) & (places < COLUMNS)
    densities[places[inside]] = nodes[inside]
    missing = np.flatnonzero(np.isnan(densities).any(axis=1))
    if missing.tolist() == [0] and places.max() == COLUMNS:
        # A table that counts from 1: calacs leaves column 0 of amp C to chance, here it is not corrected.
        logging.getLogger(__name__).warning("%s IZ counts from 1: column 0 of amp C has no traps", where)
        densities[0] = 0.0
    elif missing.size:
        what = f"leaves out {missing.size} columns, the first is {missing[0]}"
        raise InputError.about(f"{where} IZ", what, _AGAIN)
    return densities


def _column(hdu: Any, name: str, rows: int, where: str) -> NDArray[Any]:
    """The first `rows` values of a table column, all of them finite."""
    data = getattr(hdu, "data", None)
    if data is None or getattr(data, "names", None) is None or name not in (n.upper() for n in data.names):
        raise InputError.about(f"{where} {name}", "no such table column", _AGAIN)
    if len(data) < rows:
        raise InputError.about(where, f"has {len(data)} rows, {rows} are needed", _AGAIN)
    values = np.asarray(data[name][:rows])
    if not np.isfinite(values).all():
        raise InputError.about(f"{where} {name}", "has values that are not finite", _AGAIN)
    return values


def _profile(path: Path, hdus: fits.HDUList, name: str, version: int, n_traps: int) -> NDArray[np.float32]:
    where = f"{path}[{name},{version}]"
    if (name, version) not in hdus:
        raise InputError.about(where, "there is no such extension", _AGAIN)
    data = hdus[name, version].data
    if not isinstance(data, np.ndarray) or data.shape != (TRAIL, TRAPS):
        raise InputError.about(where, f"is no image of {TRAPS} x {TRAIL} pixels", _AGAIN)
    values = np.ascontiguousarray(data[:, :n_traps].T, dtype=np.float32)
    if not np.isfinite(values).all():
        raise InputError.about(where, "has pixels that are not finite", _AGAIN)
    return values


def _number(header: fits.Header, key: str, where: str) -> float:
    value = header.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        what = "is missing" if value is None else f"is {value!r}, not a number"
        raise InputError.about(f"{where} {key}", what, _AGAIN)
    return float(value)
