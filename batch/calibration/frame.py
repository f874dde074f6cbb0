"""One exposure on its way through a stage: the image and everything the steps need to know about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np

from batch.calibration.alignment import Section, align
from batch.calibration.ccd import CcdParameters
from batch.calibration.header import Chip, Setup, add_history, read_chip, read_setup
from batch.calibration.oscntab import Overscan
from batch.calibration.references import Reference, References
from batch.errors import InputError
from batch.storage.fits import Image, Imset

T = TypeVar("T")
_BLOCK = 1 << 18
"""Pixels that are worked on at a time: three planes of a block stay in the processor's cache."""


@dataclass
class Frame:
    """An exposure inside the CCD or the 2-D stage."""

    image: Image
    where: Path
    """The file that it was read from, for messages."""
    setup: Setup
    chips: list[Chip]
    """One for each imset."""
    references: References
    threads: int
    ccd: list[CcdParameters] = field(default_factory=list)
    """The CCDTAB row of each imset, once it is looked up."""
    overscan: list[Overscan] = field(default_factory=list)
    """The OSCNTAB row of each imset, once it is looked up."""
    bias_levels: dict[str, float] = field(default_factory=dict)
    """The bias level that was subtracted, by amp, e-."""
    done: set[str] = field(default_factory=set)
    """BIASCORR and BLEVCORR, once they were really applied."""
    dark_keyword: str = "DARKFILE"
    """DRKCFILE for data that are corrected for CTE."""

    @classmethod
    def of(cls, image: Image, where: Path, jref: Path, threads: int) -> Frame:
        """Check the headers of an image and put it into a frame.

        Raises
        ------
        InputError
            If a keyword is missing or impossible.
        """
        return cls(
            image=image,
            where=where,
            setup=read_setup(image.primary, where),
            chips=[read_chip(imset, where) for imset in image.imsets],
            references=References(image.primary, jref, where),
            threads=max(1, threads),
        )

    @property
    def parts(self) -> Iterator[tuple[Imset, Chip]]:
        """Every imset with its chip."""
        return zip(self.image.imsets, self.chips, strict=True)

    def performs(self, switch: str) -> bool:
        """True if the header said PERFORM when the stage began."""
        return self.setup.switches[switch]

    def complete(self, switch: str, *lines: str) -> None:
        """Mark a step as done; `lines` follow in HISTORY."""
        self.image.primary[switch] = "COMPLETE"
        add_history(self.image.primary, f"{switch} complete ...", *lines)

    def skip_dummy(self, switch: str, reference: Reference, kind: str) -> None:
        """Mark a step as left out because its reference file is a dummy."""
        self.image.primary[switch] = "SKIPPED"
        line = f"{switch} skipped due to dummy reference file ..."
        add_history(self.image.primary, line, *reference.history(kind))

    def section(self, reference: Reference, index: int, *, full: bool = True) -> Section:
        """The part of a reference image that lies under imset `index`."""
        imset = self.image.imsets[index]
        return align(reference, self.chips[index], imset.sci.shape, full=full)

    def by_rows(self, imset: Imset, work: Callable[[slice], T]) -> list[T]:
        """Call `work` with blocks of rows of an imset, in `threads` threads; the results in row order."""
        ny, nx = imset.sci.shape
        step = max(1, _BLOCK // nx)
        blocks = [slice(y, min(y + step, ny)) for y in range(0, ny, step)]
        if self.threads == 1:
            return [work(block) for block in blocks]
        with ThreadPoolExecutor(self.threads) as pool:
            return list(pool.map(work, blocks))

    def with_reference(
        self,
        imset: Imset,
        section: Section,
        kernel: Callable[..., None],
        *arguments: Callable[[slice], tuple[object, ...]],
    ) -> None:
        """Call ``kernel(sci, err, dq, ref, ref_err, ref_dq, ...)`` for blocks of rows.

        `arguments`, if given, is one function that returns what else the kernel is given for a block.
        """
        sci, err, dq = section.planes.sci, section.planes.err, section.planes.dq
        if err is None or dq is None:
            raise InputError.about(sci.where, "ERR or DQ is missing", "provide a complete file")

        def work(rows: slice) -> None:
            more = arguments[0](rows) if arguments else ()
            kernel(
                imset.sci[rows],
                imset.err[rows],
                imset.dq[rows],
                section.read(sci, np.float32, rows),
                section.read(err, np.float32, rows),
                section.read(dq, np.int16, rows),
                *more,
            )

        self.by_rows(imset, work)
