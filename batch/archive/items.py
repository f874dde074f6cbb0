"""Files at a source: what is there, before anything of it is here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

KINDS = ("raw", "asn", "spt")
_NAME = re.compile(r"(?P<stem>[a-z][a-z0-9]{8})_(?P<kind>raw|asn|spt)\.fits", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True)
class Item:
    """One file at a source."""

    name: str
    """Its file name, lower case: ``j9l960a7q_raw.fits``."""
    origin: str
    """Where it lies: ``mast:HST/product/...``, ``s3://bucket/key``, a path."""
    size: int | None
    """Bytes, where the source says it."""
    restricted: bool = False
    """True where the source gives it to its owner alone."""

    @property
    def stem(self) -> str:
        """Rootname of the exposure or name of the association."""
        return self.name.rpartition("_")[0].lower()

    @property
    def kind(self) -> str:
        """``raw``, ``asn`` or ``spt``."""
        return self.name.rpartition("_")[2].partition(".")[0]


def wanted_name(name: str) -> str | None:
    """The file name in lower case, if this is one of the kinds that are fetched; else None."""
    lower = name.lower()
    return lower if _NAME.fullmatch(lower) else None


def sibling(origin: str, kind: str) -> str:
    """Where the file of another kind of the same exposure lies: beside it, in every source."""
    head, _, tail = origin.rpartition("_")
    return f"{head}_{kind}.{tail.partition('.')[2]}"


def of_kind(items: Iterable[Item], kind: str) -> Iterator[Item]:
    """The raw files, the association tables or the support files."""
    return (item for item in items if item.kind == kind)
