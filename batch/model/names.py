"""Names from tables and headers are data: they are checked once, here, before they become part of a path."""

from __future__ import annotations

import re

from batch.errors import UnsafeNameError

_ROOTNAME = re.compile(r"[a-z][a-z0-9]{8}", re.ASCII)
_NAME = re.compile(r"[a-z0-9][a-z0-9_.+-]{0,63}", re.ASCII | re.IGNORECASE)


def rootname(text: object, where: object) -> str:
    """Return the lower-case rootname of an exposure: nine letters and digits, a letter first.

    Raises
    ------
    UnsafeNameError
        For anything else; `where` names the file and keyword in the message.
    """
    name = str(text).strip().lower()
    if not _ROOTNAME.fullmatch(name):
        raise UnsafeNameError(
            f"{where}: {str(text)!r} is not a rootname (nine letters and digits); correct the name"
        )
    return name


def plain_name(text: object, where: object) -> str:
    """Return `text` if it can be the name of a file or folder and nothing more.

    Raises
    ------
    UnsafeNameError
        For a name with a separator, ``..``, a leading dot or dash, or characters other than ASCII letters,
        digits and ``_ . + -``.
    """
    name = str(text).strip()
    if not _NAME.fullmatch(name) or ".." in name:
        raise UnsafeNameError(
            f"{where}: {str(text)!r} cannot be a file name; use letters, digits, '_', '.', '+' and '-'"
        )
    return name
