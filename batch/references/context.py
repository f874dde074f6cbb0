"""Cache and context of a run, settled once: which folder, which server, which rules."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from batch.config.calibration import ReferencesSettings, server_address
from batch.errors import InputError, UsageError
from batch.references.location import Cache
from batch.references.service import SERVER, Service
from batch.references.sync import sync

_LATEST = ("latest", "operational", "hst-latest", "hst-operational")
"""Names for what the archive uses today; the last three are CRDS's own, as CRDS_CONTEXT may say them."""


def pin(settings: ReferencesSettings, environment: Mapping[str, str]) -> ReferencesSettings:
    """Fill in cache, server and context; where files may be fetched, fetch the context's mappings.

    Parameters
    ----------
    settings : ReferencesSettings
    environment : mapping
        CRDS_PATH, CRDS_CONTEXT and CRDS_SERVER_URL are used where the settings are silent.

    Raises
    ------
    UsageError
        If there is no cache, or neither it nor the server has the context.
    NetworkError, StorageError, DamagedReferenceError
        If mappings cannot be fetched.
    """
    if settings.sync == "never":
        return locate_cache(settings, environment)
    cache = Cache(_folder(settings, environment).absolute())
    try:
        server = server_address(settings.server or environment.get("CRDS_SERVER_URL", "") or SERVER)
    except ValueError as error:
        raise UsageError(f"CRDS_SERVER_URL: {error}") from None
    name = settings.context or environment.get("CRDS_CONTEXT", "") or "latest"
    name = "latest" if name in _LATEST else _checked(name)
    context, mappings = Service(cache, server).context(name)
    sync(cache, mappings, lambda names: {n: mappings[n] for n in names})
    return settings.model_copy(update={"cache": cache.root, "server": server, "context": _checked(context)})


def locate_cache(settings: ReferencesSettings, environment: Mapping[str, str]) -> ReferencesSettings:
    """Fill in cache and context offline, from CRDS's own variables and the cache itself.

    Raises
    ------
    UsageError
        If there is no cache, or it does not have the context.
    """
    cache = _folder(settings, environment)
    mappings = Cache(cache).mappings
    if not mappings.is_dir():
        raise UsageError(
            f"{cache}: not a CRDS cache (there is no mappings/hst); give its top folder, or add --sync"
        )
    context = settings.context or environment.get("CRDS_CONTEXT", "") or _newest_context(mappings)
    if context in _LATEST:
        raise UsageError(f"references.context: only the CRDS server knows the {context} one; add --sync")
    if not (mappings / _checked(context)).is_file():
        raise UsageError(f"{cache}: context {context} is not in this CRDS cache; add --sync, or name another")
    return settings.model_copy(update={"cache": cache.absolute(), "context": context})


def _folder(settings: ReferencesSettings, environment: Mapping[str, str]) -> Path:
    cache = settings.cache or (Path(environment["CRDS_PATH"]) if environment.get("CRDS_PATH") else None)
    if cache is None:
        raise UsageError("no CRDS cache was given: use --crds-cache DIR, or set CRDS_PATH")
    return cache


def _checked(context: str) -> str:
    if not re.fullmatch(r"hst_\d+\.pmap", context):
        raise UsageError(f"references.context: {context!r} is not a context such as hst_0729.pmap, or latest")
    return context


def _newest_context(mappings: Path) -> str:
    contexts = [p.name for p in mappings.glob("hst_*.pmap") if re.fullmatch(r"hst_\d+\.pmap", p.name)]
    if not contexts:
        raise InputError.about(mappings, "there is no context (hst_*.pmap)", "fill the cache with --sync")
    return max(contexts, key=lambda name: int(name[4:-5]))
