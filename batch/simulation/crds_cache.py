"""A CRDS cache that knows the reference files of one visit, so that the real ``crds bestrefs`` works offline.

Mappings have the layout of the public HST ones: one context (pmap), one instrument (imap), one rmap for each
type of reference file, each with the sha1 of its own text without the sha1sum line.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import pprint
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from batch.simulation.filters import FILTERS
from batch.simulation.frame import Frame
from batch.simulation.settings import VisitSettings

CONTEXT = "hst_0001.pmap"
_IMAP = "hst_acs_0001.imap"
_SINCE = "2002-03-01 00:00:00"
_UNUSED = (
    *("atodtab", "cfltfile", "crrejtab", "dfltfile", "dgeofile", "drkcfile", "flshfile", "lfltfile"),
    *("mdriztab", "mlintab", "pctetab", "shadfile", "snkcfile", "spottab"),
)
"""Types that a visit may do without: N/A there."""


class _Rule(NamedTuple):
    keys: tuple[str, ...]
    """The keywords that a file is chosen by."""
    switch: str
    relevance: str
    """When the type matters at all (as in the public rmaps)."""


_CCD = ("DETECTOR", "CCDAMP", "CCDGAIN")
_WHEELS = ("FILTER1", "FILTER2")
_DETECTOR = ("DETECTOR",)
_NOT_SBC = 'DETECTOR != "SBC"'
_RULES = {
    "biasfile": _Rule((*_CCD, "APERTURE"), "BIASCORR", f'(({_NOT_SBC}) and (BIASCORR != "OMIT"))'),
    "bpixtab": _Rule(_DETECTOR, "DQICORR", '(DQICORR != "OMIT")'),
    "ccdtab": _Rule(_DETECTOR, "NONE", f"({_NOT_SBC})"),
    "crrejtab": _Rule(
        (*_DETECTOR, "RPTCORR"), "CRCORR", f'(({_NOT_SBC}) and ((CRCORR != "OMIT") or (RPTCORR != "OMIT")))'
    ),
    "d2imfile": _Rule((), "DRIZCORR", '((DETECTOR == "WFC") and (DRIZCORR != "OMIT"))'),
    "darkfile": _Rule(_CCD, "DARKCORR", '(DARKCORR != "OMIT")'),
    "drkcfile": _Rule(_CCD, "PCTECORR", '((DETECTOR == "WFC") and (PCTECORR != "OMIT"))'),
    "flshfile": _Rule(
        (*_CCD, "FLASHCUR", "SHUTRPOS"),
        "FLSHCORR",
        f'(({_NOT_SBC} and FLASHCUR != "OFF") and (FLSHCORR != "OMIT"))',
    ),
    "idctab": _Rule(_DETECTOR, "NONE", "ALWAYS"),
    "imphttab": _Rule(_DETECTOR, "PHOTCORR", '(PHOTCORR != "OMIT")'),
    "npolfile": _Rule((*_DETECTOR, *_WHEELS), "DRIZCORR", '(DRIZCORR != "OMIT")'),
    "oscntab": _Rule(_DETECTOR, "NONE", f"({_NOT_SBC})"),
    "pctetab": _Rule(_DETECTOR, "PCTECORR", '((DETECTOR == "WFC") and (PCTECORR != "OMIT"))'),
    "pfltfile": _Rule(
        ("DETECTOR", "CCDAMP", *_WHEELS, "OBSTYPE"),
        "FLATCORR",
        '((OBSTYPE != "INTERNAL") and (FLATCORR != "OMIT"))',
    ),
    "satufile": _Rule(("DETECTOR", "CCDAMP"), "BIASCORR", f'(({_NOT_SBC}) and (BIASCORR != "OMIT"))'),
    "snkcfile": _Rule(_DETECTOR, "SINKCORR", '((SINKCORR != "OMIT") and (DETECTOR == "WFC"))'),
}


def write(root: Path, settings: VisitSettings, frame: Frame, references: Mapping[str, str]) -> str:
    """Write the mappings and the server configuration of a cache.

    Parameters
    ----------
    root : Path
        What CRDS_PATH will name; the reference files lie in its references/hst.
    references : mapping
        File names by keyword.

    Returns
    -------
    str
        The name of the context.
    """
    mappings = root / "mappings" / "hst"
    config = root / "config" / "hst"
    for folder in (mappings, config):
        folder.mkdir(parents=True, exist_ok=True)
    band = FILTERS[settings.filter]
    values: dict[str, str | float] = {
        "DETECTOR": "WFC",
        "CCDAMP": frame.ccdamp,
        "CCDGAIN": float(settings.gain),
        "APERTURE": frame.aperture,
        "FILTER1": band.filter1,
        "FILTER2": band.filter2,
        "OBSTYPE": "IMAGING",
        "RPTCORR": "N/A",
        "FLASHCUR": "LOW",
        "SHUTRPOS": "B",
    }
    kinds: dict[str, str] = dict.fromkeys(_UNUSED, "N/A")
    for keyword, name in references.items():
        kind = keyword.lower()
        rule = _RULES[kind]
        kinds[kind] = f"hst_acs_{kind}_0001.rmap"
        header = {
            "derived_from": "simulation",
            "filekind": keyword,
            "instrument": "ACS",
            "mapping": "REFERENCE",
            "name": kinds[kind],
            "observatory": "HST",
            "parkey": (rule.keys, ("DATE-OBS", "TIME-OBS")),
            "reffile_format": "TABLE" if kind.endswith("tab") else "IMAGE",
            "reffile_required": "YES",
            "reffile_switch": rule.switch,
            "rmap_relevance": rule.relevance,
            # Without this entry CRDS rewrites the headers of bias images by rules for the public files.
            "hooks": {"precondition_header": "none", "fallback_header": "none"},
        }
        match = tuple(values[key] for key in rule.keys)
        selector = f"Match({{\n    {match!r} : UseAfter({{\n        {_SINCE!r} : {name!r},\n    }}),\n}})"
        _mapping(mappings / kinds[kind], header, selector)
    header = {"derived_from": "simulation", "observatory": "HST"}
    imap = {"instrument": "ACS", "mapping": "INSTRUMENT", "name": _IMAP, "parkey": ("REFTYPE",), **header}
    _mapping(mappings / _IMAP, imap, _dictionary(kinds))
    pmap = {"mapping": "PIPELINE", "name": CONTEXT, "parkey": ("INSTRUME",), **header}
    _mapping(mappings / CONTEXT, pmap, _dictionary({"ACS": _IMAP}))
    written = sorted(p.name for p in mappings.iterdir())
    delivered = [*mappings.iterdir(), *(root / "references" / "hst").glob("*.fits")]
    server = _server(written) | {"download_metadata": _catalogue(delivered)}
    (config / "server_config").write_text(pprint.pformat(server), encoding="utf-8")
    (config / "ref_cache_subdir_mode").write_text("flat\n", encoding="utf-8")
    (config / "bad_files.txt").write_text("", encoding="utf-8")
    return CONTEXT


def _dictionary(items: Mapping[str, object]) -> str:
    return "{\n" + "".join(f"    {k!r} : {v!r},\n" for k, v in sorted(items.items())) + "}"


def _mapping(path: Path, header: Mapping[str, object], selector: str) -> None:
    body = f"\nselector = {selector}\n"
    # The sum covers every line but its own, so that its place in the header does not matter.
    unsigned = f"header = {_dictionary(header)}\n{body}"
    signature = hashlib.sha1(unsigned.encode(), usedforsecurity=False).hexdigest()
    signed = f"header = {_dictionary({**header, 'sha1sum': signature})}\n{body}"
    path.write_text(signed, encoding="utf-8")


def _catalogue(files: Iterable[Path]) -> dict[str, str]:
    """Size and sha1 of every file, packed as the server packs them: JSON, gzip, base64."""
    entries = {}
    for path in sorted(files):
        with path.open("rb") as stream:
            sha1 = hashlib.file_digest(stream, lambda: hashlib.sha1(usedforsecurity=False)).hexdigest()
        entries[path.name] = {"size": str(path.stat().st_size), "sha1sum": sha1}
    # without the time of day, so that the same visit gives the same bytes
    packed = gzip.compress(json.dumps(entries).encode(), mtime=0)
    return {"crds_encoded": "1.0", "crds_payload": base64.b64encode(packed).decode("ascii")}


def _server(mappings: list[str]) -> dict[str, object]:
    """What the CRDS server would tell about itself, as far as its client looks at it offline."""
    nowhere = "https://hst-crds-serverless.invalid"
    return {
        "bad_files_list": [],
        "bad_files": "",
        "config_url": {"hst": f"{nowhere}/config/hst/"},
        "connected": False,
        "context_history": [],
        "crds_version": {"str": "12.0.0"},
        "edit_context": CONTEXT,
        "force_remote_mode": 0,
        "last_synced": "2006-01-01 00:00:00",
        "mapping_url": {"hst": f"{nowhere}/mappings/hst/"},
        "mappings": mappings,
        "max_bestrefs_per_rpc": 1000,
        "max_headers_per_rpc": 1000,
        "observatory": "hst",
        "operational_context": CONTEXT,
        "pickle_url": {"hst": f"{nowhere}/pickle/hst/"},
        "reference_url": {"hst": f"{nowhere}/references/hst/"},
        "server": nowhere,
        "status": "server",
        "versions_context": "",
    }
