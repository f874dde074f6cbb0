"""Toy stage whose tasks may share a process."""

import os
from pathlib import Path
from typing import Any

from batch.model.plan import Needs, Stage
from batch.stages.interface import Inputs, Outcome
from toystages._acts import act


def needs(association: Any, exposure: Any, settings: Any) -> Needs:
    return Needs(memory=200_000_000, seconds=0.1, timeout=30, together=50_000_000)


STAGE = Stage("spread", "drizzle", after=("gather",), version=1, needs=needs)


def run(inputs: Inputs, area: Path, settings: Any) -> Outcome:
    return act(inputs, area)


def run_together(inputs: list[Inputs], area: Path, settings: Any) -> list[Outcome]:
    return [act(i, area, f"number{i.drizzle.pixfrac}.txt", shared=os.getpid()) for i in inputs]
