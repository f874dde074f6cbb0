"""PHOTMODE, PHOTCORR and the statistics keywords.

Source: calibration-steps specification, sections 6.5 and 6.6; ACS ISR 2016-03 for what the keywords mean.
"""

from __future__ import annotations

import numpy as np

from batch.calibration import kernels
from batch.calibration.frame import Frame
from batch.calibration.header import Setup, add_history, set_float
from batch.calibration.imphttab import OutsideGridError, look_up
from batch.storage.planes import as_number

_KEYWORDS = ("PHOTFLAM", "PHOTPLAM", "PHOTBW")
_NO_VALUE = -9999.0


def set_photmode(frame: Frame) -> None:
    """Write PHOTMODE to every SCI header, whatever the switches say (6.5)."""
    for imset in frame.image.imsets:
        imset.sci_header["PHOTMODE"] = photmode(frame.setup)


def photmode(setup: Setup) -> str:
    """The observing mode as the throughput tables call it: ``ACS WFC1 F814W MJD#53801.5000``."""
    terms = ["ACS", "WFC1" if setup.detector == "WFC" else setup.detector]
    if setup.obstype.startswith("CORON"):
        terms.append("CORON")
    for name in setup.filters:
        if name.startswith(("N/A", "CLEAR")) or not name.strip():
            continue
        if name.startswith("POL"):
            name = "POL_UV" if "UV" in name else "POL_V"
        elif name.startswith("FR"):
            name = f"{name}#{setup.ramp_wavelength:.4g}"
        terms.append(name)
    return " ".join([*terms, f"MJD#{setup.expstart:.4f}"])


def set_photometry(frame: Frame) -> None:
    """PHOTCORR: PHOTFLAM, PHOTPLAM, PHOTBW and PHOTZPT from the IMPHTTAB (6.5).

    Raises
    ------
    InputError
        If the table has no row for the observing mode.
    """
    if not frame.performs("PHOTCORR"):
        return
    reference = frame.references.open("IMPHTTAB")
    if reference.is_dummy:
        frame.skip_dummy("PHOTCORR", reference, "table")
        return
    mode = photmode(frame.setup)
    zero_point = as_number(reference.primary, "PHOTZPT", reference.path)
    done = True
    try:
        values = {keyword: look_up(reference, keyword, mode) for keyword in _KEYWORDS}
    except OutsideGridError:
        values, done = dict.fromkeys(_KEYWORDS, _NO_VALUE), False
    for imset in frame.image.imsets:
        for keyword, value in values.items():
            set_float(imset.sci_header, keyword, value)
        set_float(imset.sci_header, "PHOTZPT", zero_point)
    if done:
        frame.complete("PHOTCORR", *reference.history("table"))
    else:
        frame.image.primary["PHOTCORR"] = "SKIPPED"
        add_history(frame.image.primary, "PHOTCORR not performed ...", *reference.history("table"))


def set_statistics(frame: Frame) -> None:
    """NGOODPIX, GOODMIN and so on, from the pixels without SDQFLAGS and with ERR > 0 (6.6)."""
    for imset, chip in frame.parts:
        found = np.zeros(10)
        kernels.statistics(imset.sci, imset.err, imset.dq, np.int16(chip.good_bits), found)
        count = int(found[0])
        imset.sci_header["NGOODPIX"] = imset.err_header["NGOODPIX"] = count
        if count == 0:
            continue
        for header, stem, first in (
            (imset.sci_header, "GOOD", 1),
            (imset.sci_header, "SNR", 4),
            (imset.err_header, "GOOD", 7),
        ):
            low, high, total = found[first : first + 3]
            set_float(header, f"{stem}MIN", low)
            set_float(header, f"{stem}MAX", high)
            set_float(header, f"{stem}MEAN", total / count)
