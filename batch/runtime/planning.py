"""From settings and a source to a plan, with everything looked at that can be known before the run."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from batch import config
from batch.config import Settings
from batch.errors import BatchError, UsageError
from batch.model.observation import Association
from batch.model.plan import Plan, Stage, expand


def make_plan(
    settings: Settings,
    wanted: Sequence[str] = (),
    *,
    until: str | None = None,
    fetch: bool = False,
    stages: Sequence[Stage] | None = None,
) -> Plan:
    """Find the exposures, name their reference files, and lay the pipeline over them.

    Parameters
    ----------
    settings : Settings
        With `fetch.source`, or something to ask MAST for.
    wanted : sequence of str
        Names of associations or exposures, ``@file`` for files of them; empty takes everything that is found.
    until : str, optional
        The last stage to run.
    fetch : bool
        Fetch missing reference files now, where the settings say so; False for a look at the plan.
    stages : sequence of Stage, optional
        Instead of the whole pipeline.

    Raises
    ------
    UsageError, InputError
        For anything that would make the run pointless, before it starts.
    MissingReferenceError
        If reference files are missing and may not be omitted; it lists all of them.
    """
    from batch.archive import sources
    from batch.runtime import prefetch
    from batch.runtime.discovery import find
    from batch.stages import pipeline

    asked = bool(wanted) or settings.search.conditions
    settings = settings.model_copy(update={"fetch": sources.located(settings.fetch, os.environ, asked=asked)})
    chain = _up_to(pipeline() if stages is None else stages, until)
    identities: dict[str, str] = {}
    checks = [stage.check for stage in chain if stage.check is not None]
    with tempfile.TemporaryDirectory(prefix="acs-batch-plan-") as area:
        found = find(settings, wanted, Path(area))
        associations = prefetch.with_switches(found.associations, settings)
        _refuse(checks, associations, settings)
        if any(s.name == "references" for s in chain):
            # for files that are elsewhere their headers, which are here already
            settings, identities = prefetch.prepare(settings, associations, found.headers, fetch=fetch)
    if any(s.name == "calibrate" for s in chain):
        from batch.calibration import get_engine

        engine = get_engine(settings.calibrate.engine)
        identities["calibrate"] = f"{engine.name} {engine.version()}"
    if settings.align.catalog is not None:
        identities["align"] = _content(settings.align.catalog)
    tasks = expand(
        chain,
        associations,
        config.identity(settings),
        settings.sweep.drizzles,
        typed_settings=settings,
        identities=identities,
    )
    tries = {stage.name: stage.tries for stage in chain if stage.tries}
    return Plan(associations, tasks, settings.model_dump(mode="json"), tries)


def _refuse(
    checks: Sequence[Callable[[Association, Settings], None]],
    associations: Sequence[Association],
    settings: Settings,
) -> None:
    """Stop here for what is bound to fail, with everything of that kind in one message."""
    errors: dict[str, BatchError] = {}
    for association in associations:
        for check in checks:
            try:
                check(association, settings)
            except BatchError as error:
                errors[error.message] = error
    if errors:
        raise type(next(iter(errors.values())))("\n".join(errors))


def _up_to(chain: Sequence[Stage], until: str | None) -> list[Stage]:
    names = [s.name for s in chain]
    if until is None:
        return list(chain)
    if until not in names:
        raise UsageError(f"--until {until}: no such stage; the stages are {', '.join(names)}")
    return list(chain[: names.index(until) + 1])


def _content(catalog: Path) -> str:
    try:
        return hashlib.sha256(catalog.read_bytes()).hexdigest()
    except OSError as error:
        raise UsageError(f"align.catalog {catalog}: {error.strerror}; name a table of RA and DEC") from None


def totals(plan: Plan) -> Mapping[str, dict[str, float]]:
    """Per stage, in order: number of tasks, largest memory (bytes), expected CPU time (s)."""
    table: dict[str, dict[str, float]] = {}
    for task in plan.tasks:
        row = table.setdefault(task.stage, {"tasks": 0, "memory": 0, "seconds": 0.0})
        row["tasks"] += 1
        row["memory"] = max(row["memory"], task.needs.memory)
        row["seconds"] += task.needs.seconds
    return table


def expected_seconds(plan: Plan, workers: int) -> float:
    """Expected wall time: the work shared out, but no shorter than the longest chain of tasks."""
    ends: dict[str, float] = {}
    for task in plan.tasks:
        ends[task.id] = max((ends[u] for u in task.upstream), default=0.0) + task.needs.seconds
    return max(sum(t.needs.seconds for t in plan.tasks) / max(1, workers), max(ends.values(), default=0.0))
