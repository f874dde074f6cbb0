"""The engine `calacs`: STScI's program calacs.e, where it is installed, called through acstools.

Each call is a child process with the area as its folder: calacs.e writes beside itself, takes every processor
it is not kept from, and says little by its exit status, so that status *and* products are checked.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from astropy.io import fits

from batch.calibration.header import mark_engine, read_setup
from batch.calibration.stripes import leaves_stripes
from batch.errors import ChildKilledError, InputError, LibraryError, UsageError
from batch.isolation import child
from batch.model.observation import Exposure
from batch.model.plan import Needs
from batch.storage.fits import read_header

PROGRAM = "calacs.e"
TIMEOUT = 4 * 3600.0
"""s; the CTE correction of a full frame takes about half an hour on one core."""
_LOG = "calacs.log"
_KILLED = 128 + 9
"""What `_CALL` makes of a SIGKILL."""
_CALL = """
import subprocess, sys
from acstools.calacs import calacs
try:
    calacs(sys.argv[1], exec_path=sys.argv[2], exe_args=sys.argv[3:])
except subprocess.CalledProcessError as error:
    sys.exit(error.returncode if error.returncode > 0 else 128 - error.returncode)
"""
# acscte.e takes every processor that it may use and cannot be told otherwise from here
_CALL_DESTRIPE = """
import os, random, subprocess, sys
from acstools.acs_destripe_plus import destripe_plus
allowed = sorted(os.sched_getaffinity(0))
os.sched_setaffinity(0, random.sample(allowed, min(int(sys.argv[3]), len(allowed))))
try:
    destripe_plus(sys.argv[1], cte_correct=sys.argv[2] == "cte")
except subprocess.CalledProcessError as error:
    sys.exit(error.returncode if error.returncode > 0 else 128 - error.returncode)
"""


@dataclass(frozen=True)
class CalacsEngine:
    """raw -> flt, flc through calacs.e."""

    name: str = "calacs"

    def version(self) -> str:
        """What ``calacs.e --version`` says: ``10.5.0 (16-Mar-2026)``.

        Raises
        ------
        UsageError
            If calacs.e is not on PATH.
        LibraryError
            If it does not answer.
        """
        program = find_program()
        try:
            answer = subprocess.run(
                [program, "--version"], capture_output=True, text=True, timeout=60, check=True
            ).stdout
        except (OSError, subprocess.SubprocessError) as error:
            raise LibraryError(f"{program} --version failed ({error}); install calacs again") from error
        version = answer.strip().partition("\n")[0]
        if not version:
            raise LibraryError(f"{program} --version says nothing; install calacs again")
        return version

    def needs(self, exposure: Exposure) -> Needs:
        """Memory and time, with the CTE correction where the detector has one."""
        pixels = exposure.chips * exposure.shape[0] * exposure.shape[1]
        seconds = 10 + (1e-4 if exposure.detector == "WFC" else 1e-6) * pixels
        return Needs(memory=int(200e6 + 100 * pixels), seconds=seconds, timeout=TIMEOUT)

    def calibrate(
        self, raw: Path, jref: Path, area: Path, threads: int, *, destripe: bool = False
    ) -> list[Path]:
        """Calibrate one exposure; parameters and result as for the engine `builtin`.

        Raises
        ------
        UsageError
            If calacs.e is not on PATH.
        InputError
            If the header cannot be used.
        LibraryError
            If calacs.e fails, or ends well without its products.
        ChildTimeoutError, ChildKilledError
            If it takes too long or is killed.
        """
        program = find_program()
        if not raw.name.endswith("_raw.fits"):
            raise InputError.about(raw, "the name does not end in _raw.fits", "give a raw exposure")
        setup = read_setup(read_header(raw), raw)
        mine = area / raw.name
        if mine.absolute() != raw.absolute():
            shutil.copyfile(raw, mine)
        log = area / _LOG
        argv = [sys.executable, "-P", "-c", _CALL, raw.name, program, "--nthreads", str(threads)]
        if destripe and leaves_stripes(setup):
            cte = "cte" if setup.switches["PCTECORR"] else "no cte"
            argv = [sys.executable, "-P", "-c", _CALL_DESTRIPE, raw.name, cte, str(threads)]
        # the name behind jref$ is put directly behind the value of jref, so that must end in a slash
        environment = {k: v for k, v in os.environ.items() if k != "imclobber"} | {
            "jref": f"{jref.absolute()}/"
        }
        ending = child.run(argv, cwd=area, log=log, timeout=TIMEOUT, environment=environment)
        ending.check(f"{PROGRAM} {raw.name}", TIMEOUT)
        if ending.exit_status == _KILLED:
            what = "it was killed, most often for want of memory"
            raise ChildKilledError(f"{PROGRAM} {raw.name}: {what}")
        if ending.exit_status != 0:
            raise LibraryError(f"{PROGRAM} {raw.name}: exit status {ending.exit_status}: {_last_words(log)}")
        root = raw.name.removesuffix("_raw.fits")
        suffixes = ["flt", "flc"] if setup.switches["PCTECORR"] else ["flt"]
        products = [area / f"{root}_{suffix}.fits" for suffix in suffixes]
        absent = [path.name for path in products if not path.is_file()]
        if absent:
            what = f"ended well, but did not write {', '.join(absent)}"
            raise LibraryError(f"{PROGRAM} {raw.name}: {what}: {_last_words(log)}")
        engine = f"{self.name} {self.version()}"
        for path in products:
            with fits.open(path, mode="update", memmap=False) as hdus:
                mark_engine(hdus[0].header, engine)
        return products


def find_program() -> str:
    """The absolute path of calacs.e.

    Raises
    ------
    UsageError
        If it is not on PATH.
    """
    program = shutil.which(PROGRAM)
    if program is None:
        raise UsageError(f"{PROGRAM} is not on PATH; install hstcal, or set calibrate.engine to builtin")
    return str(Path(program).absolute())


def _last_words(log: Path) -> str:
    """The errors that calacs.e printed, or else its last lines."""
    lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
    errors = [line.strip() for line in lines if "ERROR" in line]
    return " / ".join(errors[:3] or [line.strip() for line in lines if line.strip()][-3:]) or "no message"
