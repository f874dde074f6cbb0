"""Whether an exposure can contribute to a mosaic; apart from drizzling, whose kernels take long to load."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from batch.errors import InputError
from batch.storage.planes import extname, extver, find, scan


def check_usable(path: Path, bits: int, weight: Literal["EXP", "ERR", "IVM"]) -> None:
    """Refuse an exposure none of whose pixels can get weight.

    Parameters
    ----------
    path : Path
        flt or flc.
    bits : int
        Sum of the DQ bits that count as good.
    weight : str

    Raises
    ------
    InputError
        With its name.
    """
    _, planes = scan(path)
    for plane in planes:
        if extname(plane.header) == "DQ":
            good = plane.read(np.int16) & np.int16(~bits) == 0
            if weight == "ERR" and good.any():
                good &= find(planes, "ERR", extver(plane.header), path).read(np.float32) > 0
            if good.any():
                return
    what = "all are flagged in DQ" + (", or have no error in ERR" if weight == "ERR" else "")
    raise InputError.about(
        path.name,
        f"no pixel has weight: {what}",
        "leave the exposure out (--exclude), or look at combine.bits, the flags that count as good",
    )
