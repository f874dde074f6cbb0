"""What `acs-batch plan` shows: a summary that stays readable for ten thousand exposures, and every detail."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from rich.table import Table

from batch.model.observation import Association, Exposure, SetAside
from batch.model.plan import Plan

_LINES = 12
"""How many lines of one kind a summary has."""


def exposures(plan: Plan) -> list[Exposure]:
    """Every exposure of a plan, once."""
    return list({e.rootname: e for a in plan.associations for e in a.members}.values())


def found_table(plan: Plan) -> Table:
    """Exposures by detector and filters: how many, how long, how large."""
    table = Table(title="Found", title_justify="left")
    table.add_column("exposures of")
    for name in ("number", "time, s", "raw files, GB"):
        table.add_column(name, justify="right")
    kinds: dict[str, list[Exposure]] = {}
    everything = exposures(plan)
    for exposure in everything:
        name = (
            f"{exposure.detector} {'+'.join(exposure.filters) or 'clear'}" if exposure.detector else "unread"
        )
        kinds.setdefault(name, []).append(exposure)
    for name, some in sorted(kinds.items()):
        table.add_row(name, *_sums(some))
    if len(kinds) > 1:
        table.add_row("all", *_sums(everything), style="bold")
    return table


def _sums(some: list[Exposure]) -> tuple[str, str, str]:
    return str(len(some)), f"{sum(e.exptime for e in some):.0f}", f"{sum(e.size for e in some) / 1e9:.2f}"


def summary(plan: Plan) -> Iterator[str]:
    """Lines on what becomes what, and on everything that is not combined, with the reasons."""
    yield from _some(_association(a) for a in plan.associations)
    aside = [f"set aside from {a.name}: {s.exposure.rootname} ({s.reason})" for a, s in _aside(plan)]
    yield from _some(aside, _reasons("set aside", (s.reason for _, s in _aside(plan))))
    absent = [(a, gone) for a in plan.associations for gone in a.absent]
    lines = [f"absent from {a.name}: {gone.rootname} ({gone.reason})" for a, gone in absent]
    yield from _some(lines, _reasons("absent", (gone.reason.partition(" in ")[0] for _, gone in absent)))
    troubled = [e for e in exposures(plan) if e.trouble]
    lines = [f"cannot be read: {e.rootname} ({e.trouble})" for e in troubled]
    yield from _some(lines, [f"cannot be read: {len(troubled)} exposures"])


def details(plan: Plan) -> Iterator[str]:
    """Every exposure and every task."""
    for association in plan.associations:
        yield _association(association)
        for e in association.members:
            kind = association.member_types.get(e.rootname, "")
            shape = f"{e.chips} x {e.shape[0]} x {e.shape[1]}"
            what = f"{e.detector} {e.aperture} {'+'.join(e.filters) or 'clear'} {e.exptime:g} s, {shape}"
            when = f"MJD {e.start:.5f}"
            yield f"  {e.rootname} {kind} {what}, {when}, {e.size / 1e6:.1f} MB  {e.origin}".rstrip()
        for s in association.set_aside:
            yield f"  set aside: {s.exposure.rootname} ({s.reason})"
        for gone in association.absent:
            yield f"  absent: {gone.rootname} ({gone.reason})"
        for e in association.members:
            if e.trouble:
                yield f"  cannot be read: {e.rootname} ({e.trouble})"
    for task in plan.tasks:
        yield f"{task.id}  {task.needs.memory / 1e9:.2f} GB  {task.needs.seconds:.0f} s"


def _association(association: Association) -> str:
    names = [e.rootname for e in association.exposures]
    shown = ", ".join(names[:_LINES]) + (f" and {len(names) - _LINES} more" if len(names) > _LINES else "")
    return f"{association.name}: {shown}"


def _aside(plan: Plan) -> Iterator[tuple[Association, SetAside]]:
    return ((a, s) for a in plan.associations for s in a.set_aside)


def _reasons(what: str, reasons: Iterable[str]) -> list[str]:
    """Lines that count, for when there are too many to list."""
    return [f"{what}: {count} exposures ({reason})" for reason, count in Counter(reasons).most_common(_LINES)]


def _some(lines: Iterable[str], instead: list[str] | None = None) -> Iterator[str]:
    """All lines where they are few; else what is said instead, or the first of them."""
    lines = list(lines)
    if len(lines) <= _LINES:
        yield from lines
    elif instead is not None:
        yield from instead
    else:
        yield from lines[:_LINES]
        yield f"and {len(lines) - _LINES} more associations (--details)"
