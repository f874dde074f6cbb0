"""Options of the command line that are settings under another name: one line each."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from batch import config


@dataclass(frozen=True)
class Shortcut:
    """An option that sets one key of the settings."""

    flag: str
    setting: str
    """``section.key``."""
    kind: Any
    help: str
    metavar: str | None = None

    @property
    def name(self) -> str:
        """The parameter of the verb's function."""
        return self.setting.replace(".", "_")

    @property
    def parameter(self) -> inspect.Parameter:
        """As the command line sees it: None where it was not given."""
        option = typer.Option(self.flag, help=self.help, show_default=False, metavar=self.metavar)
        return _parameter(self.name, self.kind, option)


def _parameter(name: str, kind: Any, option: Any) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
    )


SHORTCUTS = (
    Shortcut(
        "--from",
        "fetch.source",
        str,
        "A folder, s3://bucket/prefix, file:///mirror, mast, or cloud (MAST's public bucket).",
    ),
    Shortcut("--datasets-from", "search.datasets_from", Path, "List or table of associations and exposures."),
    Shortcut("--proposal", "search.proposal", int, "Number of an observing programme."),
    Shortcut("--visit", "search.visits", list[str], "Visit of it, as in 60; may be repeated."),
    Shortcut("--target", "search.target", str, "Name, or right ascension and declination in degrees."),
    Shortcut("--radius", "search.radius", float, "How far from the target, arcmin."),
    Shortcut("--filter", "search.filters", list[str], "Filter, as in F606W; may be repeated."),
    Shortcut("--after", "search.after", str, "Exposures that began then or later: YYYY-MM-DD."),
    Shortcut("--before", "search.before", str, "Exposures that began earlier."),
    Shortcut("--group", "associate.by", str, "What becomes one mosaic. [association|visit|target|all]"),
    Shortcut("--crds-cache", "references.cache", Path, "CRDS cache; CRDS_PATH if not given."),
    Shortcut("--sync", "references.sync", bool, "Fetch reference files and rules that the cache lacks."),
    Shortcut(
        "--reference",
        "references.custom",
        list[str],
        "A file of your own: DARKFILE=path, PFLTFILE[F606W]=path, DARKFILE[j9l960a7q]=path; may be repeated.",
    ),
    Shortcut(
        "--switch",
        "calibrate.switches",
        list[str],
        "A header switch: PCTECORR=OMIT; may be repeated.",
    ),
    Shortcut(
        "--missing-references",
        "references.missing",
        str,
        "omit: leave out the steps whose files are missing. [stop|omit]",
    ),
    Shortcut("--exclude", "associate.exclude", list[str], "Exposure to leave out; may be repeated."),
    Shortcut("--workers", "cluster.workers", int, "Worker processes on this machine."),
    Shortcut("--cluster", "cluster.kind", str, "Where tasks run. [local|scheduler|kubernetes|slurm]"),
    Shortcut("--scheduler", "cluster.scheduler", str, "Address of a Dask scheduler that runs."),
)

_FILE = _parameter(
    "settings_file", Path, typer.Option("--settings", help="TOML file of settings.", show_default=False)
)
_CHANGES = _parameter(
    "changes",
    list[str],
    typer.Option("--set", help="A setting, as in sweep.pixfrac=[0.5,0.8]; may be repeated."),
)


def with_settings(*flags: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a verb ``--settings``, ``--set`` and shortcuts; it is called with the `settings` they make.

    Later ones win: the file, then ``--set``, then the shortcuts.

    Parameters
    ----------
    *flags : str
        The shortcuts that the verb has; none: all of them.
    """
    taken = [s for s in SHORTCUTS if not flags or s.flag in flags]

    def decorate(verb: Callable[..., None]) -> Callable[..., None]:
        own = [p for n, p in inspect.signature(verb, eval_str=True).parameters.items() if n != "settings"]

        def called(**given: Any) -> None:
            settings = config.load(given.pop("settings_file"), given.pop("changes") or [])
            values: dict[str, dict[str, Any]] = {}
            for shortcut in taken:
                section, _, key = shortcut.setting.partition(".")
                value = given.pop(shortcut.name)
                # an option that may be repeated is an empty list where it was not given; 0 was given
                values.setdefault(section, {})[key] = None if value in ([], ()) else value
            verb(settings=config.override(settings, values), **given)

        called.__name__, called.__doc__ = verb.__name__, verb.__doc__
        parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
        parameters += [s.parameter for s in taken] + [_FILE, _CHANGES]
        called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        called.__annotations__ = {p.name: p.annotation for p in parameters}
        return called

    return decorate
