"""The engine `builtin`: calacs's corrections without calacs, exposure by exposure, in memory.

Plans ask the engine what an exposure needs: kernels and their compiler are imported when one is calibrated.

Source: calibration-steps specification, sections 2 and 5.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import batch
from batch.calibration.frame import Frame
from batch.calibration.header import SWITCHES, Setup
from batch.calibration.references import References
from batch.calibration.stripes import leaves_stripes, may_leave_stripes, remove_stripes
from batch.errors import InputError
from batch.model.observation import Exposure
from batch.model.plan import Needs
from batch.storage.fits import Image, read_image, write_image

_RAW = "_raw.fits"


@dataclass(frozen=True)
class BuiltinEngine:
    """raw -> flt, flc.

    Parameters
    ----------
    keep_intermediate : bool
        Write blv_tmp and blc_tmp too, as ``calacs.e -s`` does.
    overwrite : bool
        Replace outputs that exist.
    """

    keep_intermediate: bool = False
    overwrite: bool = False
    name: str = "builtin"

    def version(self) -> str:
        """The version of acs-batch."""
        return batch.__version__

    @property
    def stamp(self) -> str:
        """What CAL_ENG says."""
        return f"{self.name} {self.version()}"

    def needs(self, exposure: Exposure) -> Needs:
        """Memory and time of one exposure.

        Measured: 0.27 GB for a 1K subarray and 0.45 GB for a full frame; 0.33 and 0.72 GB with the CTE
        correction, whose tables and kernels come on top; 0.6 GB for a 2K subarray while acstools removes its
        stripes in a process beside. What of the libraries is resident differs by 10 MB with the page cache.
        That was in a process which had imported everything itself; of one that is forked from a branch the
        kernel counts 0.1 GB less, files of the libraries that are resident in the branch instead.
        """
        pixels = exposure.chips * exposure.shape[0] * exposure.shape[1]
        corrects_cte = exposure.detector == "WFC" and exposure.cte
        memory = (310e6 + 28 * pixels) if corrects_cte else (260e6 + 18 * pixels)
        seconds = 3 + (2.5e-6 if corrects_cte else 1e-7) * pixels
        if may_leave_stripes(exposure):
            memory, seconds = max(memory, 380e6 + 66 * pixels), seconds + 4
        imports = ("batch.calibration.stages",)
        return Needs(memory=int(memory), seconds=seconds, timeout=3600.0, imports=imports)

    def calibrate(
        self, raw: Path, jref: Path, area: Path, threads: int, *, destripe: bool = False
    ) -> list[Path]:
        """Calibrate one exposure.

        Parameters
        ----------
        raw : Path
            ``<root>_raw.fits``; it is only read.
        jref : Path
            The folder that ``jref$`` in the header stands for.
        area : Path
            Where ``<root>_flt.fits`` and, with PCTECORR = PERFORM, ``<root>_flc.fits`` are written.
        threads : int
            How many to use; the result does not depend on it.
        destripe : bool
            Remove the stripes that calacs leaves in subarrays after SM4.

        Returns
        -------
        list of Path
            The products.

        Raises
        ------
        InputError
            If a file, keyword or table cannot be used, or no switch is PERFORM.
        MissingReferenceError
            If reference files are not there; nothing is written then.
        StorageError
            If a product cannot be written.
        """
        from batch.calibration.checks import check_references
        from batch.calibration.stages import run_ccd_stage, run_plane_stage

        if not raw.name.endswith(_RAW):
            raise InputError.about(raw, "the name does not end in _raw.fits", "give a raw exposure")
        root = raw.name.removesuffix(_RAW)
        image = read_image(raw)
        frame = Frame.of(image, raw, jref, threads)
        check_single(frame.setup)
        check_references(frame)
        corrects_cte = frame.performs("PCTECORR")
        striped = destripe and leaves_stripes(frame.setup)
        del frame

        run_ccd_stage(image, raw, jref, threads)
        if striped:
            remove_stripes(image, raw, jref, area)
        self._keep(image, area / f"{root}_blv_tmp.fits")
        products = []
        corrected = None
        if corrects_cte:
            corrected = correct_cte(image, raw, jref, threads)
            self._keep(corrected, area / f"{root}_blc_tmp.fits")
        run_plane_stage(image, raw, jref, threads)
        products.append(self.write(image, area / f"{root}_flt.fits"))
        del image
        if corrected is not None:
            run_plane_stage(corrected, raw, jref, threads, cte=True)
            products.append(self.write(corrected, area / f"{root}_flc.fits"))
        return products

    def _keep(self, image: Image, path: Path) -> None:
        if self.keep_intermediate:
            self.write(image, path)
        else:
            self._name(image, path)

    def write(self, image: Image, path: Path) -> Path:
        """Name a product after its file and write it."""
        self._name(image, path)
        write_image(image, path, overwrite=self.overwrite)
        return path

    def _name(self, image: Image, path: Path) -> None:
        from batch.calibration.stages import name_product

        name_product(image, path, self.stamp)


def check_single(setup: Setup) -> None:
    """Refuse an exposure that nothing is to be done with, or whose switches contradict each other (2.3).

    CRCORR and RPTCORR ask for more than one exposure: alone, an exposure leaves them as they are.
    """
    if setup.switches["CRCORR"] and setup.switches["RPTCORR"]:
        what = "CRCORR and RPTCORR are both PERFORM"
        raise InputError.about(f"{setup.where} CRCORR", what, "set one of them to OMIT")
    rest = set(SWITCHES) - {"CRCORR", "RPTCORR", "EXPSCORR", "SINKCORR"}
    if not any(setup.switches[name] for name in rest):
        what = "no calibration switch is PERFORM, so that no product would be made"
        raise InputError.about(setup.where, what, "set the switches of the steps to PERFORM")


def correct_cte(image: Image, where: Path, jref: Path, threads: int) -> Image:
    """PCTECORR: blv_tmp -> blc_tmp, a new image (5).

    Raises
    ------
    InputError
        If the overscan was not removed, or the PCTETAB cannot be used. A dummy one makes calacs end without
        an flt and with exit status 0; here that is an error.
    """
    from batch.calibration.stages import check_trimmed

    check_trimmed(image, where)
    reference = References(image.primary, jref, where).open("PCTETAB")
    if reference.is_dummy:
        what = "PEDIGREE is DUMMY: calacs makes no product with such a table"
        raise InputError.about(f"{reference.path} (PCTETAB)", what, "set PCTECORR to OMIT")
    from batch.calibration.cte import correct_image

    return correct_image(image, jref=jref, threads=threads, where=where)
