"""What a stage's `run` is given and what it returns."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from batch.model.drizzle import Drizzle
from batch.model.observation import Association, Exposure, Product
from batch.model.plan import Task
from batch.model.record import Record


@dataclass(frozen=True)
class Inputs:
    """What a task may read. Everything here is read-only."""

    task: Task
    association: Association
    upstream: tuple[Record, ...]
    """Records of the tasks in `Task.upstream`, in that order; all of them are `ok`."""
    products: Path
    """The folder of published products: a file of record r lies at products/r.place/name."""
    attempt: str = ""
    """`Record.attempt` of what this task will publish."""
    known_as: str = ""
    """How people call that folder, where it is a copy; empty: it is the folder itself."""
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By stage, as JSON values: those of the stages that this one tries (`Stage.tries`) among them."""

    @property
    def exposure(self) -> Exposure:
        """The exposure of an exposure-scoped task."""
        if self.task.exposure is None:
            raise TypeError(f"{self.task.id} has no exposure")
        return self.association.member(self.task.exposure)

    @property
    def drizzle(self) -> Drizzle:
        """The drizzle of a drizzle-scoped task."""
        if self.task.drizzle is None:
            raise TypeError(f"{self.task.id} is no drizzle")
        return self.task.drizzle

    def records(self, stage: str) -> list[Record]:
        """Upstream records of a stage, in plan order."""
        return [r for r in self.upstream if r.stage == stage]

    def record(self, stage: str) -> Record:
        """The one upstream record of a stage."""
        (record,) = self.records(stage)
        return record

    def path(self, record: Record, product: Product) -> Path:
        """Where a product of an upstream record lies."""
        return self.products / record.place / product.name

    def address(self, record: Record, product: Product) -> str:
        """The same for people: a path, or an ``s3://`` address."""
        return f"{self.known_as or self.products}/{record.place}/{product.name}"

    def link(self, record: Record, product: Product) -> str:
        """The same relative to the folder in which this task's own products will lie."""
        own = Path(self.task.id) / self.attempt
        return Path(os.path.relpath(Path(record.place) / product.name, own)).as_posix()

    def files(self, stage: str, kind: str) -> list[Path]:
        """Published files of a kind from a stage, in plan order."""
        return [
            self.path(record, product)
            for record in self.records(stage)
            for product in record.products
            if product.kind == kind
        ]

    def file(self, stage: str, kind: str) -> Path:
        """The one published file of a kind from a stage."""
        (path,) = self.files(stage, kind)
        return path


@dataclass(frozen=True)
class Outcome:
    """What a stage made."""

    products: tuple[Product, ...] = ()
    results: Mapping[str, Any] = field(default_factory=dict)
    """JSON values for later stages and the report."""
    notes: tuple[str, ...] = ()
    """What the user should know although it did not stop the task."""
    skipped: str = ""
    """The reason, where there was nothing to do. Products may still have been passed on."""


def product(area: Path, name: str, kind: str) -> Product:
    """Describe a file that a stage wrote in its area and that is no image."""
    size, sha256 = _identity(area / name)
    return Product(kind, name, size, sha256)


def image_product(area: Path, name: str, kind: str, hdu: int = 1) -> Product:
    """Describe a FITS file whose main image is in `hdu`, so that it can be opened lazily later."""
    from astropy.io import fits

    size, sha256 = _identity(area / name)
    header = fits.getheader(area / name, hdu)
    shape = tuple(int(header[f"NAXIS{i}"]) for i in range(int(header["NAXIS"]), 0, -1))
    dtype = {8: "uint8", 16: "int16", 32: "int32", -32: "float32", -64: "float64"}[int(header["BITPIX"])]
    return Product(kind, name, size, sha256, hdu, shape, dtype, header.get("BUNIT") or None)


def _identity(path: Path) -> tuple[int, str]:
    with path.open("rb") as stream:
        return path.stat().st_size, hashlib.file_digest(stream, "sha256").hexdigest()
