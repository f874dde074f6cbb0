"""CRCORR: combine exposures of one pointing and reject cosmic rays (acsrej).

Source: calibration-steps specification, section 7; STScI's description of the method in the ACS Data
Handbook, section 3.4.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from astropy.io.fits import Header

from batch.calibration import rejection_kernels as kernels
from batch.calibration.crrejtab import RejectionParameters, select_crrejtab_row
from batch.calibration.header import Setup, read_setup, set_float
from batch.calibration.references import References
from batch.errors import InputError
from batch.storage.fits import Image, Imset, imset_count, read_header, read_image, read_imset, write_image
from batch.storage.planes import value_of

F32 = npt.NDArray[np.float32]
I16 = npt.NDArray[np.int16]
MOST_IMAGES = 120
_MOST_BINS = 10000


@dataclass(frozen=True, eq=False)
class Combination:
    """What `combine_imsets` finds."""

    sci: F32
    err: F32
    dq: I16
    rejected: npt.NDArray[np.bool_]
    """Shape (images, ny, nx): hit by a cosmic ray, or beside a hit."""
    sky: F32
    """Of each image, e-."""


def combine(inputs: Sequence[Path], jref: Path, root: str, member_type: str, *, cte: bool = False) -> Image:
    """Combine trimmed exposures of one pointing into one.

    Parameters
    ----------
    inputs : sequence of Path
        ``_blv_tmp`` or ``_blc_tmp`` files, at least two; where CRREJTAB says CRMASK their DQ gets bit 8192.
    jref : Path
        Folder of the reference files.
    root : str
        Of the product.
    member_type : str
        The product's MEMTYPE.
    cte : bool
        True for ``_blc_tmp`` inputs; such a product has a longer ROOTNAME.

    Returns
    -------
    Image
        The ``_crj_tmp`` (``_crc_tmp``) image, electrons in the summed exposure time.

    Raises
    ------
    InputError
        If the images do not belong together, or CRREJTAB has no row for them.
    """
    headers = [read_header(path) for path in inputs]
    setups = [read_setup(header, path) for header, path in zip(headers, inputs, strict=True)]
    _check(setups, headers)
    times = np.array([setup.exptime for setup in setups], dtype=np.float32)
    summed = np.add.accumulate(times)[-1]
    mean = summed / np.float32(len(inputs))
    reference = References(headers[0], jref, inputs[0]).open("CRREJTAB")
    parameters = select_crrejtab_row(reference, len(inputs), float(mean))
    calibration = str(value_of(headers[0], "IMAGETYP", inputs[0])).strip() in ("BIAS", "DARK")
    weights = np.ones_like(times) if not times.any() else times

    primary = headers[0].copy()
    imsets, masks = [], []
    for extver in range(1, imset_count(primary, inputs[0]) + 1):
        first, sci, err, dq = _stack(inputs, extver)
        found = combine_imsets(sci, err, dq, weights, parameters, calibration)
        if extver == 1:
            total = np.add.accumulate(weights)[-1]
            set_float(primary, "REJ_RATE", float(found.rejected.sum()) / float(total))
            set_float(primary, "SKYSUM", _sky_sum(found.sky))
        first.sci, first.err, first.dq = found.sci, found.err, found.dq
        first.sci_header["NCOMBINE"] = len(inputs)
        for header in (first.sci_header, first.err_header, first.dq_header):
            header["EXPNAME"] = f"{root}_crc_tmp" if cte else root
        imsets.append(first)
        masks.append(found.rejected)
    if parameters.write_mask:
        for n, path in enumerate(inputs):
            _write_masks(path, [mask[n] for mask in masks])
    _write_keywords(primary, setups, float(summed), float(mean), parameters)
    primary["ROOTNAME"] = f"{root}_crc_tmp".upper() if cte else root.upper()
    primary["ASN_MTYP"] = member_type.upper()
    return Image(primary, imsets)


def _stack(inputs: Sequence[Path], extver: int) -> tuple[Imset, F32, F32, I16]:
    """The first image's imset, and SCI, ERR and DQ of all images, each of shape (images, ny, nx)."""
    first = read_imset(inputs[0], extver)
    shape = (len(inputs), *first.sci.shape)
    sci, err, dq = np.empty(shape, np.float32), np.empty(shape, np.float32), np.empty(shape, np.int16)
    for n, path in enumerate(inputs):
        imset = first if n == 0 else read_imset(path, extver)
        if imset.sci.shape != first.sci.shape:
            what = f"its shape {imset.sci.shape} is not {first.sci.shape}, that of {inputs[0].name}"
            raise InputError.about(f"{path}[SCI,{extver}]", what, "combine exposures of one kind")
        sci[n], err[n], dq[n] = imset.sci, imset.err, imset.dq
    return first, sci, err, dq


