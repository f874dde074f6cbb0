"""references: let CRDS name the reference files of an exposure, and see that they are there.

One task per exposure, so that a broken exposure does not hold up its neighbours. The `crds bestrefs`
program is given a copy of the header alone: names depend on nothing else.
"""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from batch.config import ReferencesSettings, Settings
from batch.errors import InputError, LibraryError, MissingReferenceError, UsageError
from batch.model.json import encode
from batch.model.names import plain_name
from batch.model.observation import Association, Exposure
from batch.model.plan import Needs, Stage
from batch.stages.interface import Inputs, Outcome, product

log = logging.getLogger(__name__)


def needs(association: Association, exposure: Exposure | None, settings: Settings) -> Needs:
    """One call of `crds bestrefs` on a header."""
    return Needs(memory=200_000_000, seconds=3, timeout=600)


STAGE = Stage("references", "exposure", after=("fetch",), version=1, needs=needs, set_aside_too=True)

STEPS: dict[str, tuple[str, ...]] = {
    "DQICORR": ("BPIXTAB",),
    "BIASCORR": ("BIASFILE", "SATUFILE"),
    "BLEVCORR": ("OSCNTAB",),
    "SINKCORR": ("SNKCFILE",),
    "ATODCORR": ("ATODTAB",),
    "PCTECORR": ("PCTETAB", "DRKCFILE"),
    "DARKCORR": ("DARKFILE",),
    "FLSHCORR": ("FLSHFILE",),
    "FLATCORR": ("PFLTFILE", "DFLTFILE", "LFLTFILE"),
    "SHADCORR": ("SHADFILE",),
    "PHOTCORR": ("IMPHTTAB",),
}
"""What each calibration switch reads (calibration-steps.md, 2.4)."""

GEOMETRY = ("IDCTAB", "NPOLFILE", "D2IMFILE")
"""What the WCS is made from."""

NOMINAL = ("CCDTAB", "OSCNTAB")
"""Tables of fixed hardware, without which nothing can be calibrated: where they are missing and missing
ones may be omitted, the handbook's figures stand in (`batch.calibration.nominal`)."""

# never to be reached: the cache alone decides
_NO_SERVER = "https://hst-crds-serverless.invalid"


@dataclass(frozen=True)
class Resolution:
    """What CRDS named for one exposure, and what of it is there."""

    keywords: Mapping[str, str]
    """Header values as CRDS wrote them: ``jref$name.fits`` or ``N/A``."""
    files: Mapping[str, str]
    """Absolute path of each needed file that is in the cache, by name."""
    missing: Mapping[str, str] = field(default_factory=dict)
    """Names of needed files that are not there, by keyword."""
    switches: Mapping[str, str] = field(default_factory=dict)
    """Switches to set because of the missing files."""

    @property
    def nominal(self) -> tuple[str, ...]:
        """Missing tables that the handbook's figures replace."""
        return tuple(k for k in NOMINAL if k in self.missing)


def run(inputs: Inputs, area: Path, settings: ReferencesSettings) -> Outcome:
    """Write ``references.json`` for the exposure."""
    raw = inputs.file("fetch", "raw")
    root = inputs.exposure.rootname
    (found,) = resolve([raw], settings, area).values()
    if found.missing and settings.missing == "stop":
        raise missing_error({root: found})
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
    }
    return Outcome((product(area, "references.json", "references"),), results, _notes(root, found))


def _notes(root: str, found: Resolution) -> tuple[str, ...]:
    notes = []
    if found.switches:
        files = ", ".join(f"{k} {n}" for k, n in found.missing.items())
        notes.append(f"{root}: steps {', '.join(sorted(found.switches))} omitted; missing files: {files}")
    if found.nominal:
        notes.append(f"{root}: {', '.join(found.nominal)} missing; nominal figures of the handbook used")
    return tuple(notes)


def resolve(raws: Sequence[Path], settings: ReferencesSettings, area: Path) -> dict[str, Resolution]:
    """Ask `crds bestrefs` for the reference files of raw exposures.

    Parameters
    ----------
    raws : sequence of Path
        Raw files; their names begin with the rootname. Never written to.
    settings : ReferencesSettings
        With cache and context filled in (`locate_cache`).
    area : Path
        A folder for the header copies.

    Returns
    -------
    dict
        A `Resolution` by rootname.

    Raises
    ------
    LibraryError
        If CRDS fails; its own last words are in the message.
    InputError
        If it names a file by something other than a plain name.
    """
    if settings.cache is None:
        raise UsageError("references.cache: no CRDS cache was given; use --crds-cache DIR, or set CRDS_PATH")
    stubs = [_header_copy(raw, area) for raw in raws]
    for start in range(0, len(stubs), 500):
        _bestrefs([s.name for s in stubs[start : start + 500]], settings, area)
    return {
        raw.name.partition("_")[0]: _resolution(s, settings.cache) for raw, s in zip(raws, stubs, strict=True)
    }


def _header_copy(raw: Path, area: Path) -> Path:
    from astropy.io import fits

    stub = area / raw.name
    header = fits.getheader(raw, 0)
    fits.PrimaryHDU(header=header).writeto(stub, output_verify="silentfix")
    return stub


