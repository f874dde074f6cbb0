"""The three images of a mosaic as FITS files, written band by band."""

from __future__ import annotations

import datetime
import io
import os
import re
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from astropy.io import fits
from astropy.io.fits import Card, Header

from batch import __version__
from batch.drizzling.bands import Words
from batch.drizzling.exposures import Source
from batch.drizzling.grid import KINDS, Grid
from batch.errors import StorageError
from batch.storage.planes import BLOCK

_DRIZZLED = re.compile(r"D\d{3}[A-Z]{3,4}$")


@dataclass(frozen=True)
class Parameters:
    """What the header says about how a mosaic was made."""

    pixfrac: float
    kernel: str


def headers(
    grid: Grid, sources: Sequence[Source], parameters: Parameters, stem: str, planes: int
) -> dict[str, Header]:
    """The headers of the three images: the grid's, with the keywords of this drizzle.

    They are those that AstroDrizzle writes with build=False, but for PROD_VER and DnnnVER, which name this
    program, DnnnMASK, which names the DQ array that the mask was made from (there is no mask file), and
    DRIZPARS, which is left out with the parameter log.

    Parameters
    ----------
    grid : Grid
    sources : sequence of Source
    parameters : Parameters
    stem : str
        ``j9l960010_pf0.3_drz``
    planes : int
        Of the context image.
    """
    made = {}
    for kind in KINDS:
        header = grid.headers[kind].copy()
        for card in header.cards:
            # astropy warns of every oddity when a card is written; what is odd stays as it came
            card.verify("silentfix+ignore")
        _structure(header, kind, grid.shape, planes)
        at = _cleared(header)
        cards = [c for n, s in enumerate(sources, 1) for c in _cards(n, s, grid, parameters, stem)]
        for offset, card in enumerate(cards):
            header.insert(at + offset, card)
        exposures = {s.data.partition("[")[0]: s.exptime for s in sources}
        header["EXPTIME"] = header["TEXPTIME"] = sum(exposures.values())
        header["NDRIZIM"] = len(sources)
        header["FILENAME"] = f"{stem}_{kind}.fits"
        header["ROOTNAME"] = stem.rpartition("_")[0]
        header["PROD_VER"] = f"acs-batch {__version__}"
        header["DATE"] = datetime.datetime.now(datetime.UTC).date().isoformat()
        header.remove("DRIZPARS", ignore_missing=True)
        if kind == "sci":
            header["BUNIT"] = "ELECTRONS/S"
        made[kind] = header
    return made


def _structure(header: Header, kind: str, shape: tuple[int, int], planes: int) -> None:
    cube = kind == "ctx" and planes > 1
    header["BITPIX"] = 32 if kind == "ctx" else -32
    header.remove("NAXIS3", ignore_missing=True)
    header["NAXIS"] = 3 if cube else 2
    header["NAXIS1"], header["NAXIS2"] = shape[1], shape[0]
    if cube:
        header.set("NAXIS3", planes, after="NAXIS2")


def _cleared(header: Header) -> int:
    """Take out the keywords of an earlier drizzle; returns where they stood."""
    old = [k for k in header if _DRIZZLED.match(k)]
    at = list(header).index(old[0]) if old else len(header)
    for keyword in old:
        header.remove(keyword)
    return at


def _cards(number: int, source: Source, grid: Grid, parameters: Parameters, stem: str) -> list[Card]:
    values = {
        "VER": (f"acs-batch {__version__}, many pixfracs", "Drizzle, task version"),
        "GEOM": ("wcs", "Drizzle, source of geometric information"),
        "DATA": (source.data, "Drizzle, input data image"),
        "DEXP": (source.exptime, "Drizzle, input image exposure time (s)"),
        "OUDA": (f"{stem}.fits", "Drizzle, output data image"),
        "OUWE": (f"{stem}_wht.fits", "Drizzle, output weighting image"),
        "OUCO": (f"{stem}_ctx.fits", "Drizzle, output context image"),
        "MASK": (source.data.replace("[sci,", "[dq,"), "Drizzle, input weighting image"),
        "WTSC": (source.weight_scale, "Drizzle, weighting factor for input image"),
        "KERN": (parameters.kernel, "Drizzle, form of weight distribution kernel"),
        "PIXF": (parameters.pixfrac, "Drizzle, linear size of drop"),
        "COEF": ("SIP", "Drizzle, source of coefficients"),
        "OUUN": ("cps", "Drizzle, units of output image - counts or cps"),
        "FVAL": ("INDEF", "Drizzle, fill value for zero weight output pix"),
        "WKEY": ("", "Input image WCS Version used"),
        "SCAL": (grid.scale, "Drizzle, pixel size (arcsec) of output image"),
        "ISCL": (source.scale, "Drizzle, default IDCTAB pixel size(arcsec)"),
    }
    return [Card(f"D{number:03d}{name}", *value) for name, value in values.items()]


