"""Which exposures become one mosaic, and which are set aside from it."""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from batch.archive.headers import Facts
from batch.archive.items import sibling
from batch.archive.tables import Row
from batch.config.archive import AssociateSettings
from batch.errors import UsageError
from batch.model.names import plain_name
from batch.model.observation import Absent, Association, Exposure, SetAside
from batch.storage import raw

_NOT_COMBINED = {
    "FR": "ramp filter: its band depends on where in the field a source lies",
    "POL": "polariser: its images are compared with each other, not added",
    "G800L": "grism: it makes spectra, not images of the sky",
    "PR": "prism: it makes spectra, not images of the sky",
}


@dataclass(frozen=True)
class Holdings:
    """Everything that is there, before it is grouped."""

    facts: Mapping[str, Facts]
    """Exposures by rootname."""
    broken: Mapping[str, Exposure] = field(default_factory=dict)
    """Stand-ins for exposures whose file cannot be read."""
    tables: Mapping[str, Sequence[Row]] = field(default_factory=dict)
    origins: Mapping[str, str] = field(default_factory=dict)
    """Where the tables lie."""
    rebuild: Sequence[str] = ()
    """Names of tables that are made anew from headers."""

    def exposure(self, name: str) -> Exposure | None:
        """An exposure by rootname."""
        facts = self.facts.get(name)
        return facts.exposure if facts is not None else self.broken.get(name)


@dataclass(frozen=True)
class _Group:
    members: Sequence[Exposure]
    absent: Sequence[Absent] = ()
    table: str = ""
    types: Mapping[str, str] = field(default_factory=dict)


def group(holdings: Holdings, settings: AssociateSettings) -> tuple[Association, ...]:
    """Associations of everything that is there, in order of their names where tables make them."""
    groups: dict[str, _Group] = {}
    taken: set[str] = set()
    if settings.by == "association":
        for name, rows in sorted({**_rebuilt(holdings), **holdings.tables}.items()):
            groups[name] = _of_table(name, rows, holdings)
            taken |= {row.rootname for row in rows}
    alone = [n for n in sorted(holdings.facts.keys() | holdings.broken.keys()) if n not in taken]
    members: dict[str, list[Exposure]] = {}
    for root in alone:
        exposure = holdings.exposure(root)
        assert exposure is not None
        name = plain_name(_name(exposure, holdings.facts.get(root), settings.by), root)
        members.setdefault(name, []).append(exposure)
    for name, exposures in members.items():
        if name in groups:
            raise UsageError(
                f"{name}: this is the name of a table and of a group of exposures; rename the table"
            )
        groups[name] = _Group(exposures)
    return tuple(
        _associate(name, found, settings) for name, found in groups.items() if found.members or found.absent
    )


def _rebuilt(holdings: Holdings) -> dict[str, list[Row]]:
    """Tables that could not be read, from ASN_ID and ASN_MTYP in the headers of their exposures."""
    made: dict[str, list[Row]] = {name: [] for name in holdings.rebuild}
    for root, facts in sorted(holdings.facts.items()):
        if facts.table in made:
            kind = facts.kind if facts.kind.startswith("EXP") else "EXP-DTH"
            made[facts.table].append(Row(root, kind))
    return made


def _of_table(name: str, rows: Sequence[Row], holdings: Holdings) -> _Group:
    """The members of a table; one that should be there and is not stays a member, and its fetch fails."""
    origin = "" if name in holdings.rebuild else holdings.origins.get(name, "")
    members, absent = [], []
    for row in rows:
        if not row.present:
            absent.append(Absent(row.rootname, f"MEMPRSNT is F in {name}_asn.fits"))
            continue
        exposure = holdings.exposure(row.rootname)
        if exposure is None:
            near = origin or next((f.exposure.origin for f in holdings.facts.values()), "")
            where = sibling(near, "raw").replace(name, row.rootname) if near else ""
            exposure = raw.unreadable(row.rootname, origin=where, trouble="its source has no raw file of it")
        members.append(exposure)
    return _Group(members, absent, origin, {r.rootname: r.kind for r in rows})


def _name(exposure: Exposure, facts: Facts | None, by: str) -> str:
    """The group of an exposure that is in no table."""
    if facts is None:
        return exposure.rootname
    first = exposure.rootname[:6]
    if by == "all":
        first = "all"
    elif by == "target" and facts.target:
        first = re.sub(r"[^A-Z0-9+]+", "-", facts.target).strip("-+") or first
    return "_".join([first, exposure.detector, *exposure.filters]).lower()


def _associate(name: str, found: _Group, settings: AssociateSettings) -> Association:
    """Split members into those that can be combined and those that cannot, with the reason."""
    members = sorted(found.members, key=lambda e: (e.start, e.rootname))
    keep, aside = _split(members, settings.exptime_factor)
    return Association(
        name,
        tuple(keep),
        tuple(aside),
        absent=tuple(found.absent),
        table=found.table,
        member_types=found.types,
    )


def _split(members: Sequence[Exposure], factor: float) -> tuple[list[Exposure], list[SetAside]]:
    readable = [e for e in members if e.detector]
    if not readable:
        return list(members), []
    # what is never combined has no say in what is
    readable = [e for e in readable if not _special(e.filters)] or readable
    ((mode, _),) = Counter((e.detector, e.filters) for e in readable).most_common(1)
    alike = [e.exptime for e in readable if (e.detector, e.filters) == mode and e.exptime > 0]
    typical = statistics.median(alike) if alike else 0.0
    keep, aside = [], []
    for exposure in members:
        reason = _reason(exposure, mode, typical, factor)
        if reason:
            aside.append(SetAside(exposure, reason))
        else:
            keep.append(exposure)
    return keep, aside


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
