"""The pages for people: one per association, and the index of a run. Self-contained, everything escaped."""

from __future__ import annotations

import base64
import datetime
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import jinja2

from batch import __version__
from batch.model.drizzle import pixfrac_name
from batch.model.observation import Association
from batch.model.plan import Plan, Task
from batch.model.record import Record
from batch.reporting import facts

_MJD_EPOCH = datetime.datetime(1858, 11, 17)


@dataclass(frozen=True)
class Image:
    """A picture on the page."""

    png: bytes
    alt: str
    """What it shows, for those who cannot see it."""
    caption: str = ""
    dark: bytes | None = None
    """The same for dark pages, where it differs."""

    @property
    def uri(self) -> str:
        """The picture itself as an address."""
        return _uri(self.png)

    @property
    def dark_uri(self) -> str:
        """The dark one."""
        return _uri(self.dark or self.png)


@dataclass(frozen=True)
class Zoom:
    """The same detail at one pixfrac: image and weight."""

    pixfrac: float
    image: Image
    weight: Image


@dataclass(frozen=True)
class Stamps:
    """The same stars at one pixfrac."""

    pixfrac: float
    image: Image


@dataclass(frozen=True)
class Pictures:
    """What the page shows; any of it may be absent."""

    mosaic: Image | None = None
    weight: Image | None = None
    curve: Image | None = None
    tiles: Image | None = None
    zooms: Sequence[Zoom] = ()
    stars: Sequence[Stamps] = ()


@dataclass(frozen=True)
class Mosaic:
    """The chosen mosaic."""

    path: str
    """Where it lay when the page was written."""
    link: str
    """The same relative to the page."""
    size: int
    """Bytes."""
    shape: tuple[int, ...]
    """(rows, columns)"""
    unit: str = ""
    header: Mapping[str, Any] = field(default_factory=dict)
    """TARGNAME and the like."""


class Standing(Protocol):
    """Where a task stands: an entry of the ledger."""

    @property
    def state(self) -> Any:
        """An enum whose value is ``done``, ``skipped``, ``stale``, ``failed``, ``blocked`` or ``to do``."""

    @property
    def record(self) -> Record | None:
        """What its last attempt left behind."""

    @property
    def log(self) -> str | None:
        """The log of that attempt: its name in the work directory."""


def association_page(
    association: Association,
    records: Sequence[Record],
    mosaic: Mosaic | None = None,
    pictures: Pictures | None = None,
) -> str:
    """The page of one association.

    Parameters
    ----------
    association : Association
    records : sequence of Record
        Of every task whose products it rests on, in plan order.
    mosaic : Mosaic, optional
    pictures : Pictures, optional
    """
    statistics, select = (facts.results(records, stage) for stage in ("statistics", "select"))
    return (
        _environment()
        .get_template("association.html")
        .render(
            association=association,
            mosaic=mosaic,
            pictures=pictures or Pictures(),
            select=select,
            statistics=statistics,
            sweep=_sweep_rows(statistics, select),
            several=_several(select),
            measured=_measured(statistics, select),
            stars=facts.stars(select),
            align=facts.results(records, "align"),
            align_skipped=next((r.reason for r in records if r.stage == "align"), ""),
            exposures=facts.exposures(association, records),
            references=facts.references(records),
            stages=facts.stages(records),
            notes=facts.notes(records),
            versions=facts.versions(records),
            engines=facts.engines(records),
            **_stamp(),
        )
    )


def index(plan: Plan, standings: Mapping[str, Standing]) -> str:
    """The index page of a run, ``report/index.html`` in the work directory.

    Parameters
    ----------
    plan : Plan
        What was to be done.
    standings : mapping
        Where each task stands, by task id.
    """
    tasks: dict[str, list[Task]] = {}
    for task in plan.tasks:
        tasks.setdefault(task.association, []).append(task)
    rows = [_index_row(a, tasks.get(a.name, []), standings) for a in plan.associations]
    failures = [
        {
            "id": task.id,
            "message": standing.record.failure.message,
            "log": standing.log or "",
            "link": _link(standing.log),
        }
        for task in plan.tasks
        if (standing := standings.get(task.id)) is not None
        and standing.state.value == "failed"
        and standing.record is not None
        and standing.record.failure is not None
    ]
    counts = Counter(state for row in rows for state in row["counts"].elements())
    return (
        _environment()
        .get_template("index.html")
        .render(rows=rows, failures=failures, counts=counts, states=_STATES, **_stamp())
    )


