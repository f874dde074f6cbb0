"""From the records of an association to the rows of its page; any record, and any number, may be absent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from batch.model.observation import Association
from batch.model.record import Record, Status


@dataclass(frozen=True)
class StageRow:
    """What one stage took, over all its tasks."""

    stage: str
    tasks: int
    skipped: tuple[str, ...]
    """Why tasks of the stage had nothing to do."""
    wall: float
    """Sum over its tasks, s."""
    longest: float
    """s"""
    peak_memory: int
    """Bytes."""
    hosts: tuple[str, ...]


@dataclass(frozen=True)
class ExposureRow:
    """One exposure of the mosaic; None where a stage said nothing."""

    rootname: str
    exptime: float
    filters: str
    start: float
    sky: tuple[float, ...]
    """Of each chip, in the units of the calibrated exposure."""
    rejected: float | None
    """Fraction of its pixels flagged as cosmic rays."""
    fit: Mapping[str, Any]
    """What align found: dx, dy, rms_x, rms_y (pixels), rotation (deg), matches, is_reference."""


@dataclass(frozen=True)
class ReferenceRow:
    """One reference keyword, and the files that exposures got for it."""

    keyword: str
    files: tuple[tuple[str, str], ...]
    """File name, and which exposures it is for (empty: all)."""
    missing: bool


@dataclass(frozen=True)
class References:
    """What CRDS gave the exposures."""

    contexts: tuple[str, ...]
    rows: tuple[ReferenceRow, ...]
    omitted: tuple[str, ...]
    """Calibration steps that were left out because of missing files."""
    nominal: tuple[str, ...]
    """Tables that nominal figures replaced."""

    @property
    def missing(self) -> tuple[str, ...]:
        """Keywords whose files were not there."""
        return tuple(row.keyword for row in self.rows if row.missing)


def stages(records: Iterable[Record]) -> list[StageRow]:
    """One row per stage, in the order of the records."""
    grouped: dict[str, list[Record]] = {}
    for record in records:
        grouped.setdefault(record.stage, []).append(record)
    return [
        StageRow(
            stage=stage,
            tasks=len(found),
            skipped=_distinct(r.reason for r in found if r.status is Status.SKIPPED),
            wall=sum(r.usage.wall for r in found),
            longest=max(r.usage.wall for r in found),
            peak_memory=max(r.usage.peak_memory for r in found),
            hosts=_distinct(r.usage.host for r in found),
        )
        for stage, found in grouped.items()
    ]


def notes(records: Iterable[Record]) -> list[tuple[str, str]]:
    """Stage and text of every note, each text once."""
    return list(dict.fromkeys((r.stage, note) for r in records for note in r.notes))


def versions(records: Iterable[Record]) -> dict[str, str]:
    """Versions by name; where tasks differ, all of them."""
    found: dict[str, list[str]] = {}
    for record in records:
        for name, version in record.versions.items():
            found.setdefault(name, []).append(version)
    return {name: ", ".join(_distinct(values)) for name, values in found.items()}


def engines(records: Iterable[Record]) -> tuple[str, ...]:
    """Calibration engines and their versions."""
    return _distinct(
        f"{r.results['engine']} {r.results.get('engine_version', '')}".strip()
        for r in records
        if r.stage == "calibrate" and "engine" in r.results
    )


def stars(select: Mapping[str, Any]) -> Mapping[str, Any]:
    """What is known of stars: ``judged``, ``found``, ``needed``, ``apertures``, ``pixfracs``; or nothing."""
    return _mapping(select.get("stars"))


def exposures(association: Association, records: Sequence[Record]) -> list[ExposureRow]:
    """One row per exposure that is combined."""
    combined = results(records, "combine")
    fits = _mapping(results(records, "align").get("exposures"))
    sky, rejected = _mapping(combined.get("sky")), _mapping(combined.get("rejected"))
    return [
        ExposureRow(
            rootname=e.rootname,
            exptime=e.exptime,
            filters=" + ".join(e.filters) or "–",
            start=e.start,
            sky=_numbers(sky.get(e.rootname)),
            rejected=rejected.get(e.rootname),
            fit=_mapping(fits.get(e.rootname)),
        )
        for e in association.exposures
    ]


def references(records: Iterable[Record]) -> References:
    """The reference files of all exposures, keyword by keyword."""
    found = {
        r.subject.rpartition("/")[2]: r.results
        for r in records
        if r.stage == "references" and r.status.ok and r.results
    }
    absent = {k for result in found.values() for k in _mapping(result.get("missing"))}
    files: dict[str, dict[str, list[str]]] = {}
    for root, result in found.items():
        for keyword, value in _mapping(result.get("keywords")).items():
            name = str(value).rpartition("$")[2]
            if name not in ("", "N/A"):
                files.setdefault(keyword, {}).setdefault(name, []).append(root)
    return References(
        contexts=_distinct(str(r.get("context", "")) for r in found.values()),
        rows=tuple(
            ReferenceRow(
                keyword,
                tuple(
                    (name, "" if len(roots) == len(found) else ", ".join(roots)) for name, roots in by.items()
                ),
                keyword in absent,
            )
            for keyword, by in sorted(files.items())
        ),
        omitted=_distinct(step for r in found.values() for step in r.get("omitted", ())),
        nominal=_distinct(table for r in found.values() for table in r.get("nominal", ())),
    )


def results(records: Iterable[Record], stage: str) -> Mapping[str, Any]:
    """What the one task of a stage found; empty where there is none."""
    return next((r.results for r in records if r.stage == stage), {})


def _numbers(value: Any) -> tuple[float, ...]:
    if value is None:
        return ()
    return tuple(value) if isinstance(value, (list, tuple)) else (float(value),)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _distinct(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(v for v in values if v))