def combine_imsets(
    sci: F32, err: F32, dq: I16, times: F32, parameters: RejectionParameters, calibration: bool = False
) -> Combination:
    """Combine the images of one chip.

    Parameters
    ----------
    sci, err : ndarray of float32, shape (images, ny, nx)
        At least two images and their uncertainties, e-; not changed.
    dq : ndarray of int16, shape (images, ny, nx)
        Their data quality; not changed.
    times : ndarray of float32, shape (images,)
        Exposure times, s; images of 0 s are left out.
    parameters : RejectionParameters
    calibration : bool
        True for bias and dark exposures, whose bad pixels (bit 4) count as good.
    """
    bad_bits = parameters.bad_bits & ~kernels.BAD if calibration else parameters.bad_bits
    reject_bits = kernels.HIT | kernels.SPILL | (0 if calibration else kernels.BAD)
    sky = skies(sci, dq, parameters)
    total = np.add.accumulate(times)[-1]
    exposed = np.flatnonzero(times)
    if len(exposed) == 1:
        message = "only one image has an exposure time: nothing is rejected, and SCI is scaled as in calacs"
        logging.getLogger(__name__).warning(message)
        n = int(exposed[0])
        return _finished(sci[n].copy(), err[n].copy(), dq[n].copy(), np.zeros(sci.shape, bool), sky, total)

    shape = sci.shape[1:]
    rate, exposure, variance = (np.zeros(shape, dtype=np.float32) for _ in range(3))
    combined = np.zeros(shape, dtype=np.int16)
    guess = kernels.guess_median if parameters.by_median else kernels.guess_minimum
    guess(rate, sci, dq, sky, times, np.int16(parameters.bad_bits))
    mask = dq
    for sigma in parameters.sigmas:
        mask = dq.copy()
        kernels.reject(
            rate,
            exposure,
            variance,
            combined,
            mask,
            sci,
            err,
            sky,
            times,
            np.float32(sigma),
            np.float32(parameters.scale_noise) / np.float32(100),
            np.float32(parameters.threshold),
            np.float32(parameters.radius),
            np.int16(bad_bits),
            np.int16(reject_bits),
        )
    kept = exposure > 0
    rate[~kept] = 0
    weight = np.divide(total, exposure, out=np.zeros_like(exposure), where=kept)
    error = (weight.astype(np.float64) * np.sqrt(variance.astype(np.float64))).astype(np.float32)
    rejected = (mask == kernels.HIT) | (mask == kernels.SPILL)
    return _finished(rate, error, combined, rejected, sky, total)


def _finished(
    rate: F32,
    err: F32,
    dq: I16,
    rejected: npt.NDArray[np.bool_],
    sky: F32,
    total: np.float32,
) -> Combination:
    err[0, 0] = -1  # calacs leaves this mark in every combined image
    return Combination(rate * total + _sky_sum(sky), err, dq, rejected, sky)


def _sky_sum(sky: F32) -> np.float32:
    return max(np.float32(0), np.add.accumulate(sky)[-1])


def skies(sci: F32, dq: I16, parameters: RejectionParameters) -> F32:
    """The sky of every image: 0, or the mode of its histogram, whose range comes from the first image."""
    modes = np.zeros(len(sci), dtype=np.float32)
    if parameters.sky == "none":
        return modes
    found = np.zeros(3)
    kernels.sky_range(found, sci[0], dq[0], np.int16(parameters.bad_bits))
    low = max(int(found[0]), -15000)
    total, count = np.float32(found[1]), np.float32(found[2])
    mean = int(total / count + np.float32(1)) if total > 0 else 1
    bins = max(2 * mean - low - low + 1, 1000)
    width = np.float32(1)
    if bins > _MOST_BINS:
        width = np.float32(bins) / np.float32(_MOST_BINS)
        bins = _MOST_BINS
    for n in range(len(sci)):
        counts = np.zeros(bins, dtype=np.int64)
        kernels.histogram(counts, sci[n], dq[n], np.float32(low), width)
        modes[n] = np.float32(low) + _mode(counts) * width
    return modes


