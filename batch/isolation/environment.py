"""What libraries and programs of the field expect to find in their environment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePath

from batch.errors import MissingReferenceError, UnsafeNameError


def reference_folder(files: Mapping[str, Path], area: Path) -> Path:
    """Gather reference files in one folder, as ``jref`` has to name one.

    References live in a cache that may be split into sub-folders, while headers say ``jref$name.fits``;
    a folder of symbolic links serves both, and only what was chosen for this task can be found in it.

    Parameters
    ----------
    files : mapping
        Where each reference file lies, by the name that headers give it.
    area : Path
        The private folder of the task; ``jref`` is made in it (and may exist already).

    Returns
    -------
    Path
        ``area/jref``, absolute. `reference_environment` makes ``jref$`` mean it.

    Raises
    ------
    UnsafeNameError
        For a name that is more than a file name.
    MissingReferenceError
        For files that are not there; one message names them all.
    """
    folder = area.absolute() / "jref"
    folder.mkdir(exist_ok=True)
    for name in files:
        if name in ("", ".", "..") or PurePath(name).name != name or "\\" in name or "\0" in name:
            raise UnsafeNameError(
                f"reference file {name!r}: not a plain file name; correct the header or table"
            )
    absent = sorted(f"{name} ({path})" for name, path in files.items() if not path.is_file())
    if absent:
        raise MissingReferenceError(
            f"reference files are not there: {', '.join(absent)}; synchronise the CRDS cache"
        )
    for name, path in files.items():
        link = folder / name
        link.unlink(missing_ok=True)
        link.symlink_to(path.absolute())
    return folder


def reference_environment(folder: Path) -> dict[str, str]:
    """What the environment must say, so that ``jref$name`` in headers is found in `folder`.

    Programs put the file name directly behind the value, so it ends in "/".
    """
    return {"jref": f"{folder}/"}