_STATES = ("done", "skipped", "failed", "blocked", "stale", "to do")


def _index_row(
    association: Association, tasks: Sequence[Task], standings: Mapping[str, Standing]
) -> dict[str, Any]:
    found = (standings.get(task.id) for task in tasks)
    counts = Counter(standing.state.value if standing is not None else "to do" for standing in found)
    select, page = (_fresh(standings.get(f"{stage}/{association.name}")) for stage in ("select", "report"))
    return {
        "association": association,
        "counts": counts,
        "choice": select.results if select else None,
        "mosaic": _product_link(select, "chosen"),
        "page": _product_link(page, "report"),
    }


def _fresh(standing: Standing | None) -> Record | None:
    return standing.record if standing is not None and standing.state.value in ("done", "skipped") else None


def _product_link(record: Record | None, kind: str) -> str:
    names = [p.name for p in record.products if p.kind == kind] if record else []
    return _link(f"products/{record.place}/{names[0]}") if record and names else ""


def _link(name: str | None) -> str:
    """From the page to a file of the work directory."""
    return f"../{name}" if name else ""


def _sweep_rows(statistics: Mapping[str, Any], select: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Numbers and verdict of each drizzle, in the order of the statistics."""
    keys = ("scale", "kernel", "pixfrac")
    verdicts = {tuple(v[k] for k in keys): v for v in select.get("verdicts", ())}
    rows = []
    for family in statistics.get("families", ()):
        for row in family["pixfracs"]:
            verdict = verdicts.get((family["scale"], family["kernel"], row["pixfrac"]), {})
            chosen = "name" in verdict and verdict["name"] == select.get("name")
            whole = {"scale": family["scale"], "kernel": family["kernel"], **row, **verdict}
            rows.append({**whole, "chosen": chosen})
    return rows


def _several(select: Mapping[str, Any]) -> dict[str, bool]:
    """Whether scale and kernel vary, so that tables must tell."""
    return {key: len({v[key] for v in select.get("verdicts", ())}) > 1 for key in ("scale", "kernel")}


def _measured(statistics: Mapping[str, Any], select: Mapping[str, Any]) -> Mapping[str, Any]:
    """What was measured at the chosen scale, with the chosen kernel; of the first where none was chosen."""
    families: Sequence[Mapping[str, Any]] = statistics.get("families", ())
    return next((f for f in families if f["family"] == select.get("family")), families[0] if families else {})


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=_number,
        fraction=_fraction,
        pixfrac=lambda value: pixfrac_name(value)[2:],
        size=_size,
        seconds=_seconds,
        date=_date,
        group=_group,
    )
    return environment


def _stamp() -> dict[str, str]:
    now = datetime.datetime.now(datetime.UTC)
    return {"version": __version__, "written": now.strftime("%Y-%m-%d %H:%M UTC")}


def _uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def _number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}".replace("-", "−")


def _fraction(value: float | None) -> str:
    """A fraction as it is read: 0 only where it is nothing at all."""
    if value is None:
        return "–"
    return "0" if value == 0 else f"{100 * value:.2g} %"


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 5e8 else f"{count / 1e6:.1f} MB"


def _seconds(value: float) -> str:
    minutes, seconds = divmod(value, 60)
    return f"{int(minutes)} min {seconds:02.0f} s" if minutes else f"{value:.1f} s"


def _group(value: int) -> str:
    return f"{value:,}"


def _date(mjd: float) -> str:
    """Modified Julian date as a calendar date; the offset of UTC does not matter here."""
    return (_MJD_EPOCH + datetime.timedelta(days=mjd)).strftime("%Y-%m-%d %H:%M") if mjd > 0 else "–"
