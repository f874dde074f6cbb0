"""A published sweep: real files and records of every stage before statistics, with known weight maps."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from batch.config import section
from batch.model.drizzle import Drizzle
from batch.model.json import encode
from batch.model.observation import Association, Exposure, Product, SetAside
from batch.model.plan import Needs, Task
from batch.model.record import Record, Status, Usage
from batch.stages.interface import Inputs, Outcome, image_product

SIZE, SCALE = 240, 0.03
"""Side of a mosaic, pixels of 0.03 arcsec; input pixels have 0.05."""
ROOTS = ("j94f05bgq", "j94f05bhq", "j94f05bjq", "j94f05blq")


def exposure(root: str, exptime: float = 339.0, filters: tuple[str, ...] = ("F606W",)) -> Exposure:
    return Exposure(root, "WFC", "WFC1-1K", "B", filters, exptime, 53765.5, (1024, 1046), 1, "1-1")


ASSOCIATION = Association(
    "j94f05010",
    tuple(exposure(r) for r in ROOTS),
    (SetAside(exposure("j94f05bnq", 3.0), "exposure time 3 s is off the median 339 s by more than 3"),),
)


def weight_map(pixfrac: float, exposures: int = 4, scale: float = SCALE) -> np.ndarray:
    """Square drops of dithered exposures on a margin of nothing, by exact overlap."""
    size, pitch = round(SIZE * SCALE / scale), 0.05 / scale
    margin = 12 * SCALE / scale
    dithers = np.random.default_rng(8).uniform(0, 1, (exposures, 2))
    total = np.zeros((size, size))
    for offsets in dithers:
        lines = []
        for offset in offsets:
            line = np.zeros(size)
            for k in range(int(margin / pitch), int((size - margin) / pitch)):
                low = (k + 0.5 + offset - pixfrac / 2) * pitch
                high = low + pixfrac * pitch
                for pixel in range(int(low), int(high) + 1):
                    line[pixel] += max(min(high, pixel + 1) - max(low, pixel), 0) / pixfrac
            lines.append(line)
        total += 339 * np.outer(*lines)
    return total.astype(np.float32)


def field(stars: int = 300, scale: float = SCALE) -> np.ndarray:
    """A field that is crowded around pixel (x, y) = (150, 90) of 0.03 arcsec."""
    rng = np.random.default_rng(4)
    size = round(SIZE * SCALE / scale)
    image = rng.normal(0, 0.01, (SIZE, SIZE))[:size, :size]
    spread = np.concatenate([rng.uniform(20, SIZE - 20, (80, 2)), rng.normal((90, 150), 12, (220, 2))])[
        :stars
    ]
    y, x = (np.mgrid[:size, :size] + 0.5) * scale / SCALE - 0.5
    for (y0, x0), flux in zip(spread, 10 ** rng.uniform(-1, 1, len(spread)), strict=True):
        image = image + flux * np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / 2 / 1.4**2)
    return image.astype(np.float32)


class Published:
    """A folder of products and the records of its tasks."""

    def __init__(self, products: Path, association: Association = ASSOCIATION) -> None:
        self.products = products
        self.association = association
        self.records: list[Record] = []

    def add(self, stage: str, subject: str, products: Sequence[Product] = (), **fields: Any) -> Record:
        usage = Usage(1.5, 1.4, 210_000_000, "node1", "2025-01-01T00:00:00+00:00")
        record = Record(
            stage,
            subject,
            "f" * 64,
            fields.pop("status", Status.DONE),
            products=tuple(products),
            usage=usage,
            versions={"acs-batch": "0.1", "astropy": "7.0"},
            **fields,
        )
        self.records.append(record)
        return record

    def folder(self, stage: str, subject: str) -> Path:
        folder = self.products / stage / subject
        folder.mkdir(parents=True)
        return folder

    def sweep(
        self,
        maps: dict[float, np.ndarray],
        stars: int = 300,
        scale: float = SCALE,
        kernel: str = "square",
        family: str = "",
    ) -> None:
        """Write SCI, WHT and CTX of each pixfrac as AstroDrizzle does with build=False, and publish them."""
        cd = [[-scale / 3600, 0.0], [0.0, scale / 3600]]
        name = self.association.name
        header = fits.Header({"TARGNAME": "NGC104", "PROPOSID": 10368, "EXPTIME": 1356.0, "ROOTNAME": name})
        header["D001PIXF"] = (0.0, "kept")
        header.add_history("made for a test")
        for i in (1, 2):
            header[f"CTYPE{i}"] = ("RA---TAN", "DEC--TAN")[i - 1]
            header[f"CRPIX{i}"], header[f"CRVAL{i}"] = 119.5 * SCALE / scale + 0.5, (5.6, -72.1)[i - 1]
            for j in (1, 2):
                header[f"CD{i}_{j}"] = cd[i - 1][j - 1]
        sky = field(stars, scale)
        for pixfrac, weight in maps.items():
            drizzle = Drizzle(pixfrac, scale if family else None, kernel, family)
            subject = f"{name}/{drizzle.name}"
            folder = self.folder("sweep", subject)
            arrays = {
                "sci": np.where(weight > 0, sky, np.float32(np.nan)),
                "wht": weight,
                "ctx": (weight > 0).astype(np.int32),
            }
            made = []
            for extension, kind in (("sci", "mosaic"), ("wht", "weight"), ("ctx", "context")):
                file = f"{name}_{drizzle.name}_drz_{extension}.fits"
                own = fits.Header(header, copy=True)
                own["D001PIXF"] = pixfrac
                own["BUNIT"] = {"sci": "ELECTRONS/S", "wht": "", "ctx": ""}[extension]
                hdus = fits.HDUList([fits.PrimaryHDU(arrays[extension], own)])
                if extension == "sci":
                    columns = [fits.Column("ROOTNAME", "9A", array=np.array(ROOTS))]
                    hdus.append(fits.BinTableHDU.from_columns(columns, name="HDRTAB"))
                hdus.writeto(folder / file)
                made.append(image_product(folder, file, kind, hdu=0))
            grid = {"shape": list(weight.shape), "cd": cd, "crval": [5.6, -72.1]}
            self.add(
                "sweep", subject, made, results={"drizzle": encode(drizzle), "scale": scale, "grid": grid}
            )

    def inputs(self, stage: str) -> Inputs:
        task = Task(
            stage,
            self.association.name,
            None,
            None,
            tuple(r.id for r in self.records),
            "0" * 64,
            Needs(1 << 30, 1, 60),
        )
        return Inputs(task, self.association, tuple(self.records), self.products)

    def run(self, module: Any, **settings: Any) -> Outcome:
        """Run an association's stage as the runtime does, and publish what it made."""
        stage = module.STAGE.name
        area = self.folder(stage, self.association.name)
        outcome: Outcome = module.run(self.inputs(stage), area, section(stage, settings))
        status = Status.SKIPPED if outcome.skipped else Status.DONE
        self.add(
            stage,
            self.association.name,
            outcome.products,
            results=encode(outcome.results),
            notes=outcome.notes,
            status=status,
            reason=outcome.skipped,
        )
        return outcome


@pytest.fixture
def published(tmp_path: Path) -> Published:
    """A work directory in which nothing is published yet."""
    return Published(tmp_path / "products")


@pytest.fixture
def alone(tmp_path: Path) -> Published:
    """The same for an association of one exposure."""
    one = dataclasses.replace(ASSOCIATION, exposures=ASSOCIATION.exposures[:1], set_aside=())
    return Published(tmp_path / "products", one)


@pytest.fixture(scope="session")
def fresh() -> Callable[[Path], Published]:
    """Build an empty work directory in a folder, for fixtures that several tests share."""
    return lambda folder: Published(folder / "products")


@pytest.fixture(scope="session")
def maps() -> Callable[..., dict[float, np.ndarray]]:
    """Weight maps of dithered exposures at several pixfracs."""
    return lambda *pixfracs, **options: {p: weight_map(p, **options) for p in pixfracs}
