"""Whether an exposure is one that was searched for."""

from __future__ import annotations

import datetime
import math
import re

from batch.archive.headers import Facts
from batch.config.archive import SearchSettings

_POSITION = re.compile(r"\s*([+-]?\d+(?:\.\d*)?)[\s,]+([+-]?\d+(?:\.\d*)?)\s*")
_MJD_0 = datetime.datetime(1858, 11, 17)


def meets(facts: Facts, search: SearchSettings, *, target_too: bool) -> bool:
    """Whether an exposure meets all conditions.

    Parameters
    ----------
    facts : Facts
        As its headers have them.
    search : SearchSettings
        The conditions.
    target_too : bool
        False where the source has looked at the target itself, which knows more than a header: where the
        aperture pointed, and names of targets.
    """
    exposure = facts.exposure
    return (
        (search.proposal is None or facts.proposal in (None, search.proposal))
        and (not search.visits or exposure.rootname[4:6] in {v.lower() for v in search.visits})
        and (not search.filters or not {f.upper() for f in search.filters}.isdisjoint(exposure.filters))
        and (not search.after or exposure.start >= mjd(search.after))
        and (not search.before or exposure.start < mjd(search.before))
        and (not target_too or not search.target or _on_target(facts, search))
    )


def _on_target(facts: Facts, search: SearchSettings) -> bool:
    where = position(search.target)
    if where is None:
        return _plain(facts.target) == _plain(search.target)
    return facts.position is not None and separation(where, facts.position) <= search.radius


def mjd(date: str) -> float:
    """A date, ``YYYY-MM-DD`` or with a time of day (UTC), as MJD."""
    moment = datetime.datetime.fromisoformat(date)
    if moment.tzinfo is not None:
        moment = moment.astimezone(datetime.UTC).replace(tzinfo=None)
    return (moment - _MJD_0) / datetime.timedelta(days=1)


def position(text: str) -> tuple[float, float] | None:
    """Right ascension and declination (deg), if the text is two numbers; None for a name."""
    found = _POSITION.fullmatch(text)
    if found is None:
        return None
    ra, dec = float(found[1]), float(found[2])
    return (ra, dec) if 0 <= ra < 360 and -90 <= dec <= 90 else None


def separation(one: tuple[float, float], other: tuple[float, float]) -> float:
    """Angle between two positions (deg), arcmin."""
    (ra1, dec1), (ra2, dec2) = (tuple(map(math.radians, p)) for p in (one, other))
    haversine = math.sin((dec2 - dec1) / 2) ** 2
    haversine += math.cos(dec1) * math.cos(dec2) * math.sin((ra2 - ra1) / 2) ** 2
    return math.degrees(2 * math.asin(min(1.0, math.sqrt(haversine)))) * 60


def _plain(name: str) -> str:
    """``NGC 104`` and ``NGC-104`` are the same target."""
    return re.sub(r"[^A-Z0-9+]", "", name.upper())
