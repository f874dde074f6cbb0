"""references: let CRDS name the reference files of an exposure, and see that they are there and whole.

One task per exposure, so that a broken exposure does not hold up its neighbours.
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from batch.config import Settings
from batch.config.calibration import ReferencesSettings
from batch.model.json import encode
from batch.model.observation import Association, Exposure
from batch.model.plan import Needs, Stage
from batch.stages.interface import Inputs, Outcome, product

if TYPE_CHECKING:
    from batch.references.bestrefs import Resolution

log = logging.getLogger(__name__)


def needs(association: Association, exposure: Exposure | None, settings: Settings) -> Needs:
    """One question to crds; with sync, the time to wait for others that download too."""
    fetches = settings.references.sync == "missing"
    return Needs(memory=200_000_000, seconds=3, timeout=6 * 3600 if fetches else 600, network=fetches)


STAGE = Stage("references", "exposure", after=("fetch",), version=2, needs=needs, set_aside_too=True)


def run(inputs: Inputs, area: Path, settings: ReferencesSettings) -> Outcome:
    """Write ``references.json`` for the exposure, after fetching what is missing where that is wanted."""
    from batch.references import obtain
    from batch.references.bestrefs import missing_error, resolve

    raw = inputs.file("fetch", "raw")
    root = inputs.exposure.rootname
    named = resolve([raw], settings, here=True)
    (found,), unknown = obtain.fetch_missing([named[root]], settings)
    if found.missing and settings.missing == "stop":
        raise missing_error({root: found}, unknown)
    state = obtain.examine([found], settings, os.environ)
    content = {
        "context": settings.context,
        "files": {name: {"path": path} for name, path in found.files.items()},
        "exposures": {root: {**encode(found), "nominal": list(found.nominal)}},
    }
    (area / "references.json").write_text(json.dumps(content, indent=1, sort_keys=True), encoding="utf-8")
    results = {
        "context": settings.context,
        "keywords": dict(found.keywords),
        "missing": dict(found.missing),
        "omitted": sorted(found.switches),
        "nominal": list(found.nominal),
        "switches": dict(found.asked),
        "custom": {k: {"path": found.custom_path(k), "sha256": v} for k, v in found.custom.items()},
        "verified": list(state.verified),
        "unverified": list(state.unverified),
        "bad": list(state.bad),
    }
    notes = (*_notes(root, found), *(f"{root}: {text}" for text in state.notes))
    return Outcome((product(area, "references.json", "references"),), results, notes)


def _notes(root: str, found: Resolution) -> tuple[str, ...]:
    notes = []
    if found.asked:
        notes.append(f"{root}: {', '.join(f'{k}={v}' for k, v in found.asked.items())} as asked for")
    for keyword in found.custom:
        notes.append(f"{root}: {keyword} is your own {found.custom_path(keyword)}")
    if found.switches:
        files = ", ".join(f"{k} {n}" for k, n in found.missing.items())
        notes.append(f"{root}: steps {', '.join(sorted(found.switches))} omitted; missing files: {files}")
    if found.nominal:
        notes.append(f"{root}: {', '.join(found.nominal)} missing; nominal figures of the handbook used")
    return tuple(notes)
