"""Which reference files CRDS names for exposures, and what of them is there.

The `crds bestrefs` program is given copies of headers alone: names depend on nothing else.
"""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from batch.calibration_settings import ReferencesSettings, switch_values
from batch.errors import LibraryError, MissingReferenceError, UsageError
from batch.model.names import plain_name
from batch.references import custom
from batch.references.location import Cache
from batch.references.needed import KEYWORDS, NOMINAL, needed_keywords, switches_off
from batch.references.service import NO_SERVER, environment
from batch.storage.raw import filters

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Resolution:
    """What CRDS named for one exposure, and what of it is there."""

    keywords: Mapping[str, str]
    """Header values: ``jref$name.fits`` or ``N/A``, the user's own files in their place."""
    files: Mapping[str, str]
    """Absolute path of each needed file that is there, by name."""
    missing: Mapping[str, str] = field(default_factory=dict)
    """Names of needed files that are not there, by keyword."""
    switches: Mapping[str, str] = field(default_factory=dict)
    """Switches to set because of the missing files."""
    asked: Mapping[str, str] = field(default_factory=dict)
    """Switches that the user set."""
    custom: Mapping[str, str] = field(default_factory=dict)
    """sha256 of the user's own files, by keyword."""

    @property
    def nominal(self) -> tuple[str, ...]:
        """Missing tables that the handbook's figures replace."""
        return tuple(k for k in NOMINAL if k in self.missing)

    def custom_path(self, keyword: str) -> str:
        """Where the user's own file for a keyword lies."""
        return self.files[self.keywords[keyword].removeprefix("jref$")]

    @property
    def from_crds(self) -> dict[str, Path]:
        """The files that CRDS delivered, by name."""
        own = {self.keywords[k].removeprefix("jref$") for k in self.custom}
        return {n: Path(p) for n, p in self.files.items() if n not in own}


def resolve(raws: Sequence[Path], settings: ReferencesSettings, area: Path) -> dict[str, Resolution]:
    """Ask `crds bestrefs` for the reference files of raw exposures.

    Parameters
    ----------
    raws : sequence of Path
        Raw files; their names begin with the rootname. Never written to.
    settings : ReferencesSettings
        With cache and context filled in (`batch.references.context`), and the switches of calibrate.
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
    cache = Cache(settings.cache)
    asked = switch_values(settings.switches)
    stubs = [_header_copy(raw, area, asked) for raw in raws]
    for start in range(0, len(stubs), 500):
        _bestrefs([s.name for s in stubs[start : start + 500]], cache, settings.context, area)
    customs = [custom.parse(text) for text in settings.custom]
    return {
        raw.name.partition("_")[0]: _resolution(s, cache, asked, customs)
        for raw, s in zip(raws, stubs, strict=True)
    }


def _header_copy(raw: Path, area: Path, switches: Mapping[str, str]) -> Path:
    from astropy.io import fits

    stub = area / raw.name
    header = fits.getheader(raw, 0)
    for switch, value in switches.items():
        header[switch] = value
    fits.PrimaryHDU(header=header).writeto(stub, output_verify="silentfix")
    return stub


def _bestrefs(names: Sequence[str], cache: Cache, context: str, area: Path) -> None:
    # files that CRDS calls bad are told of, or refused, by whoever asked; bestrefs itself would stop
    tolerant = {"CRDS_ALLOW_BAD_REFERENCES": "1", "CRDS_ALLOW_BAD_RULES": "1"}
    # CRDS joins and splits its command line at blanks: plain file names in the current folder have none
    command = [sys.executable, "-P", "-m", "crds.bestrefs", "--new-context", context]
    done = subprocess.run(
        [*command, "--update-bestrefs", "--files", *names],
        cwd=area,
        env=environment(cache, NO_SERVER, context) | tolerant,
        capture_output=True,
        text=True,
        check=False,
    )
    log.info("%s", (done.stdout + done.stderr).strip())
    errors = [line for line in (done.stdout + done.stderr).splitlines() if "ERROR" in line]
    if done.returncode or errors:
        words = (errors or done.stderr.splitlines() or ["no message"])[-1].strip()
        raise LibraryError(
            f"crds bestrefs with context {context} in {cache.root}: {words}; "
            "check the context and the exposure's header"
        )


def _resolution(
    stub: Path, cache: Cache, asked: Mapping[str, str], customs: Sequence[custom.Custom]
) -> Resolution:
    from astropy.io import fits

    header = fits.getheader(stub, 0)
    own = custom.choose(customs, stub.name.partition("_")[0], filters(header))
    keywords = {k: str(header[k]).strip() for k in KEYWORDS if str(header.get(k, "")).strip()}
    keywords |= {k: f"jref${c.name}" for k, c in own.items()}
    needed = {k: v for k in needed_keywords(header) if "$" in (v := keywords.get(k, ""))}
    files: dict[str, str] = {}
    missing = {}
    for keyword, value in needed.items():
        name = plain_name(value.rpartition("$")[2], f"{stub.name} {keyword}")
        path = own[keyword].path if keyword in own else cache.find(name)
        if path is None:
            missing[keyword] = name
        elif files.setdefault(name, str(path)) != str(path):
            raise UsageError(
                f"--reference {keyword}: {stub.name} needs CRDS's own {name} too; rename your file"
            )
    used = {k: own[k].sha256 for k in own if k in needed}
    return Resolution(keywords, files, missing, switches_off(header, missing), asked, used)


def again(found: Resolution, cache: Cache) -> Resolution:
    """The same after files have come: what is there now, and what is still missing."""
    come = {k: path for k, n in found.missing.items() if (path := cache.find(n)) is not None}
    missing = {k: n for k, n in found.missing.items() if k not in come}
    files = {**found.files, **{found.missing[k]: str(path) for k, path in come.items()}}
    performed = dict.fromkeys(found.switches, "PERFORM")
    return Resolution(
        found.keywords, files, missing, switches_off(performed, missing), found.asked, found.custom
    )


def missing_error(
    found: Mapping[str, Resolution], reasons: Mapping[str, str] | None = None
) -> MissingReferenceError:
    """One message that lists every missing file once, with the keywords and exposures that ask for it.

    Parameters
    ----------
    found : mapping
        Resolutions by rootname.
    reasons : mapping, optional
        Why files could not be fetched, by name.
    """
    users: dict[str, set[str]] = {}
    keywords: dict[str, str] = {}
    for root, resolution in found.items():
        for keyword, name in resolution.missing.items():
            users.setdefault(name, set()).add(root)
            keywords[name] = keyword
    why = {name: f": {reason}" for name, reason in (reasons or {}).items()}
    lines = [
        f"  {name} ({keywords[name]}; {', '.join(sorted(users[name]))}){why.get(name, '')}"
        for name in sorted(users)
    ]
    return MissingReferenceError(
        f"{len(lines)} reference files are not in the CRDS cache:\n" + "\n".join(lines) + "\n"
        "Fetch them with --sync, or go on without with --missing-references omit."
    )
