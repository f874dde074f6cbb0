"""The way from names to fetched files, as a run goes it."""

from __future__ import annotations

from pathlib import Path

from batch.config import Settings
from batch.model.observation import Association
from batch.model.plan import Needs, Task
from batch.runtime.discovery import Found, find
from batch.stages import fetch
from batch.stages.interface import Inputs, Outcome


def search(settings: Settings, wanted: list[str], area: Path) -> Found:
    """What a plan begins with."""
    area.mkdir(exist_ok=True)
    return find(settings, wanted, area)


def bring(association: Association, root: str, settings: Settings, area: Path) -> Outcome:
    """One task of the stage fetch, in this process."""
    area.mkdir(exist_ok=True)
    task = Task("fetch", association.name, root, None, (), "f" * 64, Needs(1, 1, 1))
    return fetch.run(Inputs(task, association, (), area / "none"), area, settings.fetch)
