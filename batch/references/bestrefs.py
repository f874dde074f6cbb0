"""Which reference files CRDS names for exposures, and what of them is there.

The crds library reads its environment once, at import: it runs in a process of its own (`recommend`), or
in one that is for a single exposure anyway.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from batch.config.calibration import ReferencesSettings, switch_values
from batch.errors import BatchError, InputError, LibraryError, MissingReferenceError, UsageError
from batch.model.names import plain_name
from batch.references import custom, recommend
from batch.references.location import Cache
from batch.references.needed import KEYWORDS, NOMINAL, STEPS, needed_keywords, switches_off
from batch.references.service import NO_SERVER, environment
from batch.storage.raw import filters

log = logging.getLogger(__name__)

_A_LANE = 200
"""Headers that are worth the second which a process of crds takes to start."""

Ask = Callable[[Mapping[str, str]], dict[str, Any]]
"""Header to the ``names`` of files, or an ``error``."""


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


def resolve(
    raws: Sequence[Path], settings: ReferencesSettings, *, here: bool = False
) -> dict[str, Resolution]:
    """Ask CRDS for the reference files of raw exposures.

    Parameters
    ----------
    raws : sequence of Path
        Raw files, or their headers alone; their names begin with the rootname. Never written to.
    settings : ReferencesSettings
        With cache and context filled in (`batch.references.context`), and the switches of calibrate.
    here : bool
        Import crds in this process, which saves a second; once only, for crds keeps what it has read.

    Returns
    -------
    dict
        A `Resolution` by rootname. As long as there are others, an exposure that something is wrong with is
        left out with a warning: its own task fails alone.

    Raises
    ------
    LibraryError
        If CRDS fails for all of them; its own last words are in the message.
    InputError
        If a header of each cannot be understood, or a file is named by something other than a plain name.
    UsageError
        If there is no cache, or a file of the user's own cannot be used.
    """
    if settings.cache is None:
        raise UsageError("references.cache: no CRDS cache was given; use --crds-cache DIR, or set CRDS_PATH")
    cache = Cache(settings.cache)
    customs = [custom.parse(text) for text in settings.custom]
    if here:
        answers = _resolve_part(raws, settings, cache, customs, here=True)
    else:
        # reading headers and choosing files take turns: with many headers, several processes do both
        lanes = max(1, min(available_cpus(), len(raws) // _A_LANE))
        parts = [raws[n::lanes] for n in range(lanes)]
        with ThreadPoolExecutor(lanes) as pool:
            made = pool.map(lambda part: _resolve_part(part, settings, cache, customs, here=False), parts)
            answers = {root: answer for part in made for root, answer in part.items()}
    found = {root: answer for root, answer in answers.items() if isinstance(answer, Resolution)}
    troubles = [answer for answer in answers.values() if isinstance(answer, BatchError)]
    if troubles and not found:
        raise troubles[0]
    for trouble in troubles:
        log.warning("%s", trouble.message)
    return found


def available_cpus() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _resolve_part(
    raws: Sequence[Path],
    settings: ReferencesSettings,
    cache: Cache,
    customs: Sequence[custom.Custom],
    *,
    here: bool,
) -> dict[str, Resolution | BatchError]:
    """What is found, or what stands in the way, by rootname; one process of crds serves all of them."""
    asked = switch_values(settings.switches)
    # files that CRDS calls bad are told of, or refused, by whoever asked
    tolerant = {"CRDS_ALLOW_BAD_REFERENCES": "1", "CRDS_ALLOW_BAD_RULES": "1"}
    pinned = environment(cache, NO_SERVER, settings.context) | tolerant
    found: dict[str, Resolution | BatchError] = {}
    with (_crds_here if here else _crds_beside)(settings.context, pinned) as (looked_at, ask):
        for raw in raws:
            root = raw.name.partition("_")[0]
            try:
                header = {**read_header(raw, looked_at), **asked}
                answer = ask(header)
                if "names" not in answer:
                    raise LibraryError(
                        f"crds bestrefs of {raw.name} with context {settings.context} in {cache.root}: "
                        f"{answer['error']}; check the context and the exposure's header"
                    )
                header |= answer["names"]
                own = custom.choose(customs, root, filters(header))
                found[root] = _resolution(header, raw.name, cache, asked, own)
            except (InputError, LibraryError) as error:
                found[root] = error
    return found


@contextlib.contextmanager
def _crds_here(context: str, pinned: Mapping[str, str]) -> Iterator[tuple[list[str], Ask]]:
    """The keywords that crds looks at, and crds itself, imported with that environment."""
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(pinned)
    try:
        looked_at, words = recommend.looked_at(context), ""
    except Exception as error:  # whatever it is, as in `recommend`
        looked_at, words = [], recommend.words_of(error)
    try:
        yield looked_at, lambda header: {"error": words} if words else recommend.recommend(header, context)
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextlib.contextmanager
def _crds_beside(context: str, pinned: Mapping[str, str]) -> Iterator[tuple[list[str], Ask]]:
    """The same in a process of its own."""
    command = [sys.executable, "-P", "-m", "batch.references.recommend", context]
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(
            command, env=pinned, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True
        ) as process,
    ):
        assert process.stdin is not None  # PIPE was asked for
        assert process.stdout is not None
        question, answer = process.stdin, process.stdout
        try:
            yield (
                json.loads(answer.readline() or "[]"),
                lambda header: _ask(header, question, answer) or {"error": _last_line(said)},
            )
        finally:
            with contextlib.suppress(BrokenPipeError):
                question.close()
            answer.close()


def _ask(header: Mapping[str, str], question: IO[str], answer: IO[str]) -> dict[str, Any]:
    """One question to the process; nothing if it has ended."""
    try:
        question.write(json.dumps(header) + "\n")
        question.flush()
        return dict(json.loads(answer.readline() or "{}"))
    except (BrokenPipeError, ValueError):
        return {}


def _last_line(stream: IO[bytes]) -> str:
    stream.seek(0)
    lines = stream.read().decode("utf-8", "replace").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "no message")


def read_header(path: Path, looked_at: Iterable[str]) -> dict[str, str]:
    """What the headers of a raw file say, as text, of the keywords that anybody here looks at.

    CRDS looks at the primary header and those of all extensions, of several values taking the first: the
    bias of a subarray is chosen by LTV1 of [SCI,1].

    Parameters
    ----------
    path : Path
        A raw file, or its first two headers alone.
    looked_at : iterable of str
        Keywords that CRDS's rules look at.

    Raises
    ------
    InputError
        If they cannot be read, or one of their cards cannot be understood.
    """
    from astropy.io import fits

    from batch.storage.planes import value_of

    try:
        with path.open("rb") as stream:
            headers = [fits.Header.fromfile(stream)]
            with contextlib.suppress(EOFError):
                # the primary HDU of a raw file has no data: the next header follows at once
                headers.append(fits.Header.fromfile(stream))
    except (OSError, EOFError, ValueError, fits.VerifyError) as error:
        what = f"its headers cannot be read ({str(error) or type(error).__name__})"
        raise InputError.about(path, what, "fetch it again") from None
    wanted = dict.fromkeys((*looked_at, "INSTRUME", "FILTER1", "FILTER2", *KEYWORDS, *STEPS))
    found = {}
    for keyword in wanted:
        values = (value_of(header, keyword, path) for header in headers)
        first = next((value for value in values if value is not None), None)
        if first is not None:
            found[keyword] = str(first)
    return found


def _resolution(
    header: Mapping[str, str],
    where: str,
    cache: Cache,
    asked: Mapping[str, str],
    own: Mapping[str, custom.Custom],
) -> Resolution:
    keywords = {k: header[k].strip() for k in KEYWORDS if header.get(k, "").strip()}
    keywords |= {k: f"jref${c.name}" for k, c in own.items()}
    needed = {k: v for k in needed_keywords(header) if "$" in (v := keywords.get(k, ""))}
    files: dict[str, str] = {}
    missing = {}
    for keyword, value in needed.items():
        name = plain_name(value.rpartition("$")[2], f"{where} {keyword}")
        path = own[keyword].path if keyword in own else cache.find(name)
        if path is None:
            missing[keyword] = name
        elif files.setdefault(name, str(path)) != str(path):
            raise UsageError(f"--reference {keyword}: {where} needs CRDS's own {name} too; rename your file")
    used = {k: own[k].sha256 for k in own if k in needed}
    return Resolution(keywords, files, missing, switches_off(header, missing), dict(asked), used)


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
