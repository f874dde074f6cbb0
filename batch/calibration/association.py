"""Associations: calibrate every exposure, combine those of one pointing, reject cosmic rays.

Source: calibration-steps specification, sections 2.2 and 2.5.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from astropy.io.fits import Header

from batch.calibration.asntable import AssociationTable, Member, Position, mark_present, read_association
from batch.calibration.builtin import BuiltinEngine, check_single, correct_cte
from batch.calibration.checks import REFERENCE_KEYWORDS, check_references
from batch.calibration.frame import Frame
from batch.calibration.header import SWITCHES
from batch.calibration.rejection import combine
from batch.calibration.stages import run_ccd_stage, run_plane_stage
from batch.errors import InputError
from batch.storage.fits import Image, read_header, read_image

log = logging.getLogger(__name__)


def calibrate_association(
    asn: Path,
    jref: Path,
    area: Path,
    threads: int,
    *,
    keep_intermediate: bool = False,
    overwrite: bool = False,
) -> list[Path]:
    """Calibrate an association: flt (flc) of every member, crj (crc) of every pointing that was repeated.

    Parameters
    ----------
    asn : Path
        ``*_asn.fits``; the raw exposures lie beside it.
    jref : Path
        The folder that ``jref$`` in headers stands for.
    area : Path
        Where the products go, and a copy of the table with the products marked as present (the table itself
        where `area` is its folder).
    threads : int
    keep_intermediate, overwrite : bool
        As for `BuiltinEngine`.

    Returns
    -------
    list of Path
        The products, in the order they were made.

    Raises
    ------
    InputError
        If a file, keyword or table cannot be used, or headers contradict the table.
    MissingReferenceError
        If reference files are not there.
    StorageError
        If a product cannot be written.
    """
    table = read_association(asn)
    run = _Run(table, jref, area, threads, BuiltinEngine(keep_intermediate, overwrite))
    products = [path for position in table.positions for path in run.calibrate(position)]
    made = [path.name.rpartition("_")[0] for path in products]
    dithered = [member.root for member in table.members if member.kind == "prod-dth"]
    mark_present(table, area / asn.name, made + dithered)
    return products


class _Run:
    """The settings that every position of an association shares."""

    def __init__(
        self, table: AssociationTable, jref: Path, area: Path, threads: int, engine: BuiltinEngine
    ) -> None:
        self.table, self.jref, self.area, self.threads, self.engine = table, jref, area, threads, engine
        self.temporary: list[Path] = []

    def raw(self, member: Member) -> Path:
        return self.table.path.parent / f"{member.root}_raw.fits"

    def calibrate(self, position: Position) -> list[Path]:
        if not self._combines(position):
            (member,) = position.exposures
            return self.engine.calibrate(self.raw(member), self.jref, self.area, self.threads)
        try:
            return self._combine(position)
        finally:
            if not self.engine.keep_intermediate:
                for path in self.temporary:
                    path.unlink(missing_ok=True)

    def _combines(self, position: Position) -> bool:
        """Whether a position is combined; its first header must agree with the table."""
        if len(position.exposures) > 1:
            if position.product is None:
                what = f"no product is named for {', '.join(m.root for m in position.exposures)}"
                raise InputError.about(self.table.path, what, "add a PROD- row")
            return True
        (member,) = position.exposures
        if member.kind != "exp-dth":
            raw = self.raw(member)
            setup = Frame.of(Image(read_header(raw), []), raw, self.jref, 1).setup
            for switch in ("CRCORR", "RPTCORR"):
                if setup.switches[switch]:
                    what = f"PERFORM, but {self.table.path.name} has only one exposure of this pointing"
                    raise InputError.about(f"{raw} {switch}", what, f"set {switch} to OMIT or add exposures")
        return False

    def _combine(self, position: Position) -> list[Path]:
        product = position.product
        assert product is not None
        leader = read_header(self.raw(position.exposures[0]))
        blv, blc = [], []
        for member in position.exposures:
            image, cte = self._read(member, leader)
            run_ccd_stage(image, self.raw(member), self.jref, self.threads)
            blv.append(self._keep(image, f"{member.root}_blv_tmp.fits"))
            if cte:
                corrected = correct_cte(image, self.raw(member), self.jref, self.threads)
                blc.append(self._keep(corrected, f"{member.root}_blc_tmp.fits"))
        products = [self._reject(blv, product, cte=False)]
        if blc:
            products.append(self._reject(blc, product, cte=True))
        for n, member in enumerate(position.exposures):
            products.append(self._finish(blv[n], f"{member.root}_flt.fits", cte=False))
            if blc:
                products.append(self._finish(blc[n], f"{member.root}_flc.fits", cte=True))
        return products

    def _read(self, member: Member, leader: Header) -> tuple[Image, bool]:
        """Read a raw exposure with the switches and reference files of the first of its position."""
        raw = self.raw(member)
        image = read_image(raw)
        for keyword in (*SWITCHES, *REFERENCE_KEYWORDS):
            if image.primary.get(keyword) == leader.get(keyword):
                continue
            log.warning("%s: %s is taken from the first exposure", raw, keyword)
            if keyword in leader:
                image.primary[keyword] = leader[keyword]
            else:
                image.primary.remove(keyword)
        frame = Frame.of(image, raw, self.jref, self.threads)
        check_single(frame.setup)
        check_references(frame, combine=True)
        return image, frame.performs("PCTECORR")

    def _keep(self, image: Image, name: str) -> Path:
        path = self.engine.write(image, self.area / name)
        self.temporary.append(path)
        return path

    def _reject(self, inputs: Sequence[Path], product: Member, *, cte: bool) -> Path:
        kind = "crc" if cte else "crj"
        image = combine(inputs, self.jref, product.root, product.type.replace("_", "-"), cte=cte)
        name = f"{product.root}_{kind}_tmp.fits"
        if self.engine.keep_intermediate:
            self._keep(image, name)
        path = self.area / f"{product.root}_{kind}.fits"
        run_plane_stage(image, path, self.jref, self.threads, cte=cte)
        return self.engine.write(image, path)

    def _finish(self, temporary: Path, name: str, *, cte: bool) -> Path:
        image = read_image(temporary)
        run_plane_stage(image, temporary, self.jref, self.threads, cte=cte)
        return self.engine.write(image, self.area / name)
