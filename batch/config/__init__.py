"""The settings of a reduction: one typed model per stage, from TOML and ``--set``."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from batch.config.archive import AssociateSettings, FetchSettings, SearchSettings
from batch.config.base import Section
from batch.config.calibration import CalibrateSettings, ReferencesSettings
from batch.config.cluster import ClusterSettings
from batch.config.mosaics import (
    AlignSettings,
    CombineSettings,
    ReportSettings,
    SelectSettings,
    StatisticsSettings,
    SweepSettings,
    WcsSettings,
)
from batch.errors import UsageError


class Settings(Section):
    """All settings of a run."""

    search: SearchSettings = SearchSettings()
    associate: AssociateSettings = AssociateSettings()
    fetch: FetchSettings = FetchSettings()
    references: ReferencesSettings = ReferencesSettings()
    calibrate: CalibrateSettings = CalibrateSettings()
    wcs: WcsSettings = WcsSettings()
    align: AlignSettings = AlignSettings()
    combine: CombineSettings = CombineSettings()
    sweep: SweepSettings = SweepSettings()
    statistics: StatisticsSettings = StatisticsSettings()
    select: SelectSettings = SelectSettings()
    report: ReportSettings = ReportSettings()
    cluster: ClusterSettings = ClusterSettings()


def load(path: Path | None = None, changes: Iterable[str] = ()) -> Settings:
    """Read a TOML file and apply ``section.key=value`` changes to it, later ones winning.

    Raises
    ------
    UsageError
        For a file that cannot be read, an unknown key, or a value of the wrong kind.
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise UsageError(f"{path}: {error}; give a TOML file of settings") from None
    for change in changes:
        name, equals, text = change.partition("=")
        *sections, key = name.strip().split(".")
        if not (equals and sections and key and all(sections)):
            raise UsageError(f"--set {change}: not of the form section.key=value")
        table = values
        for section in sections:
            table = table.setdefault(section, {})
            if not isinstance(table, dict):
                raise UsageError(f"--set {change}: {section} is not a section")
        table[key] = _value(text)
    return _validated(values, f"{path}: " if path else "")


def _validated(values: Mapping[str, Any], where: str) -> Settings:
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise UsageError(f"{where}wrong settings: " + "; ".join(lines)) from None


def _value(text: str) -> Any:
    """A TOML value; what is no TOML value is a string, so that quotes may be left out."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def override(settings: Settings, values: Mapping[str, Mapping[str, Any]]) -> Settings:
    """Settings with other values for some keys; None leaves a key as it is.

    Raises
    ------
    UsageError
        For a value that the key does not take.
    """
    content = settings.model_dump()
    for name, keys in values.items():
        content[name] |= {k: v for k, v in keys.items() if v is not None}
    return _validated(content, "")


# where things lie, and how much is in memory at a time, changes no digit of a product
_WITHOUT_EFFECT = {
    "fetch": set(FetchSettings.model_fields),
    # files of the user's own count by their content (`batch.runtime.prefetch`)
    "references": {"cache", "server", "sync", "bad", "custom"},
    # its content counts instead (`batch.runtime.planning`)
    "align": {"catalog"},
    "statistics": {"chunk"},
    # a drizzle's own ones are in its task's identity, so that others may join the sweep
    "sweep": {"pixfrac", "scale", "kernel"},
}


def section(stage: str, values: Mapping[str, Any]) -> BaseModel:
    """The typed settings of a stage from their JSON values; stages without settings get an empty section."""
    field = Settings.model_fields.get(stage)
    kind: type[BaseModel] = Section if field is None else type(field.default)
    return kind.model_validate(values)


def identity(settings: Settings) -> dict[str, dict[str, Any]]:
    """What of the settings shapes products, as JSON values by section: the basis of fingerprints."""
    return {
        name: values.model_dump(mode="json", exclude=_WITHOUT_EFFECT.get(name))
        for name, values in settings
        if name != "cluster"
    }
