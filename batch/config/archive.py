"""Settings of what is reduced and where it comes from: search, associations, downloads."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from batch.config.base import Absolute, Section

MAST, CLOUD = "mast", "cloud"


def _place(text: str) -> str:
    """Tasks run in folders of their own: a relative folder of the user's is made absolute here, once."""
    scheme, separator, rest = text.partition("://")
    if text in (MAST, CLOUD) or scheme == "s3":
        return text.rstrip("/")
    if separator and scheme != "file":
        raise ValueError(
            f"{text!r} is no source; give a folder, s3://bucket/prefix, file:///folder, mast or cloud"
        )
    if scheme == "file" and separator:
        if not rest.startswith("/"):
            raise ValueError(f"{text!r}: write file:///folder, with three slashes")
        return f"file://{Path(rest).absolute()}"
    return str(Path(text).expanduser().absolute())


def _date(text: object) -> object:
    """TOML has dates of its own; both ways end as YYYY-MM-DD or YYYY-MM-DDThh:mm:ss."""
    if isinstance(text, (datetime.date, datetime.datetime)):
        return text.isoformat()
    if isinstance(text, str) and text:
        datetime.datetime.fromisoformat(text)
    return text


Source = Annotated[
    str,
    BeforeValidator(lambda given: str(given) if isinstance(given, Path) else given),
    AfterValidator(_place),
]
Date = Annotated[str, BeforeValidator(_date)]


class SearchSettings(Section):
    """What is reduced. All conditions hold at once; none takes everything that the source has."""

    datasets_from: Absolute | None = None
    """A text file, one association or exposure a line, or a table with a column of them."""
    proposal: int | None = Field(None, ge=1)
    """Number of the observing programme."""
    visits: tuple[str, ...] = ()
    """Visits of it, two letters or digits each: the fifth and sixth of a rootname."""
    target: str = ""
    """A name, or right ascension and declination in degrees: ``NGC 104`` or ``6.02 -72.08``."""
    radius: float = Field(6.0, gt=0, le=600)
    """How far from the target, arcmin."""
    filters: tuple[str, ...] = ()
    """At least one of these is in the beam."""
    after: Date = ""
    """Exposures that began then or later: YYYY-MM-DD."""
    before: Date = ""
    """Exposures that began earlier."""

    @model_validator(mode="after")
    def _make_sense(self) -> SearchSettings:
        if any(len(v) != 2 or not v.isalnum() for v in self.visits):
            raise ValueError("visits are two letters or digits each, such as 60 or A1")
        if self.after and self.before and self.after >= self.before:
            raise ValueError(f"after {self.after} is not before {self.before}")
        return self

    @property
    def conditions(self) -> bool:
        """True if anything is asked for."""
        return bool(self.proposal or self.target or self.datasets_from)


class AssociateSettings(Section):
    """How exposures become associations."""

    by: Literal["association", "visit", "target", "all"] = "association"
    """``association``: MAST's tables, and by visit, detector and filters where there is none. ``visit``: by
    visit, detector and filters, whatever tables say. ``target``: all visits to a target in one mosaic for
    each detector and filter. ``all``: everything that was found, in the same way."""
    rebuild: bool = False
    """A table that cannot be read is made anew from ASN_ID and ASN_MTYP in the headers of the exposures."""
    exptime_factor: float = Field(3.0, ge=1)
    """Exposures whose time is off the association's median by more than this factor are set aside."""
    exclude: tuple[str, ...] = ()
    """Rootnames that are left out altogether."""


class FetchSettings(Section):
    """Where raw exposures come from, and how they come. Changes no digit of a product."""

    source: Source | None = None
    """A folder of ``*_raw.fits`` and, where there are any, ``*_asn.fits``; ``mast``; ``cloud`` (MAST's public
    bucket); a mirror, ``s3://bucket/prefix`` or ``file:///folder``. None is MAST where something is asked for
    by name."""
    cache: Absolute | None = None
    """Where downloads are kept and shared by runs; None: ``acs-batch/raw`` in the user's folder of caches."""
    connections: int = Field(4, ge=1, le=64)
    """Downloads at a time from one machine."""
    deadline: float = Field(1800, gt=0)
    """How long a file is tried, s."""
    silence: float = Field(60, gt=0)
    """How long a server may say nothing, s."""
    first_wait: float = Field(1.0, gt=0)
    """Before the first new attempt, s; doubled each time, up to a minute."""
    server: str = Field("", pattern=r"^(https?://[^/]+)?$")
    """Another MAST server, as in https://masttest.stsci.edu; empty takes astroquery's own setting."""
