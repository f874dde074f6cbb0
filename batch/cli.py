"""The command line: parse, call, exit code.

Exit codes: 0 all done, 3 done with failures, 2 wrong use, 1 broken, 130 interrupted.
"""

from __future__ import annotations

import logging
import sys
from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from batch import __version__, config, log
from batch.config import Settings
from batch.errors import BatchError
from batch.options import with_settings

if TYPE_CHECKING:
    from batch.model.plan import Plan
    from batch.runtime.driver import Result
    from batch.storage.work import Work

DONE, BROKEN, WITH_FAILURES, INTERRUPTED = 0, 1, 3, 130

app = typer.Typer(
    name="acs-batch",
    help="Reduce Hubble ACS exposures to chosen, documented mosaics.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Datasets = Annotated[
    list[str] | None,
    typer.Argument(help="Associations or exposures, @file for a list; none: all that is found."),
]
Where = Annotated[
    str,
    typer.Option("--work", help="Work directory: products, logs, reports. A folder or s3://bucket/prefix."),
]
Until = Annotated[str | None, typer.Option("--until", help="The last stage to run.", show_default=False)]

console = Console()


@app.command()
@with_settings()
def run(
    settings: Settings, datasets: Datasets = None, work: Where = "acs-batch", until: Until = None
) -> None:
    """Reduce raw exposures. Run it again to go on where it ended."""
    raise typer.Exit(_reduce(settings, work, datasets or [], until))


@app.command()
@with_settings()
def submit(
    settings: Settings,
    datasets: Datasets = None,
    work: Annotated[str, typer.Option("--work", help="Work directory as pods see it.")] = "/work/run",
    until: Until = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the manifests, make nothing.")] = False,
) -> None:
    """Leave a run in a Kubernetes cluster, as a Job. Folders are those of its pods."""
    from batch.runtime import kubernetes

    watching, made = kubernetes.submit_run(settings, work, datasets or [], until, dry=dry_run)
    if dry_run:
        print(kubernetes.text(made), end="")
    else:
        console.print(watching, markup=False, highlight=False, soft_wrap=True)


@app.command()
@with_settings("--workers")
def demo(
    settings: Settings,
    full: Annotated[bool, typer.Option("--full", help="Full frames instead of 1K subarrays.")] = False,
    work: Where = "acs-batch-demo",
    seed: Annotated[int, typer.Option(help="Seed of the simulation.")] = 1,
) -> None:
    """Simulate a visit to a crowded field, with its reference files, and reduce it."""
    from batch.simulation.visit import VisitSettings, simulate
    from batch.storage.work import locate, open_work

    wanted = VisitSettings(seed=seed, size="full" if full else "1k", pointing_error=1.0)
    folder = open_work(locate(work, settings.cluster)).local / "simulated"
    console.print(f"simulating a visit in {folder}", markup=False, highlight=False, soft_wrap=True)
    visit = simulate(folder, wanted)
    here: dict[str, dict[str, object]] = {
        "fetch": {"source": visit.raw},
        "references": {"cache": visit.crds},
        "align": {"catalog": settings.align.catalog or visit.truth / "catalog.ecsv"},
    }
    settings = config.override(settings, here)
    raise typer.Exit(_reduce(settings, work, [], None))


@app.command()
@with_settings()
def plan(
    settings: Settings,
    datasets: Datasets = None,
    work: Where = "acs-batch",
    until: Until = None,
    details: Annotated[bool, typer.Option("--details", help="List every exposure and task.")] = False,
) -> None:
    """Show what is found and set aside, sizes, tasks, memory and expected time; download and run nothing."""
    from batch.reporting import planned, terminal
    from batch.runtime import limits, planning
    from batch.runtime.cluster import local_size

    made = planning.make_plan(settings, datasets or [], until=until)
    for line in planned.details(made) if details else planned.summary(made):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(planned.found_table(made))
    console.print(terminal.plan_table(planning.totals(made)))
    largest = max((t.needs.memory for t in made.tasks), default=1)
    count, memory = local_size(settings.cluster, largest)
    seconds = planning.expected_seconds(made, count)
    console.print(
        f"{len(made.tasks)} tasks on {count} workers of {memory / 1e9:.1f} GB: about {seconds / 60:.1f} min"
    )
    if line := limits.advice(made, limits.asked(settings.cluster)):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


@app.command()
@with_settings("--workers")
def rehearse(
    settings: Settings,
    exposures: Annotated[int, typer.Option(help="Full WFC frames, four to an association.")] = 1000,
    measured: Annotated[
        str | None,
        typer.Option("--measured", help="Work directory whose records say what tasks take; else the plan."),
    ] = None,
    speed: Annotated[float, typer.Option(help="How many times faster than in truth.")] = 100.0,
    processes: Annotated[int, typer.Option(help="Processes that the simulated workers share.")] = 2,
) -> None:
    """Run plan, graph and scheduler at any size on workers that only wait, to size a cluster."""
    from batch.runtime import rehearsal

    known = rehearsal.measured(*_last(measured)) if measured else {}

    def tell(line: str) -> None:
        print(line, flush=True)

    figures = rehearsal.run(settings, exposures, known, speed=speed, processes=processes, tell=tell)
    print(figures.text(), end="")


