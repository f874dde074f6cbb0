"""What the graph costs: overhead per task, memory of the driver, time to resume.

    python tests/benchmarks/bench_graph.py [--tasks 10000] [--workers 2] [--folder DIR]

A plan of stages shaped as the pipeline (4 exposures -> 1 -> 10 drizzles -> 1, each going alone) runs on
the real `Runner` and a real cluster of worker processes with all that a run has around it: graph, scheduler,
worker choice, metrics, event log, window of associations. Only `perform`, the function that workers call, is
another: it checks what it depends on, announces itself and returns DONE records, and starts no process and
writes no products. The second part writes a record.json for each task and runs the driver's own code on the
finished work directory: plan, survey, plan.json, index page.

Wall time on a shared machine says little; the CPU time of all processes together is printed beside it.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from batch.config.cluster import ClusterSettings
from batch.model.drizzle import combinations
from batch.model.observation import Association, Exposure, Product
from batch.model.plan import Needs, Plan, Stage, expand
from batch.model.record import Record, Status, Usage
from batch.runtime import announcing, worker
from batch.runtime.request import Request
from batch.storage.files import to_json
from batch.storage.work import PLAN, open_work

PIXFRACS = tuple(i / 10 for i in range(1, 11))
PER_ASSOCIATION = 4 + 1 + 10 + 1


def needs(association: Any, exposure: Any, settings: Any) -> Needs:
    # so long that none goes to a worker with another one: each is a request
    return Needs(memory=1000, seconds=61.0, timeout=60)


CHAIN = (
    Stage("single", "exposure", (), 1, needs),
    Stage("gather", "association", ("single",), 1, needs),
    Stage("spread", "drizzle", ("gather",), 1, needs),
    Stage("finish", "association", ("spread", "gather"), 1, needs),
)


def make_plan(associations: int) -> Plan:
    made = tuple(
        Association(
            f"asn{a}",
            tuple(
                Exposure(
                    f"j{a:05d}x{e}q", "WFC", "WFC", "A", ("F606W",), 339.0, 53900.0, (2068, 4144), 2, "1"
                )
                for e in range(4)
            ),
        )
        for a in range(associations)
    )
    return Plan(made, expand(CHAIN, made, {}, combinations(PIXFRACS)), {})


def record(task: Any, **fields: Any) -> Record:
    return Record(task.stage, task.subject, task.fingerprint, Status.DONE, **fields)


def perform(request: Request, *upstream: Record | tuple[Record, ...]) -> tuple[Record, ...]:
    """What workers do instead of science: nothing."""
    records = worker.each_process(request, upstream, nothing)
    announcing.ended(request, records)
    return records


def nothing(request: Request, needed: tuple[Record, ...]) -> tuple[Record, ...]:
    """Of one process."""
    announcing.started(request)
    return tuple(record(t) for t in request.tasks)


def cpu() -> float:
    """CPU time of this process and its living children, s."""
    here = psutil.Process()
    times = [p.cpu_times() for p in (here, *here.children(recursive=True))]
    return sum(t.user + t.system for t in times)


def overhead(plan: Plan, workers: int, folder: Path) -> None:
    import bench_graph  # by name, so that it travels as a reference

    from batch.runtime import scheduling
    from batch.runtime.capacity import measure
    from batch.runtime.cluster import connect
    from batch.runtime.events import EventLog, new_run
    from batch.runtime.execution import equip
    from batch.runtime.graph import Runner

    work = open_work(folder / "run")
    settings = ClusterSettings(workers=workers, memory=10**9)
    with work.writer(), scheduling.configured(), connect(settings, plan.tasks, work) as client:
        equip(client, settings)
        warm = make_plan(10)
        common = {
            "attempts": 2,
            "window": settings.window,
            "capacity": lambda: measure(client),
            "perform": bench_graph.perform,
        }
        Runner(client, work, warm, **common).run()
        memory, start, busy = psutil.Process().memory_info().rss, time.perf_counter(), cpu()
        most = 0
        grown: list[float] = []

        def observe(task: Any, made: Record) -> None:
            nonlocal most
            most = max(most, runner.in_flight)
            ended.append(task.id)
            if len(ended) % quarter == 0:
                grown.append((psutil.Process().memory_info().rss - memory) / 1e6)

        ended: list[str] = []
        quarter = len(plan.tasks) // 4

        events = EventLog(work, new_run())
        runner = Runner(client, work, plan, **common, events=events, observe=observe)
        outcomes = runner.run()
        wall, used = time.perf_counter() - start, cpu() - busy
        events.close()
    assert outcomes.counts()["done"] == len(plan.tasks)
    count = len(plan.tasks)
    print(f"{count} tasks, {workers} workers, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs")
    print(f"overhead: {1e3 * wall / count:.2f} ms a task ({wall:.1f} s; target 5 ms)")
    print(f"CPU of driver, scheduler and workers: {1e3 * used / count:.2f} ms a task")
    window = settings.window * PER_ASSOCIATION
    print(f"futures held: at most {most} (window {settings.window} associations = {window})")
    print(f"driver and scheduler grew by {', '.join(f'{g:.0f}' for g in grown)} MB after each quarter")


def write_finished(plan: Plan, folder: Path) -> None:
    """What a finished run leaves: a folder and a record for each task."""
    products = tuple(Product(f"kind{i}", f"file{i}.fits", 10**8, "0" * 64, 1, (4000, 4000)) for i in range(3))
    results = {"numbers": [0.5] * 20, "text": "x" * 200}
    usage = Usage(12.5, 11.0, 10**9, "node-1", "2026-01-01T00:00:00+00:00")
    for task in plan.tasks:
        path = folder / "products" / task.id / "record.json"
        path.parent.mkdir(parents=True)
        made = record(task, products=products, results=results, usage=usage, versions=worker.versions())
        path.write_bytes(to_json(made))


def resume(plan: Plan, folder: Path) -> None:
    from batch.runtime.driver import write_index
    from batch.runtime.events import EventLog, new_run
    from batch.runtime.execution import Listeners, carry_out

    write_finished(plan, folder / "done")
    work = open_work(folder / "done")
    start, busy = time.perf_counter(), time.process_time()
    with work.writer():
        again = make_plan(len(plan.associations))
        planned = time.perf_counter()
        work.write(PLAN, to_json(again))
        written = time.perf_counter()
        outcomes = carry_out(ClusterSettings(), work, again, Listeners(), EventLog(work, new_run()))
        surveyed = time.perf_counter()
        write_index(work, again)
    end = time.perf_counter()
    assert outcomes.counts()["done"] == len(plan.tasks)
    print(f"resume over {len(plan.tasks)} finished tasks: {end - start:.1f} s (target 20 s), of it")
    print(
        f"  plan {planned - start:.1f}, plan.json {written - planned:.1f}, "
        f"records {surveyed - written:.1f}, index page {end - surveyed:.1f}; "
        f"CPU {time.process_time() - busy:.1f} s"
    )
    print(f"largest resident set: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:.0f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where work directories are made, and removed")
    given = parser.parse_args()
    here = str(Path(__file__).parent)
    # scheduler and workers find `perform` here
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
    sys.path.insert(0, here)
    plan = make_plan(-(-given.tasks // PER_ASSOCIATION))
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        overhead(plan, given.workers, Path(folder))
        resume(plan, Path(folder))


if __name__ == "__main__":
    main()
