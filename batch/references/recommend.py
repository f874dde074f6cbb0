"""CRDS's choice for many headers: ``python -P -m batch.references.recommend CONTEXT``.

JSON lines in and out: first it says which keywords the context looks at, then it names files for each header.

The public call `crds.getrecommendations` takes 2 ms a header; the ``crds bestrefs`` program, which comes to
the same names, takes 0.4 s a file. Cache and context are in the environment, where crds looks for them at
import: in a process that ends with the one exposure it is for, `bestrefs` calls this instead.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import Any

_NO_FILE = ("", "*", "NONE", "UNDEFINED", "N/A", "NOT FOUND N/A", "NOT FOUND NO MATCH FOUND.")
"""What crds says where no file applies."""


def recommend(header: Mapping[str, str], context: str) -> dict[str, Any]:
    """Name the reference files of an exposure.

    Returns
    -------
    dict
        ``names``: header values by keyword, ``jref$name`` or ``N/A``; or ``error`` with crds's own words.
    """
    import crds

    try:
        best = crds.getrecommendations(header, context=context, observatory="hst", fast=True)
    except Exception as error:
        # whatever it is: crds raises its own kinds, and those of what it stumbled over
        return {"error": words_of(error)}
    names = {}
    for kind, value in best.items():
        keyword, said = kind.upper(), str(value).strip()
        if said.upper() in _NO_FILE:
            names[keyword] = "N/A"
        elif said.upper().startswith("NOT FOUND"):
            return {"error": f"{keyword}: {said}"}
        else:
            names[keyword] = f"jref${said.lower()}"
    return {"names": names}


def words_of(error: Exception) -> str:
    """What an error of crds says, on one line."""
    return " ".join(str(error).split()) or type(error).__name__


def looked_at(context: str) -> list[str]:
    """Keywords that the rules of a context look at."""
    from crds.core import heavy_client

    return list(heavy_client.get_context_parkeys(context, "acs"))


def main(context: str) -> None:
    """Answer line by line; what the libraries print is kept away from the answers."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    answers.write(json.dumps(looked_at(context)) + "\n")
    for line in sys.stdin:
        answers.write(json.dumps(recommend(json.loads(line), context)) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
