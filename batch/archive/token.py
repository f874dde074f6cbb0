"""The MAST token, which opens proprietary files to their owner.

It lives in the environment or the keyring, and in the header of a request; it is never part of settings,
plans, records, messages or command lines. Each task looks for it itself, and only when a file is refused
without it.
"""

from __future__ import annotations

import os
import re

VARIABLE = "MAST_API_TOKEN"

# where astroquery's own login keeps it
_SERVICE, _USER = "astroquery:mast.stsci.edu.token", "masttoken"


def find_token() -> str | None:
    """The token from MAST_API_TOKEN, else from the keyring; None where there is none, or no usable one."""
    token = os.environ.get(VARIABLE, "").strip() or _from_keyring()
    return token if token and re.fullmatch(r"[\x21-\x7e]+", token) else None


def _from_keyring() -> str | None:
    try:
        import keyring

        return keyring.get_password(_SERVICE, _USER)
    except Exception:  # no keyring, a locked one, no session to unlock it in: many kinds of errors
        return None
