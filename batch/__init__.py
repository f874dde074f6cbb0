"""Batch reduction of Hubble ACS exposures on Dask: from raw files to a chosen, documented mosaic.

For use from Python::

    import batch

    settings = batch.load(None, ["fetch.source=raw", "references.cache=crds"])
    result = batch.reduce(settings, "work")          # what `acs-batch run` does
    dataset = batch.statistics({0.5: "a_wht.fits"})  # weight statistics of anyone's maps

Calibration on arrays is in `batch.calibration`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["load", "reduce", "statistics"]

if TYPE_CHECKING:
    from batch.config import load
    from batch.drizzling.weights import statistics
    from batch.runtime.driver import reduce

_HOMES = {"load": "batch.config", "reduce": "batch.runtime.driver", "statistics": "batch.drizzling.weights"}


def __getattr__(name: str) -> Any:
    """Import on first use: `import batch` stays free of heavy libraries."""
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'batch' has no attribute {name!r}")
