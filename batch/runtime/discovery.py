"""From a folder of raw files to associations: what to reduce together, and what to set aside."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from astropy.io import fits

from batch.config import AssociateSettings
from batch.errors import InputError, UsageError
from batch.model.names import plain_name, rootname
from batch.model.observation import Association, Exposure, SetAside
from batch.storage import raw

_NOT_COMBINED = {
    "FR": "ramp filter: its band depends on where in the field a source lies",
    "POL": "polariser: its images are compared with each other, not added",
    "G800L": "grism: it makes spectra, not images of the sky",
    "PR": "prism: it makes spectra, not images of the sky",
}
"""Optical elements, by the beginning of their names, whose exposures are calibrated only (ACS Instrument
Handbook, chapters 5 and 6)."""


def discover(
    folder: Path, settings: AssociateSettings, wanted: Sequence[str] = ()
) -> tuple[Association, ...]:
    """Group the raw exposures of a folder.

    Parameters
    ----------
    folder : Path
        Holds ``*_raw.fits`` and, where there are any, ``*_asn.fits``.
    settings : AssociateSettings
        What is left out or set aside.
    wanted : sequence of str
        Names of associations or exposures; empty takes everything.

    Returns
    -------
    tuple of Association
        By association table where there is one, else by visit, detector and filters. An exposure whose
        file is missing or cannot be read is a member all the same: its fetch task fails and says why.

    Raises
    ------
    UsageError
        If there is nothing to reduce, or a wanted or excluded name is not there.
    UnsafeNameError
        If a table or file names something that is no rootname.
    InputError
        If an association table cannot be read.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: there is no such folder; give the folder of the raw files with --from")
    files = {_root(p): p for p in sorted(folder.glob("*_raw.fits"))}
    tables = {_table_name(p): read_table(p) for p in sorted(folder.glob("*_asn.fits"))}
    if not files and not tables:
        raise UsageError(f"{folder}: no *_raw.fits and no *_asn.fits here; give the folder of the raw files")
    listed = {name for members in tables.values() for name in members}
    excluded = _known(settings.exclude, files.keys() | listed, folder, "--exclude")
    exposures = {
        name: _exposure(folder, name, files) for name in sorted(files.keys() | listed) if name not in excluded
    }
    groups = {
        name: [exposures[m] for m in members if m in exposures] for name, members in sorted(tables.items())
    }
    groups |= _by_visit(e for name, e in exposures.items() if name not in listed)
    found = tuple(_associate(name, members, settings) for name, members in groups.items() if members)
    return _select(found, [w.strip().lower() for w in wanted], folder)


def read_table(path: Path) -> tuple[str, ...]:
    """Rootnames of the exposures in an association table, products left out.

    Raises
    ------
    InputError
        If the file is no association table.
    UnsafeNameError
        If a member's name is no rootname.
    """
    try:
        with fits.open(path, memmap=False) as hdus:
            table = hdus[1].data
            rows = list(zip(table["MEMNAME"], table["MEMTYPE"], strict=True))
    except (OSError, KeyError, IndexError, TypeError, ValueError) as error:
        text = " ".join(str(error).split())
        raise InputError.about(f"{path}[1]", f"no association table ({text})", "fetch it again") from None
    return tuple(
        rootname(name, f"{path}[1] MEMNAME")
        for name, kind in rows
        if str(kind).strip().upper().replace("_", "-").startswith("EXP")
    )


def _root(path: Path) -> str:
    return rootname(path.name.removesuffix("_raw.fits"), path)


def _table_name(path: Path) -> str:
    return plain_name(path.name.removesuffix("_asn.fits").lower(), path)


def _exposure(folder: Path, name: str, files: Mapping[str, Path]) -> Exposure:
    path = files.get(name, folder / f"{name}_raw.fits")
    try:
        return raw.describe(path)
    except InputError:
        return raw.unreadable(path, name)


def _by_visit(exposures: Iterable[Exposure]) -> dict[str, list[Exposure]]:
    """Exposures without a table: one association per visit, detector, aperture and filters."""
    groups: dict[str, list[Exposure]] = {}
    for exposure in exposures:
        parts = [exposure.rootname[:6], exposure.detector, *exposure.filters]
        name = "_".join(p for p in parts if p).lower() if exposure.detector else exposure.rootname
        groups.setdefault(plain_name(name, exposure.rootname), []).append(exposure)
    return groups


def _associate(name: str, members: Sequence[Exposure], settings: AssociateSettings) -> Association:
    """Split members into those that can be combined and those that cannot, with the reason."""
    members = sorted(members, key=lambda e: (e.start, e.rootname))
    readable = [e for e in members if e.detector]
    if not readable:
        return Association(name, tuple(members))
    # what is never combined has no say in what is
    readable = [e for e in readable if not _special(e.filters)] or readable
    ((mode, _),) = Counter((e.detector, e.filters) for e in readable).most_common(1)
    alike = [e.exptime for e in readable if (e.detector, e.filters) == mode and e.exptime > 0]
    typical = statistics.median(alike) if alike else 0.0
    keep, aside = [], []
    for exposure in members:
        reason = _reason(exposure, mode, typical, settings.exptime_factor)
        if reason:
            aside.append(SetAside(exposure, reason))
        else:
            keep.append(exposure)
    return Association(name, tuple(keep), tuple(aside))


def _reason(exposure: Exposure, mode: tuple[str, tuple[str, ...]], typical: float, factor: float) -> str:
    """Why an exposure cannot be combined with the others; empty if it can."""
    if not exposure.detector:
        return ""
    special = _special(exposure.filters)
    if special:
        return special
    if exposure.detector != mode[0]:
        return f"detector {exposure.detector}, the others {mode[0]}"
    if exposure.filters != mode[1]:
        return f"filter {'+'.join(exposure.filters) or 'clear'}, the others {'+'.join(mode[1]) or 'clear'}"
    if exposure.exptime <= 0:
        return "exposure time 0 s"
    if max(exposure.exptime / typical, typical / exposure.exptime) > factor:
        return (
            f"exposure time {exposure.exptime:g} s, more than a factor {factor:g} "
            f"off the median of {typical:g} s (associate.exptime_factor)"
        )
    return ""


def _special(filters: Sequence[str]) -> str:
    """Why images through these filters are not combined; empty if they are."""
    for name in filters:
        for prefix, why in _NOT_COMBINED.items():
            if name.startswith(prefix):
                return f"{name} is a {why}"
    return ""


def _known(names: Iterable[str], present: Iterable[str], folder: Path, option: str) -> set[str]:
    asked = {n.strip().lower() for n in names}
    unknown = sorted(asked - set(present))
    if unknown:
        raise UsageError(f"{option} {', '.join(unknown)}: no such exposure in {folder}")
    return asked


def _select(found: tuple[Association, ...], wanted: Sequence[str], folder: Path) -> tuple[Association, ...]:
    """The associations that were asked for, by their own name or that of a member."""
    if not wanted:
        return found
    names = {a.name: {a.name} for a in found}
    for association in found:
        for member in association.members:
            names.setdefault(member.rootname, set()).add(association.name)
    unknown = sorted(w for w in wanted if w not in names)
    if unknown:
        raise UsageError(f"{', '.join(unknown)}: no such association or exposure in {folder}")
    chosen = {name for w in wanted for name in names[w]}
    return tuple(a for a in found if a.name in chosen)