class WriteBehind:
    """Brings what was written to disk while work goes on, and lets go of the memory that it took.

    A sweep writes several times what a machine has to spare for the page cache; left to itself, the system
    would push everything else out of it, then halt the writers. Products are brought to disk when they are
    published, so that nothing is done twice. A context manager.
    """

    def __init__(self, most: int = 16) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1)
        self._free = threading.BoundedSemaphore(most)
        self._error: OSError | None = None

    def __call__(self, file: int) -> None:
        """Go on with a file that was written to; waits while too much is under way."""
        self._free.acquire()
        self._pool.submit(self._flush, file)

    def finish(self) -> None:
        """Wait for everything.

        Raises
        ------
        StorageError
            If anything could not be brought to disk.
        """
        self._pool.shutdown()
        if self._error is not None:
            reason = self._error.strerror or self._error
            raise StorageError(f"the mosaics cannot be written ({reason}); free some space") from self._error

    def __enter__(self) -> WriteBehind:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _flush(self, file: int) -> None:
        try:
            if hasattr(os, "posix_fadvise"):
                os.fdatasync(file)
                os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        except OSError as error:
            self._error = error
        finally:
            self._free.release()


class Writer:
    """Three files that are filled band by band, from any thread; a context manager.

    Leaving it by an exception removes the files.
    """

    def __init__(
        self, stem: Path, made: dict[str, Header], table: fits.BinTableHDU | None, behind: WriteBehind
    ) -> None:
        self.paths = {kind: stem.with_name(f"{stem.name}_{kind}.fits") for kind in KINDS}
        self._headers = made
        self._table = table
        self._behind = behind
        self._files: dict[str, int] = {}
        self._begin: dict[str, int] = {}
        self._shape = (made["sci"]["NAXIS2"], made["sci"]["NAXIS1"])

    def __enter__(self) -> Writer:
        try:
            for kind, path in self.paths.items():
                head = self._headers[kind].tostring().encode("ascii")
                tail = _table_bytes(self._table) if kind == "sci" else b""
                planes = self._headers[kind].get("NAXIS3", 1)
                size = 4 * planes * self._shape[0] * self._shape[1]
                self._files[kind] = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
                self._begin[kind] = len(head)
                end = len(head) + -(-size // BLOCK) * BLOCK
                os.ftruncate(self._files[kind], end)
                _write(self._files[kind], head, 0)
                _write(self._files[kind], tail, end)
        except OSError as error:
            self._remove()
            raise self._failure(error) from error
        return self

    def band(self, row: int, science: Words, weights: Words, contexts: Words) -> None:
        """Write the rows from `row` on (see `bands.Sink`).

        Raises
        ------
        StorageError
            If the file system refuses.
        """
        columns = self._shape[1]
        try:
            for kind, words in (("sci", science), ("wht", weights)):
                _write(self._files[kind], words.data, self._begin[kind] + 4 * row * columns)
            for plane, words in enumerate(contexts):
                at = self._begin["ctx"] + 4 * (plane * self._shape[0] + row) * columns
                _write(self._files["ctx"], words.data, at)
            for file in self._files.values():
                self._behind(file)
        except OSError as error:
            raise self._failure(error) from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._remove()
            return
        for file in self._files.values():
            os.close(file)

    def _remove(self) -> None:
        for kind, file in self._files.items():
            os.close(file)
            self.paths[kind].unlink(missing_ok=True)

    def _failure(self, error: OSError) -> StorageError:
        path, reason = self.paths["sci"], error.strerror or error
        return StorageError(f"{path}: the mosaic cannot be written ({reason}); free some space")


def _table_bytes(table: fits.BinTableHDU | None) -> bytes:
    if table is None:
        return b""
    stream = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), table.copy()]).writeto(stream)
    return stream.getvalue()[BLOCK:]


def _write(file: int, content: bytes | memoryview, at: int) -> None:
    """All of it: one call may write less."""
    left = memoryview(content).cast("B")
    while left.nbytes:
        done = os.pwrite(file, left, at)
        left, at = left[done:], at + done