@app.command()
def status(work: Where = "acs-batch") -> None:
    """Show where the run in a work directory stands, and why what failed did."""
    from batch.reporting import terminal
    from batch.runtime import progress
    from batch.storage import ledger

    directory, made = _last(work)
    entries = ledger.entries(directory, made.tasks)
    counts: dict[str, Counter[str]] = {}
    for entry in entries.values():
        counts.setdefault(entry.task.stage, Counter())[entry.state.value] += 1
    states = [s.value for s in ledger.State]
    console.print(terminal.state_table(counts, states))
    going = progress.of_last_run(directory)
    console.print(going, markup=False, highlight=False, soft_wrap=True, end="\n" if going else "")
    for entry in entries.values():
        if entry.state is ledger.State.FAILED and entry.record and entry.record.failure:
            log_file = directory.url(entry.log or "")
            text = f"{entry.task.id}: {entry.record.failure.message}\n  log: {log_file}"
            console.print(text, markup=False, highlight=False, soft_wrap=True)
    if any(e.state in (ledger.State.FAILED, ledger.State.BLOCKED) for e in entries.values()):
        raise typer.Exit(WITH_FAILURES)


@app.command()
def report(work: Where = "acs-batch") -> None:
    """Write the index page anew from what lies in a work directory, and say where it is."""
    from batch.runtime.driver import write_index

    directory, made = _last(work)
    print(write_index(directory, made))


@app.command()
@with_settings("--crds-cache")
def doctor(settings: Settings, work: Where = "acs-batch") -> None:
    """Look at the installation, the machine, the CRDS cache and calacs.e."""
    import os

    from batch.runtime.doctor import examine

    bad = 0
    for finding in examine(work, settings.references.cache, os.environ):
        mark = "ok " if finding.good else "BAD"
        advice = f"\n      {finding.advice}" if finding.advice and not finding.good else ""
        text = f"{mark} {finding.what}: {finding.found}{advice}"
        console.print(text, markup=False, highlight=False, soft_wrap=True)
        bad += not finding.good
    raise typer.Exit(BROKEN if bad else DONE)


@app.command()
def clean(
    work: Where = "acs-batch",
    failures: Annotated[bool, typer.Option("--failures", help="Logs of failed attempts too.")] = False,
    stale: Annotated[bool, typer.Option("--stale", help="Products that a run would make anew too.")] = False,
) -> None:
    """Remove scratch folders of a work directory, and more where asked."""
    from batch.runtime import cleaning

    directory, made = _last(work)
    freed = cleaning.clean(directory, made, failures=failures, stale=stale)
    console.print(f"{freed / 1e9:.2f} GB freed", markup=False, highlight=False)


@app.command()
def cancel(
    work: Where = "acs-batch",
    timeout: Annotated[float, typer.Option(help="How long to wait for its end, s.")] = 60.0,
) -> None:
    """End the run in a work directory in order, from anywhere; running again goes on."""
    from batch.runtime import cancelling

    directory, _ = _last(work)
    ended = cancelling.cancel(directory, timeout)
    console.print("the run has ended; run again to go on" if ended else "no run works here")


def _reduce(settings: Settings, work: str, wanted: list[str], until: str | None) -> int:
    from batch.reporting.terminal import Display
    from batch.runtime.driver import Listeners, reduce

    display = Display(console)
    try:
        with display.live():
            result = reduce(
                settings,
                work,
                wanted,
                until=until,
                listeners=Listeners(display.planned, display.connected, display.finished),
            )
    except KeyboardInterrupt:
        print("interrupted; run the same command again to go on", file=sys.stderr)
        return INTERRUPTED
    _summary(result, work)
    return DONE if result.complete else WITH_FAILURES


def _summary(result: Result, work: str) -> None:
    """The choice per association, what failed, and where to look."""
    from batch.reporting.terminal import sweep_table
    from batch.storage.work import open_work

    directory = open_work(work)
    for association in result.plan.associations:
        chosen = result.records.get(f"select/{association.name}")
        if chosen is not None and chosen.products:
            console.print(sweep_table(association.name, chosen))
            mosaic = directory.url(f"products/{chosen.place}/{chosen.products[0].name}")
            text = f"{association.name}: {chosen.results['why']}\n{mosaic}"
            console.print(text, markup=False, highlight=False, soft_wrap=True)
    for record in result.failed:
        message = record.failure.message if record.failure else ""
        console.print(f"FAILED {record.id}: {message}", markup=False, highlight=False, soft_wrap=True)
    blocked = result.records.counts()["blocked"]
    if result.failed:
        text = f"{len(result.failed)} tasks failed, {blocked} were blocked by them; mend and run again"
        console.print(
            f"{text} (acs-batch status --work {work})", markup=False, highlight=False, soft_wrap=True
        )
    console.print(f"report: {result.index}", markup=False, highlight=False, soft_wrap=True)


def _last(work: str) -> tuple[Work, Plan]:
    from batch.runtime.driver import load_plan
    from batch.storage.work import Location, open_work

    made = load_plan(open_work(work))
    return open_work(Location(work, made.settings.get("cluster", {}).get("scratch"))), made


def _version(asked: bool) -> None:
    if asked:
        print(f"acs-batch {__version__}")
        raise typer.Exit(DONE)


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options before the verb."""


def main() -> None:
    """Entry point of the ``acs-batch`` command."""
    log.set_up(logging.WARNING)
    try:
        app()
    except BatchError as error:
        print(f"acs-batch: {error.message}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