def _bestrefs(names: Iterable[str], settings: ReferencesSettings, area: Path) -> None:
    environment = {
        **os.environ,
        "CRDS_PATH": str(settings.cache),
        "CRDS_CONTEXT": settings.context,
        "CRDS_SERVER_URL": _NO_SERVER,
        "CRDS_READONLY_CACHE": "1",
        "CRDS_OBSERVATORY": "hst",
    }
    # CRDS joins and splits its command line at blanks: plain file names in the current folder have none
    command = [sys.executable, "-P", "-m", "crds.bestrefs", "--new-context", settings.context]
    done = subprocess.run(
        [*command, "--update-bestrefs", "--files", *names],
        cwd=area,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    log.info("%s", (done.stdout + done.stderr).strip())
    errors = [line for line in (done.stdout + done.stderr).splitlines() if "ERROR" in line]
    if done.returncode or errors:
        words = (errors or done.stderr.splitlines() or ["no message"])[-1].strip()
        raise LibraryError(
            f"crds bestrefs with context {settings.context} in {settings.cache}: {words}; "
            "check the context and the exposure's header"
        )


def _resolution(stub: Path, cache: Path) -> Resolution:
    from astropy.io import fits

    header = fits.getheader(stub, 0)
    keywords = {
        k: str(header[k]).strip() for k in _reference_keywords(header) if str(header.get(k, "")).strip()
    }
    needed = {k: v for k in needed_keywords(header) if "$" in (v := keywords.get(k, ""))}
    files, missing = {}, {}
    for keyword, value in needed.items():
        name = plain_name(value.rpartition("$")[2], f"{stub.name} {keyword}")
        path = find_in_cache(cache, name)
        if path is None:
            missing[keyword] = name
        else:
            files[name] = str(path)
    return Resolution(keywords, files, missing, _switches_off(header, missing))


def _reference_keywords(header: Any) -> tuple[str, ...]:
    steps = (k for keywords in STEPS.values() for k in keywords)
    return ("CCDTAB", *steps, "CRREJTAB", *GEOMETRY)


def needed_keywords(header: Any) -> list[str]:
    """Reference keywords that the exposure's switches, and its WCS, will read."""
    on = {s for s in STEPS if str(header.get(s, "OMIT")).strip().upper() == "PERFORM"}
    needed = ["CCDTAB", "OSCNTAB", *(k for s in STEPS if s in on for k in STEPS[s]), *GEOMETRY]
    if not {"PCTECORR", "DARKCORR"} <= on and "DRKCFILE" in needed:
        needed.remove("DRKCFILE")
    return list(dict.fromkeys(needed))


def _switches_off(header: Any, missing: Mapping[str, str]) -> dict[str, str]:
    """The switches that are on and cannot be, for want of a file with nothing to stand in."""
    return {
        switch: "OMIT"
        for switch, keywords in STEPS.items()
        if str(header.get(switch, "OMIT")).strip().upper() == "PERFORM"
        and any(k in missing and k not in NOMINAL for k in keywords)
    }


def find_in_cache(cache: Path, name: str) -> Path | None:
    """A reference file in a CRDS cache of either layout, flat or by instrument."""
    for folder in (cache / "references" / "hst", cache / "references" / "hst" / "acs"):
        if (folder / name).is_file():
            return (folder / name).absolute()
    return None


def missing_error(found: Mapping[str, Resolution]) -> MissingReferenceError:
    """One message that lists every missing file once, with the keywords and exposures that ask for it."""
    users: dict[str, set[str]] = {}
    keywords: dict[str, str] = {}
    for root, resolution in found.items():
        for keyword, name in resolution.missing.items():
            users.setdefault(name, set()).add(root)
            keywords[name] = keyword
    lines = [f"  {name} ({keywords[name]}; {', '.join(sorted(users[name]))})" for name in sorted(users)]
    return MissingReferenceError(
        f"{len(lines)} reference files are not in the CRDS cache:\n" + "\n".join(lines) + "\n"
        "Sync them into the cache, or go on without with --missing-references omit."
    )


def locate_cache(settings: ReferencesSettings, environment: Mapping[str, str]) -> ReferencesSettings:
    """Fill in cache and context, from CRDS's own variables and the cache where they were not given.

    Raises
    ------
    UsageError
        If there is no cache, or it does not have the context.
    """
    cache = settings.cache or (Path(environment["CRDS_PATH"]) if environment.get("CRDS_PATH") else None)
    if cache is None:
        raise UsageError("no CRDS cache was given: use --crds-cache DIR, or set CRDS_PATH")
    mappings = cache / "mappings" / "hst"
    if not mappings.is_dir():
        raise UsageError(f"{cache}: not a CRDS cache (there is no mappings/hst); give its top folder")
    context = settings.context or environment.get("CRDS_CONTEXT", "") or _newest_context(mappings)
    if not re.fullmatch(r"hst_\d+\.pmap", context):
        raise UsageError(f"references.context: {context!r} is not a context such as hst_0729.pmap")
    if not (mappings / context).is_file():
        raise UsageError(f"{cache}: context {context} is not in this CRDS cache; sync it, or name another")
    return settings.model_copy(update={"cache": cache.absolute(), "context": context})


def _newest_context(mappings: Path) -> str:
    contexts = [p.name for p in mappings.glob("hst_*.pmap") if re.fullmatch(r"hst_\d+\.pmap", p.name)]
    if not contexts:
        raise InputError.about(mappings, "there is no context (hst_*.pmap)", "sync the CRDS cache")
    return max(contexts, key=lambda name: int(name[4:-5]))
