"""Settings of reference files and of calibration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator

from batch.config.base import Absolute, Section

SWITCHES = (
    *("DQICORR", "BIASCORR", "BLEVCORR", "ATODCORR", "SINKCORR", "PCTECORR", "DARKCORR", "FLSHCORR"),
    *("FLATCORR", "SHADCORR", "PHOTCORR", "CRCORR", "RPTCORR", "EXPSCORR"),
)
"""The calibration switches of ACS CCD headers."""
VALUES = ("PERFORM", "OMIT")


def _switch(text: str) -> str:
    name, equals, value = (part.strip().upper() for part in text.partition("="))
    if not equals or name not in SWITCHES or value not in VALUES:
        raise ValueError(
            f"{text!r} is no switch; write PCTECORR=OMIT, with one of {', '.join(SWITCHES)} "
            f"and one of {', '.join(VALUES)}"
        )
    return f"{name}={value}"


def _absolute_reference(text: str) -> str:
    """``KEYWORD=path`` with a path that means the same in every folder."""
    option, equals, path = text.partition("=")
    return f"{option.strip()}={Path(path.strip()).expanduser().absolute()}" if equals else text


def server_address(address: str) -> str:
    """An http address without a slash at its end; empty stays empty.

    Raises
    ------
    ValueError
        If it is none, or carries a user name or password.
    """
    parts = urlsplit(address)
    if address and (parts.scheme not in ("http", "https") or not parts.hostname):
        raise ValueError("not an http address; write https://hst-crds.stsci.edu")
    if parts.username or parts.password:
        # it would end up in plan and records
        raise ValueError("an address with a password in it is not taken; leave it out")
    return address.rstrip("/")


Switch = Annotated[str, AfterValidator(_switch)]
Sync = Annotated[
    Literal["never", "missing"],
    # the option --sync alone
    BeforeValidator(lambda given: {True: "missing", False: "never"}.get(given, given)),
]


class ReferencesSettings(Section):
    """CRDS best references."""

    cache: Absolute | None = None
    """A CRDS cache: the folder that is otherwise named by CRDS_PATH."""
    context: str = ""
    """Pinned CRDS context, ``hst_0729.pmap``; ``latest`` is what the server uses today, looked up once. Empty
    takes the cache's own newest; with `sync`, the latest."""
    sync: Sync = "never"
    """``missing`` fetches files and rules that the cache lacks from the CRDS server; ``never`` is offline."""
    server: Annotated[str, AfterValidator(server_address)] = ""
    """Address of the CRDS server; empty: CRDS_SERVER_URL, or else the public one for HST."""
    custom: tuple[Annotated[str, AfterValidator(_absolute_reference)], ...] = ()
    """Files of your own: ``DARKFILE=path``, ``PFLTFILE[F606W]=path``, ``DARKFILE[j9l960a7q]=path``."""
    missing: Literal["stop", "omit"] = "stop"
    """``omit`` sets the steps whose reference files are not there to OMIT, and says so everywhere."""
    bad: Literal["note", "stop"] = "note"
    """What is done about files that CRDS calls scientifically invalid."""
    switches: tuple[Switch, ...] = ()
    """Those of calibrate, filled in when a run is planned: they decide which files are needed."""


class CalibrateSettings(Section):
    """raw -> flt, flc."""

    engine: Literal["auto", "builtin", "calacs"] = "auto"
    """``auto`` takes builtin."""
    switches: tuple[Switch, ...] = ()
    """Header switches of this run: ``PCTECORR=OMIT``; what is not named stays as the archive set it."""
    destripe: bool = True
    """Remove the stripes of WFC subarrays after SM4, which calacs leaves in, with acstools."""


def switch_values(switches: Any) -> dict[str, str]:
    """``("PCTECORR=OMIT",)`` as a mapping; the last of several for one switch counts."""
    return {name: value for name, _, value in (str(s).partition("=") for s in switches)}
