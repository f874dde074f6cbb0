"""Imperfect charge transfer: the forward model of the CTE correction."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from batch.simulation.frame import Chip

if TYPE_CHECKING:
    from batch.calibration.cte_table import CteTable


@dataclass(frozen=True)
class Traps:
    """The charge traps that a PCTETAB describes."""

    table: CteTable

    @classmethod
    def load(cls, path: Path) -> Traps:
        """Read the PCTETAB of a visit."""
        from batch.calibration.cte_table import read_table

        return cls(read_table(path))

    def trail(self, charge: NDArray[np.float32], chip: Chip, start: float) -> NDArray[np.float32]:
        """Read a chip out through its traps.

        Parameters
        ----------
        charge : (height, width) float32
            Electrons as collected.
        start : float
            MJD of the exposure: traps grow in number.

        Returns
        -------
        (height, width) float32
            Electrons as they reach the amplifiers.
        """
        from batch.calibration.cte import forward

        result = charge.copy()
        for amp in chip.amps:
            # Columns of the raw array to columns without prescan.
            first = max(amp.columns.start - chip.trim[0], 0)
            columns = slice(first, min(amp.columns.stop - chip.trim[0], chip.width))
            result[:, columns] = forward(charge[:, columns], amp=amp.name, table=self.table, expstart=start)
        return result
