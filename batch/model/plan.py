"""A plan is a list of tasks; a task is (stage, subject)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from batch.model.json import encode
from batch.model.observation import Association, Exposure

Scope = Literal["exposure", "association", "pixfrac"]


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


@dataclass(frozen=True)
class Stage:
    """One step of the pipeline: its place, and what it asks for."""

    name: str
    scope: Scope
    after: tuple[str, ...]
    """The stages whose products it reads."""
    version: int
    """Raise it when the stage's results change: everything made by older ones becomes stale."""
    needs: Callable[[Association, Exposure | None, Any], Needs]
    """From the association, the exposure (None for the other scopes) and all settings."""
    set_aside_too: bool = False
    """True if exposures that will not be combined pass through this stage as well."""


@dataclass(frozen=True)
class Task:
    """One stage applied to one subject."""

    stage: str
    association: str
    exposure: str | None
    pixfrac: float | None
    upstream: tuple[str, ...]
    """Ids of the tasks whose products it reads."""
    fingerprint: str
    needs: Needs

    @property
    def subject(self) -> str:
        """``association``, ``association/rootname`` or ``association/pf0.3``."""
        return subject(self.association, self.exposure, self.pixfrac)

    @property
    def id(self) -> str:
        """``stage/subject``: unique in a plan, and the task's place in the work directory."""
        return f"{self.stage}/{self.subject}"


@dataclass(frozen=True)
class Plan:
    """Every task of a run, each after the ones it depends on."""

    associations: tuple[Association, ...]
    tasks: tuple[Task, ...]
    settings: Mapping[str, Any]
    """The settings of the run, as JSON values."""

    def association(self, name: str) -> Association:
        """The association called `name`."""
        return next(a for a in self.associations if a.name == name)


def pixfrac_name(pixfrac: float) -> str:
    """The plain name of a pixfrac: 0.3 -> ``pf0.3``, whatever arithmetic it came from."""
    return f"pf{round(pixfrac, 4):.4g}" if pixfrac != 1 else "pf1.0"


def subject(association: str, exposure: str | None = None, pixfrac: float | None = None) -> str:
    """What a task works on, as a relative path."""
    if exposure is not None:
        return f"{association}/{exposure}"
    if pixfrac is not None:
        return f"{association}/{pixfrac_name(pixfrac)}"
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
        The subject's own identity: the stamp of a raw file, a pixfrac, engine versions.
    """
    parts = [stage.name, stage.version, settings, sorted(upstream), extra]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def expand(
    pipeline: Iterable[Stage],
    associations: Sequence[Association],
    settings: Mapping[str, Mapping[str, Any]],
    pixfracs: Sequence[float],
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
    pixfracs : sequence of float
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
        for task in _expand_one(stages, association, settings, pixfracs, typed_settings, identities or {})
    )


def _expand_one(
    stages: list[Stage],
    association: Association,
    settings: Mapping[str, Mapping[str, Any]],
    pixfracs: Sequence[float],
    typed: Any,
    identities: Mapping[str, str],
) -> Iterator[Task]:
    made: dict[str, list[Task]] = {}
    for stage in stages:
        made[stage.name] = []
        for exposure, pixfrac in _subjects(stage, association, pixfracs):
            name = exposure.rootname if exposure else None
            upstream = [
                t for name in stage.after for t in made[name] if _feeds(stage, t, exposure, association)
            ]
            identity = [
                association.name,
                encode(exposure) if exposure else [encode(e) for e in association.exposures],
                pixfrac and pixfrac_name(pixfrac),
                identities.get(stage.name, ""),
                identities.get(f"{stage.name}/{subject(association.name, name, pixfrac)}", ""),
            ]
            task = Task(
                stage=stage.name,
                association=association.name,
                exposure=name,
                pixfrac=pixfrac,
                upstream=tuple(t.id for t in upstream),
                fingerprint=fingerprint(
                    stage, settings.get(stage.name, {}), [t.fingerprint for t in upstream], identity
                ),
                needs=stage.needs(association, exposure, typed),
            )
            made[stage.name].append(task)
            yield task


def _subjects(
    stage: Stage, association: Association, pixfracs: Sequence[float]
) -> Iterator[tuple[Exposure | None, float | None]]:
    if stage.scope == "exposure":
        for exposure in association.members if stage.set_aside_too else association.exposures:
            yield exposure, None
    elif stage.scope == "pixfrac":
        for pixfrac in pixfracs:
            yield None, pixfrac
    else:
        yield None, None


def _feeds(stage: Stage, task: Task, exposure: Exposure | None, association: Association) -> bool:
    """Whether `task` of an earlier stage feeds `stage` applied to `exposure`."""
    if task.exposure is None:
        return True
    if exposure is not None:
        return task.exposure == exposure.rootname
    return stage.set_aside_too or any(e.rootname == task.exposure for e in association.exposures)
