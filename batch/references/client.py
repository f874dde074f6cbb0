"""One question to the CRDS server: ``python -P -m batch.references.client``, JSON in, JSON out.

Everything about cache and server is in the environment, where the crds client looks for it at import.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any

_FIELDS = ("size", "sha1sum")


def answer(question: Mapping[str, Any]) -> dict[str, Any]:
    """Answer ``{"context": name}`` or ``{"files": [names]}`` with CRDS's own client.

    Returns
    -------
    dict
        ``context`` and ``files``; or ``refused`` with the server's words; or ``unreachable`` with the
        reason.
    """
    from crds.client import api
    from crds.core import exceptions, heavy_client

    api.set_crds_server(os.environ["CRDS_SERVER_URL"])
    try:
        if "files" in question:
            return {"files": _infos(question["files"])}
        name = question["context"]
        context = api.get_default_context("hst", "latest") if name == "latest" else name
        mappings = api.get_mapping_names(context)
        found = {"context": context, "files": _infos(mappings)}
        heavy_client.update_config_info("hst")
        return found
    except exceptions.CrdsError as error:
        # the client wraps what the network did; what the server itself said has no cause
        cause = error.__cause__
        while isinstance(cause, exceptions.CrdsError):
            cause = cause.__cause__ or cause.__context__
        words = " ".join(str(cause or error).split())
        return {"unreachable" if cause is not None else "refused": words}
    except OSError as error:
        return {"unreachable": " ".join(str(error).split()) or type(error).__name__}
    except (ValueError, KeyError, TypeError) as error:
        words = f"{type(error).__name__}: {' '.join(str(error).split())}"
        return {"unreachable": f"something answered, but not as CRDS does: {words}"}


def _infos(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """What the server says of files, and where it has them."""
    from crds.client import api

    entries = api.get_file_info_map("hst", list(names), _FIELDS)
    return {
        name: {**entry, "url": api.get_flex_uri(name, "hst")}
        for name, entry in entries.items()
        if isinstance(entry, dict) and "size" in entry
    }


def main() -> None:
    """Read the question, keep what the libraries print away from the answer."""
    question = json.load(sys.stdin)
    stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    stream.write(json.dumps(answer(question)) + "\n")
    stream.flush()


if __name__ == "__main__":
    main()
