"""Which datasets were asked for: on the command line, in a file (``@list.txt``), in a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from batch.errors import UsageError
from batch.model.names import rootname

_COLUMNS = (
    "dataset",
    "datasets",
    "rootname",
    "obs_id",
    "sci_data_set_name",
    "asn_id",
    "name",
    "data set name",
)
_TEXT = ("", ".txt", ".lst", ".list", ".dat")


def asked_for(wanted: Sequence[str], listed: Path | None) -> list[str]:
    """All names, in lower case, each once, in the order in which they were given.

    Parameters
    ----------
    wanted : sequence of str
        Names, and ``@file`` for files of them.
    listed : Path, optional
        One more such file.

    Raises
    ------
    UsageError
        If a file cannot be read or holds no names.
    UnsafeNameError
        If something in a file is no name of an association or exposure.
    """
    names: list[str] = []
    for text in wanted:
        if text.startswith("@"):
            names += read_names(Path(text[1:]).expanduser())
        elif text.strip():
            names.append(text.strip().lower())
    if listed is not None:
        names += read_names(listed)
    return list(dict.fromkeys(names))


def read_names(path: Path) -> list[str]:
    """The names in a text file (first word of each line, # begins a comment) or in a table's column."""
    try:
        words = _words(path) if path.suffix.lower() in _TEXT else _column(path)
    except (OSError, ValueError, TypeError, KeyError, IndexError) as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(f"{path}: cannot be read ({text}); give one name a line, or a table") from None
    names = [rootname(word, path) for word in words]
    if not names:
        raise UsageError(f"{path}: there is no name in it; give one association or exposure a line")
    return names


def _words(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [words[0] for line in lines if (words := line.partition("#")[0].replace(",", " ").split())]


def _column(path: Path) -> list[str]:
    from astropy.table import Table

    table = Table.read(path)
    known = {str(c).strip().lower(): c for c in table.colnames}
    column = next((known[c] for c in _COLUMNS if c in known), None)
    if column is None:
        raise UsageError(
            f"{path}: no column of names; call it {_COLUMNS[0]}, or one of {', '.join(_COLUMNS[1:])}"
        )
    return [text for value in table[column] if (text := str(value).strip()) not in ("", "--", "masked")]
