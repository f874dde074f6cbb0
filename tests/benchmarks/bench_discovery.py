"""How long discovery and planning take for many datasets, and how much memory.

``python tests/benchmarks/bench_discovery.py [EXPOSURES] [CRDS_CACHE]``: a folder of that many small raw files
in associations of four, then the same behind a server like MAST in a process of its own. With a CRDS cache
the reference files of every exposure are named as well. Prints seconds, peak memory, and ratios to the goal
of 60 s and 2 GB for 10,000; also writes and reads the plan, and shows the summary.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from astropy.io import fits

GOAL_S, GOAL_BYTES, GOAL_COUNT = 60.0, 2e9, 10_000
TESTS = Path(__file__).resolve().parents[1]
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def base36(number: int, length: int) -> str:
    text = ""
    for _ in range(length):
        number, digit = divmod(number, 36)
        text = DIGITS[digit] + text
    return text


def raw_template() -> bytes:
    """A raw file with a header as long as real ones, and few pixels."""
    real = TESTS.parents[1] / "shared/data/real/j8bt05njq_raw.fits"
    header = fits.getheader(real, 0) if real.is_file() else fits.Header()
    primary = fits.PrimaryHDU(header=header)
    primary.header.update(
        {
            "ROOTNAME": "jROOTNAME",
            "INSTRUME": "ACS",
            "DETECTOR": "WFC",
            "APERTURE": "WFC",
            "FILTER1": "F606W",
            "FILTER2": "CLEAR2L",
            "EXPTIME": 339.0,
            "EXPSTART": 53900.0,
            "EXPEND": 53900.1,
            "SUBARRAY": False,
            "CCDAMP": "ABCD",
            "CCDGAIN": 2.0,
            "NEXTEND": 1,
            "PROPOSID": 10775,
            "ASN_ID": "JTABLE010",
            "ASN_MTYP": "EXP-DTH",
        }
    )
    science = fits.ImageHDU(np.zeros((16, 16), "uint16"), name="SCI", ver=1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "raw.fits"
        fits.HDUList([primary, science]).writeto(path, output_verify="silentfix")
        return path.read_bytes()


def asn_template() -> bytes:
    names = [f"JMEMBER{i:02d}" for i in range(4)] + ["JTABLE010"]
    columns = [
        fits.Column("MEMNAME", "14A", array=names),
        fits.Column("MEMTYPE", "14A", array=["EXP-DTH"] * 4 + ["PROD-DTH"]),
        fits.Column("MEMPRSNT", "L", array=[True] * 5),
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "asn.fits"
        fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns(columns)]).writeto(path)
        return path.read_bytes()


def datasets(count: int) -> Iterator[tuple[str, list[str]]]:
    """Associations of four: a name and its members."""
    for number in range(-(-count // 4)):
        visit = f"j{base36(number, 5)}"
        yield f"{visit}010", [f"{visit}a{i}q" for i in range(min(4, count - 4 * number))]


def fill(folder: Path, count: int) -> None:
    raw, asn = raw_template(), asn_template()
    for table, members in datasets(count):
        content = asn
        for i, root in enumerate(members):
            content = content.replace(f"JMEMBER{i:02d}".encode(), root.upper().encode())
            one = raw.replace(b"jROOTNAME", root.encode()).replace(b"JTABLE010", table.upper().encode())
            (folder / f"{root}_raw.fits").write_bytes(one)
        (folder / f"{table}_asn.fits").write_bytes(content.replace(b"JTABLE010", table.upper().encode()))


def measure(source: str, server: str, crds: str) -> None:
    """In a process of its own, so that its peak memory is that of one plan."""
    from rich.console import Console

    from batch import config
    from batch.model.plan import Plan
    from batch.reporting import planned
    from batch.runtime.planning import make_plan
    from batch.stages import pipeline
    from batch.storage.files import from_json, to_json

    begun = time.perf_counter()
    changes = [f"fetch.source={source}", "references.missing=omit"]
    changes += [f"fetch.server={server}", "search.proposal=10775", "fetch.connections=8"] if server else []
    changes += [f"references.cache={crds}"] if crds else []
    chain = pipeline()
    if not crds:
        # all of the pipeline but what a CRDS cache is needed for
        without = [s for s in chain if s.name != "references"]
        chain = tuple(replace(s, after=tuple(a for a in s.after if a != "references")) for s in without)
    plan = make_plan(config.load(None, changes), stages=chain)
    planned_s = time.perf_counter() - begun
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = time.process_time() + children.ru_utime + children.ru_stime
    begun = time.perf_counter()
    content = to_json(plan)
    written = time.perf_counter() - begun
    begun = time.perf_counter()
    assert from_json(Plan, content) == plan
    read = time.perf_counter() - begun
    peak = max(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, children.ru_maxrss) * 1024
    lines = list(planned.summary(plan))
    exposures = len(planned.exposures(plan))
    share = exposures / GOAL_COUNT
    console = Console()
    console.print(planned.found_table(plan))
    print(f"{len(lines)} lines of summary, the last: {lines[-1]}")
    where = "mast" if server else "folder"
    print(
        f"{where}: {exposures} exposures, {len(plan.tasks)} tasks: {planned_s:.1f} s, "
        f"{planned_s / GOAL_S / share:.2f} of the goal, {used:.1f} s of it computing; "
        f"{peak / 1e9:.2f} GB, {peak / GOAL_BYTES:.2f} of the goal; "
        f"plan.json {len(content) / 1e6:.0f} MB, written in {written:.1f} s, read in {read:.1f} s",
        flush=True,
    )


def main(count: int, crds: str) -> None:
    with tempfile.TemporaryDirectory() as area:
        folder = Path(area) / "raw"
        folder.mkdir()
        fill(folder, count)
        again = [sys.executable, __file__, "--measure"]
        subprocess.run([*again, str(folder), "", crds], check=True)
        code = (
            "import sys, time; sys.path.insert(0, sys.argv[1]); import mast_server, pathlib\n"
            "with mast_server.serve(pathlib.Path(sys.argv[2])) as s:\n"
            "    print(s.url, flush=True)\n"
            "    sys.stdin.read()"
        )
        server = subprocess.Popen(
            [sys.executable, "-c", code, str(TESTS), str(folder)],
            stdout=subprocess.PIPE,
            stdin=subprocess.PIPE,
            text=True,
        )
        assert server.stdout is not None
        try:
            url = server.stdout.readline().strip()
            environment = {**os.environ, "XDG_CACHE_HOME": area}
            subprocess.run([*again, "mast", url, crds], check=True, env=environment)
        finally:
            server.communicate()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        measure(*sys.argv[2:5])
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else GOAL_COUNT, sys.argv[2] if len(sys.argv) > 2 else "")
