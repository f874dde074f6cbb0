"""The reference files of a whole run, before it starts: context pinned, files fetched once and checked."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from batch.config import Settings
from batch.config.calibration import switch_values
from batch.model.observation import Association, Exposure, SetAside

if TYPE_CHECKING:
    from batch.references.bestrefs import Resolution
    from batch.references.custom import Custom

log = logging.getLogger(__name__)


def prepare(
    settings: Settings,
    associations: Sequence[Association],
    raws: Mapping[str, Path],
    *,
    fetch: bool,
) -> tuple[Settings, dict[str, str]]:
    """Pin the CRDS context, look at custom files, and bring the union of what is missing into the cache.

    Parameters
    ----------
    settings : Settings
    associations : sequence of Association
        Everything that is going to be reduced.
    raws : mapping
        Raw files whose headers can be read now, by rootname. The references of other exposures are named,
        and fetched if missing, by their own tasks.
    fetch : bool
        False for a look at the plan: nothing but rules is fetched then.

    Returns
    -------
    settings : Settings
        With cache, server and context filled in.
    identities : dict
        For each references task what its products depend on, so that a file which appears in the cache
        later, or another custom file, makes it stale.

    Raises
    ------
    UsageError, InputError
        For anything that would make the run pointless, before it starts.
    MissingReferenceError
        If files are missing that may neither be fetched nor omitted; it lists all of them.
    """
    from batch.references import bestrefs, context, custom, obtain

    pinned = context.pin(settings.references, os.environ)
    pinned = pinned.model_copy(update={"switches": settings.calibrate.switches})
    settings = settings.model_copy(update={"references": pinned})
    members = {e.rootname: e for a in associations for e in a.members}
    customs = [custom.parse(text) for text in pinned.custom]
    custom.check(customs, {root: e.filters for root, e in members.items()})
    found = bestrefs.resolve(sorted(set(raws.values())), pinned) if raws else {}
    unknown: dict[str, str] = {}
    if fetch:
        roots = list(found)
        come, unknown = obtain.fetch_missing([found[r] for r in roots], pinned)
        found = dict(zip(roots, come, strict=True))
    incomplete = {root: one for root, one in found.items() if one.missing}
    if incomplete and pinned.missing == "stop" and (fetch or pinned.sync == "never"):
        raise bestrefs.missing_error(incomplete, unknown)
    if incomplete and pinned.sync == "missing" and not fetch:
        sizes = obtain.sizes(found.values(), pinned)
        log.warning("%d reference files, %.1f MB, will be fetched", len(sizes), sum(sizes.values()) / 1e6)
    if found:
        state = obtain.examine(list(found.values()), pinned, os.environ)
        for note in state.notes:
            log.warning("%s", note)
    return settings, _identities(associations, found, customs)


def _identities(
    associations: Sequence[Association], found: Mapping[str, Resolution], customs: Sequence[Custom]
) -> dict[str, str]:
    from batch.references import custom, obtain

    identities = {}
    for association in associations:
        for exposure in association.members:
            one = found.get(exposure.rootname)
            if one is not None:
                text = obtain.identity(one)
            else:
                own = custom.choose(customs, exposure.rootname, exposure.filters)
                content = {k: [c.name, c.sha256] for k, c in own.items()}
                text = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
            identities[f"references/{association.name}/{exposure.rootname}"] = text
    return identities


def with_switches(associations: Sequence[Association], settings: Settings) -> tuple[Association, ...]:
    """Associations whose exposures know what the user's switches make of them."""
    wanted = switch_values(settings.calibrate.switches).get("PCTECORR")
    if wanted is None:
        return tuple(associations)

    def switched(exposure: Exposure) -> Exposure:
        return dataclasses.replace(exposure, cte=wanted == "PERFORM")

    return tuple(
        dataclasses.replace(
            a,
            exposures=tuple(switched(e) for e in a.exposures),
            set_aside=tuple(SetAside(switched(s.exposure), s.reason) for s in a.set_aside),
        )
        for a in associations
    )
