"""A plan is a list of tasks; a task is (stage, subject)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from batch.model.drizzle import Drizzle
from batch.model.json import encode
from batch.model.observation import Association, Exposure

Scope = Literal["exposure", "association", "drizzle"]


@dataclass(frozen=True)
class Needs:
    """What a task asks of the worker that runs it."""

    memory: int
    """Peak resident memory, bytes."""
    seconds: float
    """Expected wall time on one core of 2020s hardware."""
    timeout: float
    """The task is killed after this many seconds."""
    threads: int = 1
    network: bool = False
    together: int | None = None
    """Bytes more for each further task of the same stage and inputs that runs in the same process; None if
    every task runs alone."""
    imports: tuple[str, ...] = ()
    """Modules that take a second or more to import: a worker may keep them imported for the next task."""


@dataclass(frozen=True)
class Stage:
    """One step of the pipeline: its place, and what it asks for."""

    name: str
    scope: Scope
    after: tuple[str, ...]
    """The stages whose products it reads."""
    version: int
    """Raise it when the stage's results change: everything made by older ones becomes stale."""
    needs: Callable[[Association, Any, Any], Needs]
    """From the association, what of it a task is about (the `Exposure`, the `Drizzle`, or None for the whole
    of it) and all settings."""
    set_aside_too: bool = False
    """True if exposures that will not be combined pass through this stage as well."""
    records_only: tuple[str, ...] = ()
    """Stages of `after` whose records it reads but none of their files: those need not be brought to it."""
    check: Callable[[Association, Any], None] | None = None
    """From the association and all settings: refuses, by a `BatchError`, what can be known to fail before
    anything runs."""
    tries: tuple[str, ...] = ()
    """Later stages whose settings it holds against its inputs before it begins its own work. What it makes
    does not depend on them, so they do not count in its fingerprint."""


@dataclass(frozen=True)
class Task:
    """One stage applied to one subject."""

    stage: str
    association: str
    exposure: str | None
    drizzle: Drizzle | None
    upstream: tuple[str, ...]
    """Ids of the tasks whose products it reads."""
    fingerprint: str
    needs: Needs

    @property
    def subject(self) -> str:
        """``association``, ``association/rootname`` or ``association/pf0.3``."""
        return subject(self.association, self.exposure, self.drizzle)

    @property
    def id(self) -> str:
        """``stage/subject``: unique in a plan, and the task's place in the work directory."""
        return f"{self.stage}/{self.subject}"

    @property
    def company(self) -> object:
        """Tasks of equal company may share a process: one stage and inputs, and one family of drizzles."""
        if self.needs.together is None:
            return self.id
        return self.stage, self.upstream, self.drizzle and (self.drizzle.scale, self.drizzle.kernel)


@dataclass(frozen=True)
class Plan:
    """Every task of a run, each after the ones it depends on."""

    associations: tuple[Association, ...]
    tasks: tuple[Task, ...]
    settings: Mapping[str, Any]
    """The settings of the run, as JSON values."""
    tries: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """`Stage.tries` by stage, of those that have some."""

    def association(self, name: str) -> Association:
        """The association called `name`."""
        return next(a for a in self.associations if a.name == name)


def subject(association: str, exposure: str | None = None, drizzle: Drizzle | None = None) -> str:
    """What a task works on, as a relative path."""
    if exposure is not None:
        return f"{association}/{exposure}"
    if drizzle is not None:
        return f"{association}/{drizzle.name}"
    return association


def fingerprint(stage: Stage, settings: Any, upstream: Sequence[str], extra: Any = None) -> str:
    """What a task's products depend on, as sha256.

    Parameters
    ----------
    stage : Stage
        Its name and version count.
    settings : JSON value
        The settings of this stage only: a change elsewhere leaves the task valid.
    upstream : sequence of str
        Fingerprints of the tasks it reads from.
    extra : JSON value, optional
        The subject's own identity: the stamp of a raw file, a drizzle, engine versions.
    """
    parts = [stage.name, stage.version, settings, sorted(upstream), extra]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def expand(
    pipeline: Iterable[Stage],
    associations: Sequence[Association],
    settings: Mapping[str, Mapping[str, Any]],
    drizzles: Sequence[Drizzle],
    *,
    typed_settings: Any = None,
    identities: Mapping[str, str] | None = None,
) -> tuple[Task, ...]:
    """Lay the stages over the associations.

    Parameters
    ----------
    pipeline : iterable of Stage
        In order; a stage may only come after earlier ones.
    associations : sequence of Association
        What to reduce.
    settings : mapping
        JSON settings by stage name, for the fingerprints.
    drizzles : sequence of Drizzle
        The sweep.
    typed_settings : Settings
        All settings as an object, for `Stage.needs`.
    identities : mapping, optional
        What else shapes products, by stage name or task id: the version of the calibration engine, the
        reference files that CRDS named.

    Returns
    -------
    tuple of Task
        Each after every task that it depends on, association by association.
    """
    stages = list(pipeline)
    return tuple(
        task
        for association in associations
        for task in _expand_one(stages, association, settings, drizzles, typed_settings, identities or {})
    )


def _expand_one(
    stages: list[Stage],
    association: Association,
    settings: Mapping[str, Mapping[str, Any]],
    drizzles: Sequence[Drizzle],
    typed: Any,
    identities: Mapping[str, str],
) -> Iterator[Task]:
    made: dict[str, list[Task]] = {}
    for stage in stages:
        made[stage.name] = []
        for exposure, drizzle in _subjects(stage, association, drizzles):
            name = exposure.rootname if exposure else None
            upstream = [
                t for name in stage.after for t in made[name] if _feeds(stage, t, exposure, association)
            ]
            identity = [
                association.name,
                exposure.identity if exposure else [e.identity for e in association.exposures],
                encode(drizzle),
                identities.get(stage.name, ""),
                identities.get(f"{stage.name}/{subject(association.name, name, drizzle)}", ""),
            ]
            task = Task(
                stage=stage.name,
                association=association.name,
                exposure=name,
                drizzle=drizzle,
                upstream=tuple(t.id for t in upstream),
                fingerprint=fingerprint(
                    stage, settings.get(stage.name, {}), [t.fingerprint for t in upstream], identity
                ),
                needs=stage.needs(association, exposure or drizzle, typed),
            )
            made[stage.name].append(task)
            yield task


def _subjects(
    stage: Stage, association: Association, drizzles: Sequence[Drizzle]
) -> Iterator[tuple[Exposure | None, Drizzle | None]]:
    if stage.scope == "exposure":
        for exposure in association.members if stage.set_aside_too else association.exposures:
            yield exposure, None
    elif not association.exposures:
        # all of them were set aside: nothing is made of them together
        return
    elif stage.scope == "drizzle":
        for drizzle in drizzles:
            yield None, drizzle
    else:
        yield None, None


def _feeds(stage: Stage, task: Task, exposure: Exposure | None, association: Association) -> bool:
    """Whether `task` of an earlier stage feeds `stage` applied to `exposure`."""
    if task.exposure is None:
        return True
    if exposure is not None:
        return task.exposure == exposure.rootname
    return stage.set_aside_too or any(e.rootname == task.exposure for e in association.exposures)
