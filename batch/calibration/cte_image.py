"""The CTE stage of an exposure: blv_tmp -> blc_tmp, with its keywords and HISTORY.

Source: specification of the CTE correction, sections 1, 2.1, 3 and 9.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from batch.calibration.ccd import CcdParameters, record_ccdtab, select_ccdtab_row
from batch.calibration.cte_amp import SM4, correct, forward_with_error
from batch.calibration.cte_record import record_completion, settle
from batch.calibration.cte_table import CteTable, read_table
from batch.calibration.header import read_chip, read_setup
from batch.calibration.references import References
from batch.errors import InputError
from batch.storage.fits import Image, Imset
from batch.storage.planes import as_number

Plane = NDArray[np.float32]


@dataclass(frozen=True)
class Amp:
    """What one amp reads of an imset, and the place of its first column on the chip."""

    name: str
    rows: slice
    columns: slice
    noise: float
    """Read noise, e-."""


Treatment = Callable[[Plane, Plane, Amp, CteTable, float, int], tuple[Plane, Plane]]


def correct_image(
    image: Image, *, jref: Path, threads: int = 1, where: Path | None = None, parallel_only: bool = False
) -> Image:
    """PCTECORR: put the trailed charge of an exposure back.

    Parameters
    ----------
    image : Image
        Overscan subtracted and trimmed, e- (a blv_tmp). Not changed.
    jref : Path
        The folder that ``jref$`` in the header stands for.
    threads : int
        The result does not depend on it.
    where : Path, optional
        Its file, for messages; by default what FILENAME says.
    parallel_only : bool
        Accept a PCTETAB of generation 2 (``PixelCTE 2017``), which corrects the columns alone.

    Returns
    -------
    Image
        A new one: SCI and ERR corrected (an HRC exposure passes as it is), DQ copied, PCTECORR = COMPLETE.
        FILENAME, CAL_VER and CAL_ENG are left to who writes the file.

    Raises
    ------
    InputError
        Naming file, HDU and keyword: PCTECORR is not PERFORM, the overscan was not trimmed, CCDTAB or
        PCTETAB cannot be used, the PCTETAB is a dummy, an override in the header is impossible.
    MissingReferenceError
        CCDTAB or PCTETAB is not there.
    """
    return _run(image, jref, where, parallel_only, threads, _correct_amp)


def forward_image(
    image: Image, *, jref: Path, threads: int = 1, where: Path | None = None, parallel_only: bool = False
) -> Image:
    """Read an exposure out through its traps, as ``acscte.e --forwardModelOnly`` does (ctefmod).

    Parameters, result and errors are those of `correct_image`; so is the HISTORY.
    """
    return _run(image, jref, where, parallel_only, threads, _read_out_amp)


def _run(
    image: Image, jref: Path, where: Path | None, parallel_only: bool, threads: int, treat: Treatment
) -> Image:
    where = where or Path(str(image.primary.get("FILENAME", "exposure")))
    setup = read_setup(image.primary, where)
    if not setup.switches["PCTECORR"]:
        raise InputError.about(f"{where} PCTECORR", "is not PERFORM", "set it, or leave this stage out")
    _check_trimmed(image, where)
    references = References(image.primary, jref, where)
    pctetab = references.open("PCTETAB")
    if pctetab.is_dummy:
        what = "PEDIGREE is DUMMY, there is nothing to correct with"
        raise InputError.about(f"{pctetab.path} (PCTETAB)", what, "set PCTECORR to OMIT")
    result = _copy(image)
    if setup.detector != "WFC":
        # calacs lets HRC pass and says it was done
        result.primary["CTE_NAME"] = (str(pctetab.primary.get("CTE_NAME", "")), "CTE algorithm name")
        result.primary["PCTECORR"] = "COMPLETE"
        return result

    ccdtab = references.open("CCDTAB")
    ccd = []
    amps = []
    for imset in result.imsets:
        chip = read_chip(imset, where).number
        ccd.append(select_ccdtab_row(setup, chip, imset.sci.shape[1], ccdtab))
        amps.append(_amps(setup.amps, chip, ccd[-1], imset, where))
    record_ccdtab(result.primary, ccdtab, ccd[0])
    table = read_table(pctetab.path, parallel_only=parallel_only)
    serial = [amp.name for parts in amps for amp in parts if setup.expstart >= SM4 and table.serial]
    table = settle(result.primary, where, table, setup.expstart, serial)
    for imset, parts in zip(result.imsets, amps, strict=True):
        for amp in parts:
            part = (amp.rows, amp.columns)
            sci, err = treat(imset.sci[part], imset.err[part], amp, table, setup.expstart, threads)
            imset.sci[part], imset.err[part] = sci, err
    record_completion(result.primary, table, pctetab, ccd[0].noise)
    return result


def _correct_amp(
    sci: Plane, err: Plane, amp: Amp, table: CteTable, expstart: float, threads: int
) -> tuple[Plane, Plane]:
    return correct(
        sci,
        err,
        amp=amp.name,
        table=table,
        expstart=expstart,
        read_noise=amp.noise,
        x_begin=amp.columns.start,
        threads=threads,
    )


def _read_out_amp(
    sci: Plane, err: Plane, amp: Amp, table: CteTable, expstart: float, threads: int
) -> tuple[Plane, Plane]:
    x_begin = amp.columns.start
    return forward_with_error(
        sci, err, amp=amp.name, table=table, expstart=expstart, x_begin=x_begin, threads=threads
    )


def _amps(ccdamp: str, chip: int, parameters: CcdParameters, imset: Imset, where: Path) -> list[Amp]:
    """The amps that read an imset (section 3). Pixels that belong to none stay as they are."""
    names = [amp for amp in ("CD" if chip == 2 else "AB") if amp in ccdamp]
    ny, nx = imset.sci.shape
    rows = slice(0, min(parameters.amp_y, ny) if parameters.amp_y > 0 else ny)
    split = parameters.amp_x if parameters.amp_x > 0 else nx
    result = []
    for name in names:
        right = ord(name) > ord(names[0])
        columns = slice(parameters.amp_x, nx) if right else slice(0, split)
        noise = float(parameters.noise["ABCD".index(name)])
        if not noise > 0:
            what = f"READNSE{name} of the CCDTAB is {noise:g} e-"
            raise InputError.about(f"{where}[SCI,{imset.extver}]", what, "correct the CCDTAB")
        if columns.start < columns.stop:
            result.append(Amp(name, rows, columns, noise))
    return result


def _check_trimmed(image: Image, where: Path) -> None:
    """Trails must begin at the pixel that is read out first, so there may be no overscan."""
    if str(image.primary.get("BLEVCORR", "")).strip().upper() != "COMPLETE":
        raise InputError.about(f"{where} BLEVCORR", "is not COMPLETE", "set it to PERFORM in the raw file")
    for imset in image.imsets:
        for keyword in ("LTV1", "LTV2"):
            place = f"{where}[SCI,{imset.extver}]"
            if as_number(imset.sci_header, keyword, place, 0.0) > 0:
                what = "is above 0: the overscan was not trimmed"
                raise InputError.about(f"{place} {keyword}", what, "set BLEVCORR to PERFORM in the raw file")


def _copy(image: Image) -> Image:
    imsets = [
        replace(
            imset,
            sci=imset.sci.copy(),
            err=imset.err.copy(),
            dq=imset.dq.copy(),
            sci_header=imset.sci_header.copy(),
            err_header=imset.err_header.copy(),
            dq_header=imset.dq_header.copy(),
        )
        for imset in image.imsets
    ]
    return Image(image.primary.copy(), imsets)
