"""What the toy stages do besides their work: count themselves, and misbehave as ordered."""

from __future__ import annotations

import os
import signal
import time
import uuid
from pathlib import Path

import psutil

from batch.errors import InputError
from batch.stages.interface import Inputs, Outcome, product


def act(inputs: Inputs, area: Path, name: str = "number.txt", **results: int) -> Outcome:
    """Leave a mark for this execution, then do what a file named after the task orders."""
    control = Path(os.environ["TOY_CONTROL"])
    mark = inputs.task.id.replace("/", "__")
    (control / "executed" / f"{mark}.{uuid.uuid4().hex}").touch()
    order = control / "orders" / mark
    if order.exists():
        _misbehave(order, inputs)
    total = sum(int(inputs.path(r, p).read_text()) for r in inputs.upstream for p in r.products)
    (area / name).write_text(str(total + 1))
    return Outcome((product(area, name, "number"),), {"total": total + 1, **results})


def _misbehave(order: Path, inputs: Inputs) -> None:
    kind, _, times = order.read_text().partition(" ")
    if times:
        left = int(times) - 1
        if left:
            order.write_text(f"{kind} {left}")
        else:
            order.unlink()
    if kind == "input-error":
        raise InputError.about("x_raw.fits[SCI,1]", "pixels are missing", "fetch it again")
    if kind == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "container":
        # out of memory as a whole: task, supervisor, worker
        psutil.Process().parent().parent().kill()
        time.sleep(600)
    if kind == "sleep":
        time.sleep(600)
    if kind == "hold":
        while order.exists():
            time.sleep(0.05)
    if kind == "enospc":
        raise OSError(28, "No space left on device", "big.fits")
    if kind == "bug":
        raise RuntimeError("unforeseen")
    if kind == "exit":
        os._exit(3)
