"""What the command line shows: progress while a run goes, tables before and after it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from batch.model.drizzle import pixfrac_name
from batch.model.plan import Plan, Task
from batch.model.record import Record, Status

_STYLE = {Status.DONE: "green", Status.SKIPPED: "cyan", Status.FAILED: "red", Status.BLOCKED: "yellow"}


class Display:
    """Progress of a run: bars per stage on a terminal, a line per task elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description:<11}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[trouble]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._bars: dict[str, Any] = {}
        self._trouble: dict[str, int] = {}

    @contextlib.contextmanager
    def live(self) -> Iterator[None]:
        """Show the bars while the block lasts."""
        with self._progress:
            yield

    def planned(self, plan: Plan) -> None:
        """Say what there is to do."""
        totals: dict[str, int] = {}
        for task in plan.tasks:
            totals[task.stage] = totals.get(task.stage, 0) + 1
        for stage, total in totals.items():
            self._bars[stage] = self._progress.add_task(stage, total=total, trouble="")
        self._console.print(set_aside(plan), end="", markup=False, highlight=False)
        count = sum(len(a.exposures) for a in plan.associations)
        self._line(f"{len(plan.associations)} associations, {count} exposures, {len(plan.tasks)} tasks")

    def connected(self, dashboard: str) -> None:
        """Say where to watch the cluster."""
        self._line(f"dashboard: {dashboard}")

    def finished(self, task: Task, record: Record) -> None:
        """Count a task, and tell of one that did not go well."""
        trouble = self._trouble.get(task.stage, 0) + (not record.status.ok)
        self._trouble[task.stage] = trouble
        self._progress.update(
            self._bars[task.stage],
            advance=1,
            trouble=f"[red]{trouble} not done" if trouble else "",
        )
        if record.failure is not None:
            self._line(f"{record.id} failed: {record.failure.message}")
        for note in record.notes:
            self._line(f"note: {note}")
        if not self._console.is_terminal:
            usage = record.usage
            spent = f" ({usage.wall:.1f} s, {usage.peak_memory / 1e9:.2f} GB)" if usage.wall else ""
            reason = f": {record.reason}" if record.reason else ""
            self._line(f"{record.id} {record.status.value}{reason}{spent}")

    def _line(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


def set_aside(plan: Plan) -> str:
    """One line per exposure that will not be combined."""
    return "".join(
        f"set aside from {a.name}: {s.exposure.rootname} ({s.reason})\n"
        for a in plan.associations
        for s in a.set_aside
    )


def plan_table(totals: Mapping[str, Mapping[str, float]]) -> Table:
    """Tasks, memory and time per stage, before anything runs."""
    table = Table(title="Plan", title_justify="left")
    table.add_column("stage")
    for name in ("tasks", "memory, GB", "expected, s"):
        table.add_column(name, justify="right")
    for stage, row in totals.items():
        table.add_row(stage, f"{row['tasks']:.0f}", f"{row['memory'] / 1e9:.2f}", f"{row['seconds']:.0f}")
    return table


def state_table(counts: Mapping[str, Mapping[str, int]], states: Iterable[str]) -> Table:
    """How many tasks of each stage stand where."""
    states = list(states)
    table = Table(title="Tasks", title_justify="left")
    table.add_column("stage")
    for state in states:
        table.add_column(state, justify="right")
    for stage, row in counts.items():
        table.add_row(stage, *(str(row.get(s, 0) or "·") for s in states))
    return table


def sweep_table(association: str, select: Record) -> Table:
    """Pixfrac, RMS/median and empty fraction, with the verdict on each; scale and kernel where they vary."""
    rows = select.results["verdicts"]
    varied = [key for key in ("kernel", "scale") if len({row[key] for row in rows}) > 1]
    table = Table(title=f"{association}: {', '.join([*varied, 'pixfrac'])}", title_justify="left")
    for name in (*varied, "pixfrac", "RMS/median", "empty fraction"):
        table.add_column(name, justify="left" if name == "kernel" else "right")
    table.add_column("verdict")
    for row in rows:
        mark = "chosen" if row["name"] == select.results["name"] else ""
        verdict = "; ".join(filter(None, [mark, *row["reasons"]])) or "passes"
        table.add_row(
            *(f"{row[key]:g}" if key == "scale" else row[key] for key in varied),
            pixfrac_name(row["pixfrac"])[2:],
            _number(row["rms_over_median"], ".3f"),
            _number(row["empty_fraction"], ".2e"),
            escape(verdict),
            style="bold" if mark else None,
        )
    return table


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else f"{value:{form}}"
