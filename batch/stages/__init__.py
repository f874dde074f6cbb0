"""The pipeline, in order; one file per stage.

::

    fetch xN -> references xN -> calibrate xN -> wcs xN -> align -> combine -> sweep xP
                                                            -> statistics -> select -> report
"""

from __future__ import annotations

from batch.model.plan import Stage


def pipeline() -> tuple[Stage, ...]:
    """Every stage, each after the ones whose products it reads."""
    from batch.stages import (
        align,
        calibrate,
        combine,
        fetch,
        references,
        report,
        select,
        statistics,
        sweep,
        wcs,
    )

    modules = (fetch, references, calibrate, wcs, align, combine, sweep, statistics, select, report)
    return tuple(m.STAGE for m in modules)
