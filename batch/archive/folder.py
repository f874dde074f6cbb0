"""Raw files in folders: a plain one, or a mirror with folders of its own in it."""

from __future__ import annotations

from pathlib import Path

from batch.archive.items import KINDS, Item, wanted_name
from batch.errors import UsageError


def items(place: str) -> list[Item]:
    """Every raw file, association table and support file.

    Parameters
    ----------
    place : str
        A folder, or ``file:///folder`` to look in folders below it as well.

    Raises
    ------
    UsageError
        If there is no such folder.
    """
    folder = Path(place.removeprefix("file://"))
    if not folder.is_dir():
        raise UsageError(f"{folder}: there is no such folder; give the folder of the raw files with --from")
    deep = place.startswith("file://")
    found: list[Item] = []
    for kind in KINDS:
        pattern = f"*_{kind}.fits"
        for path in sorted(folder.rglob(pattern) if deep else folder.glob(pattern)):
            # odd names in a plain folder are looked at, and refused, by whoever takes them for a name
            name = wanted_name(path.name) if deep else path.name
            if name is not None:
                found.append(Item(name, str(path), None))
    return found