def _mode(counts: npt.NDArray[np.int64]) -> np.float32:
    """Place of the peak in bins, refined by a parabola through its neighbours."""
    peak = int(counts.argmax())
    place = np.float32(peak) + np.float32(0.5)
    if 0 < peak < len(counts) - 1:
        d1 = np.float32(counts[peak] - counts[peak - 1])
        d2 = np.float32(counts[peak] - counts[peak + 1])
        if d1 + d2 != 0:
            place = place + np.float32(0.5) * (d1 - d2) / (d1 + d2)
    return place


def _check(setups: Sequence[Setup], headers: Sequence[Header]) -> None:
    first = setups[0]
    if not 2 <= len(setups) <= MOST_IMAGES:
        what = f"{len(setups)} exposures cannot be combined"
        raise InputError.about(first.where, what, f"combine 2 to {MOST_IMAGES}")
    if value_of(headers[0], "IMAGETYP", first.where) is None:
        raise InputError.about(f"{first.where} IMAGETYP", "the keyword is missing", "fetch the file again")
    if first.switches["SHADCORR"]:
        what = "SHADCORR together with cosmic-ray rejection is not supported"
        raise InputError.about(f"{first.where} SHADCORR", what, "set SHADCORR to OMIT")
    for setup, header in zip(setups, headers, strict=True):
        if setup.amps != first.amps:
            what = f"{setup.amps} is not {first.amps}, that of {first.where.name}"
            raise InputError.about(f"{setup.where} CCDAMP", what, "combine exposures of one kind")
        if first.switches["FLSHCORR"] and _flash(setup, header) != _flash(first, headers[0]):
            what = f"FLSHCORR, FLASHCUR or FLASHDUR/EXPTIME differs from that of {first.where.name}"
            raise InputError.about(setup.where, what, "combine exposures with the same post-flash")


def _flash(setup: Setup, header: Header) -> tuple[object, ...]:
    rate = np.float32(setup.flash_duration / setup.exptime) if setup.exptime else np.float32(0)
    return setup.switches["FLSHCORR"], str(value_of(header, "FLASHCUR", setup.where)).strip(), float(rate)


def _write_masks(path: Path, masks: Sequence[npt.NDArray[np.bool_]]) -> None:
    """Set bit 8192 of an input image where it was rejected, clear it elsewhere."""
    image = read_image(path)
    for imset, mask in zip(image.imsets, masks, strict=True):
        columns = slice(0, 8 * (mask.shape[1] // 8))
        imset.dq[:, columns] &= np.int16(~kernels.REJECTED)
        imset.dq[:, columns][mask[:, columns]] |= np.int16(kernels.REJECTED)
    write_image(image, path, overwrite=True)


def _write_keywords(
    primary: Header, setups: Sequence[Setup], summed: float, mean: float, parameters: RejectionParameters
) -> None:
    for keyword in ("EXPTIME", "TEXPTIME"):
        set_float(primary, keyword, summed)
    primary["EXPSTART"] = min(setup.expstart for setup in setups)
    primary["EXPEND"] = max(setup.expend for setup in setups)
    flash = [setup.flash_duration if setup.switches["FLSHCORR"] else 0.0 for setup in setups]
    for keyword, values in (("FLASHDUR", flash), ("DARKTIME", [setup.darktime for setup in setups])):
        set_float(primary, keyword, np.add.accumulate(np.array(values, dtype=np.float32))[-1])
    primary["INITGUES"], primary["SKYSUB"] = parameters.guess, parameters.sky
    primary["CRSIGMAS"] = parameters.sigma_text
    set_float(primary, "MEANEXP", mean)
    set_float(primary, "CRRADIUS", parameters.radius)
    set_float(primary, "CRTHRESH", parameters.threshold)
    set_float(primary, "SCALENSE", parameters.scale_noise)
    primary["BADINPDQ"], primary["CRMASK"] = parameters.bad_bits, parameters.write_mask
    primary["NEXTEND"] = 3 * imset_count(primary, setups[0].where)
    primary["CRCORR"] = "COMPLETE"
