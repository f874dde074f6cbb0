"""Are all reference files there? Asked once, before anything is written.

Source: calibration-steps specification, section 2.4.
"""

from __future__ import annotations

from collections.abc import Iterator

from batch.calibration.flatfield import refuse_unusable_flats
from batch.calibration.frame import Frame
from batch.calibration.header import CCD_SWITCHES
from batch.errors import MissingReferenceError

REFERENCE_KEYWORDS = (
    *("CCDTAB", "OSCNTAB", "BPIXTAB", "BIASFILE", "SATUFILE", "ATODTAB", "SNKCFILE", "PCTETAB", "DARKFILE"),
    *("DRKCFILE", "FLSHFILE", "PFLTFILE", "DFLTFILE", "LFLTFILE", "SHADFILE", "IMPHTTAB", "CRREJTAB"),
)
"""Those whose names the first exposure of a position imposes on the others."""
_FLATS = ("PFLTFILE", "DFLTFILE", "LFLTFILE")


def check_references(frame: Frame, *, combine: bool = False) -> None:
    """See that every reference file of every step that will be done is there.

    Parameters
    ----------
    frame : Frame
    combine : bool
        True where exposures are combined, which needs a CRREJTAB.

    Raises
    ------
    MissingReferenceError
        With all missing files in one message.
    InputError
        If a flat is given that cannot be applied.
    """
    missing = [reason for reason in _missing(frame, combine) if reason is not None]
    if missing:
        reasons = "; ".join(dict.fromkeys(missing))
        raise MissingReferenceError(f"{frame.where}: {reasons}; provide the files or set their steps to OMIT")
    if frame.performs("FLATCORR"):
        refuse_unusable_flats(frame)


def _missing(frame: Frame, combine: bool) -> Iterator[str | None]:
    references, performs = frame.references, frame.performs
    yield references.missing("CCDTAB")
    if any(performs(switch) for switch in CCD_SWITCHES):
        yield references.missing("OSCNTAB")
    if performs("DQICORR"):
        yield references.missing("BPIXTAB", may_be_absent=True)
    if performs("BIASCORR"):
        yield references.missing("BIASFILE")
        yield references.missing("SATUFILE")
    if performs("ATODCORR"):
        yield references.missing("ATODTAB")
    if performs("SINKCORR") and any(performs(switch) for switch in CCD_SWITCHES):
        yield references.missing("SNKCFILE")
    if performs("PCTECORR"):
        yield references.missing("PCTETAB")
    if performs("DARKCORR"):
        yield references.missing("DARKFILE")
        if performs("PCTECORR"):
            yield references.missing("DRKCFILE")
    if performs("FLSHCORR"):
        yield references.missing("FLSHFILE")
    if performs("FLATCORR"):
        yield from (references.missing(keyword, may_be_absent=True) for keyword in _FLATS)
        if not any(references.given(keyword) for keyword in _FLATS):
            yield f"{', '.join(_FLATS)} are all N/A"
    if performs("SHADCORR"):
        yield references.missing("SHADFILE")
    if performs("PHOTCORR"):
        yield references.missing("IMPHTTAB")
    if combine:
        yield references.missing("CRREJTAB")
